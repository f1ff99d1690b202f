"""Settings of a phone that make its times steadier, and the promise to put them back.

Before anything is changed, the commands that undo it go to a file in latbench's home. They are run
when measuring ends, Ctrl-C included. After a crash or a lost phone the file is still there, and the
next command that opens the phone runs them first.

Changed are:
    fixed-performance mode   Android 11 and later; the system then keeps clocks that it can hold. It
                             cannot be asked whether it was on, and is switched off afterwards.
    stay on while plugged in   so that the screen, and with it the cores, stay awake.
    brightness               steady and low: a screen that is bright heats the phone.
    airplane mode            Android 11 and later: radios heat the phone and wake it. Not where the phone is
                             reached by a radio. Before Android 11 only the phone's own menu or root can.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from latbench.device.android.link import AdbLink, quote
from latbench.device.android.lock import unit_file
from latbench.errors import DeviceUnavailable
from latbench.files import write_atomically

_MODE = "cmd power set-fixed-performance-mode-enabled"
_MODE_ON = f"{_MODE} true"
_AIRPLANE = "cmd connectivity airplane-mode"
#: Name, setting and value of each setting that is changed.
_SETTINGS = (
    # Mains 1, USB 2, wireless 4 (BatteryManager.BATTERY_PLUGGED_…).
    ("stay on", "global stay_on_while_plugged_in", 7),
    ("steady brightness", "system screen_brightness_mode", 0),
    ("dim screen", "system screen_brightness", 10),  # of 255
)


@dataclass(frozen=True)
class Change:
    """One setting: what it is, how to make it, and how to undo it."""

    name: str
    make: str
    undo: str


def prepare(link: AdbLink, unit: str, *, emulated: bool = False) -> tuple[str, ...]:
    """Change the settings of the phone; returns the names of those that it took.

    An emulated phone is not reached by its radio, whatever its address.

    Raises:
        DeviceLost: the phone went away; `restore` undoes what was done.
        OutputFailed: the file cannot be written; nothing was changed.
    """
    changes = (
        Change("fixed-performance mode", _MODE_ON, f"{_MODE} false"),
        *(_changed(link, *setting) for setting in _SETTINGS),
        *(_grounded(link) if emulated or not _on_a_network(link.serial) else ()),
    )
    note = {"unit": unit, "undo": [change.undo for change in changes]}
    write_atomically(_file(unit), json.dumps(note, indent=1) + "\n")
    return tuple(change.name for change in changes if link.shell(change.make).exit_code == 0)


def prepare_again(link: AdbLink) -> None:
    """Make the changes of an earlier `prepare` again: a restart of the phone ends some of them.

    Raises:
        DeviceLost: the phone went away.
    """
    for make in (_MODE_ON, *(_put(setting, value) for _, setting, value in _SETTINGS)):
        link.shell(make)  # one that the phone does not know has no effect


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


def _grounded(link: AdbLink) -> tuple[Change, ...]:
    """Airplane mode, where it can be switched and is off."""
    told = link.shell(_AIRPLANE)
    if told.exit_code != 0 or told.stdout.strip() != "disabled":
        return ()
    return (Change("airplane mode", f"{_AIRPLANE} enable", f"{_AIRPLANE} disable"),)


def _on_a_network(serial: str) -> bool:
    """Whether a unit's name is an address; this machine's own may lead on to a phone's, by a tunnel."""
    _, colon, port = serial.rpartition(":")
    # adb lists so what it found by multicast DNS.
    return "._tcp" in serial or (bool(colon) and port.isdigit())


def _changed(link: AdbLink, name: str, setting: str, value: int) -> Change:
    before = link.shell(f"settings get {setting}").stdout.strip()
    unset = before in ("", "null")
    undo = f"settings delete {setting}" if unset else f"settings put {setting} {quote(before)}"
    return Change(name, _put(setting, value), undo)


def _put(setting: str, value: int) -> str:
    return f"settings put {setting} {value}"


def _file(unit: str) -> Path:
    return unit_file("units", unit, ".restore.json")
