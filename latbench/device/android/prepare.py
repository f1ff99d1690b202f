"""Settings of a phone that make its times steadier, and the promise to put them back.

Before anything is changed, the commands that undo it go to a file in latbench's home. They are run
when measuring ends, Ctrl-C included. After a crash or a lost phone the file is still there, and the
next command that opens the phone runs them first.

Changed are:
    fixed-performance mode   Android 11 and later; the system then keeps clocks that it can hold. It
                             cannot be asked whether it was on, and is switched off afterwards.
    stay on while plugged in   so that the screen, and with it the cores, stay awake.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from latbench.device.android.link import AdbLink, quote
from latbench.device.android.lock import unit_file
from latbench.errors import DeviceUnavailable
from latbench.files import write_atomically

_MODE = "cmd power set-fixed-performance-mode-enabled"
_STAY = "global stay_on_while_plugged_in"
_ALWAYS = 7  # mains 1, USB 2, wireless 4 (BatteryManager.BATTERY_PLUGGED_…)


@dataclass(frozen=True)
class Change:
    """One setting: what it is, how to make it, and how to undo it."""

    name: str
    make: str
    undo: str


def prepare(link: AdbLink, unit: str) -> tuple[str, ...]:
    """Change the settings of the phone; returns the names of those that it took.

    Raises:
        DeviceLost: the phone went away; `restore` undoes what was done.
        OutputFailed: the file cannot be written; nothing was changed.
    """
    changes = (
        Change("fixed-performance mode", f"{_MODE} true", f"{_MODE} false"),
        _stay_on(link),
    )
    note = {"unit": unit, "undo": [change.undo for change in changes]}
    write_atomically(_file(unit), json.dumps(note, indent=1) + "\n")
    return tuple(change.name for change in changes if link.shell(change.make).exit_code == 0)


def restore(link: AdbLink, unit: str) -> bool:
    """Undo what an earlier `prepare` changed; returns whether there was something to undo.

    Raises:
        DeviceLost: the phone went away; the file stays for the next time.
        DeviceUnavailable: the file cannot be read.
    """
    path = _file(unit)
    try:
        undo = [str(line) for line in json.loads(path.read_text(encoding="utf-8"))["undo"]]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        raise DeviceUnavailable(
            f"{path} should say how to put back the settings of {unit}, but cannot be read",
            hint="look at the phone's developer options (Stay awake), then remove that file",
        ) from None
    for command in undo:
        link.shell(command)  # one that the phone does not know had no effect either
    path.unlink(missing_ok=True)
    return True


def _stay_on(link: AdbLink) -> Change:
    before = link.shell(f"settings get {_STAY}").stdout.strip()
    unset = before in ("", "null")
    undo = f"settings delete {_STAY}" if unset else f"settings put {_STAY} {quote(before)}"
    return Change("stay on", f"settings put {_STAY} {_ALWAYS}", undo)


def _file(unit: str) -> Path:
    return unit_file("units", unit, ".restore.json")
