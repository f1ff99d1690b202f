"""Settings of a phone that make its times steadier, and the promise to put them back.

Before anything is changed, the command that undoes it goes to a file in latbench's home. They are run
when measuring ends, Ctrl-C included. After a crash or a lost phone the file is still there, and the
next command that opens the phone runs them first. What cannot be put back stays in the file, and is told.

Changed are:
    fixed-performance mode   Android 11 and later; the system then keeps clocks that it can hold. It
                             cannot be asked whether it was on, and is switched off afterwards.
    stay on while plugged in   so that the screen, and with it the cores, stay awake.
    brightness               steady and low: a screen that is bright heats the phone.
    airplane mode            radios heat the phone and wake it. Not where the phone is reached by a radio.
                             Before Android 11 only root, or the phone's own menu, can.
    clocks                   at their highest, or the highest that the system now allows; root only
                             (`latbench.device.android.root`).
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from latbench.device.android.link import AdbLink, quote
from latbench.device.android.root import Root, ask_clocks
from latbench.device.lock import unit_file
from latbench.errors import DeviceUnavailable
from latbench.files import write_atomically

_MODE = "cmd power set-fixed-performance-mode-enabled"
# Android 8 knows no commands of this service, says so, and ends with 0.
_MODE_ON = f'told=$({_MODE} true) && [ -z "$told" ]'
_AIRPLANE = "cmd connectivity airplane-mode"
#: Name, setting and value of each setting that is changed.
_SETTINGS = (
    # Mains 1, USB 2, wireless 4 (BatteryManager.BATTERY_PLUGGED_…).
    ("stay on", "global stay_on_while_plugged_in", 7),
    ("steady brightness", "system screen_brightness_mode", 0),
    ("dim screen", "system screen_brightness", 10),  # of 255
)
_LANDS_S = 3.0  # for a command to end that was not waited for


@dataclass(frozen=True)
class Change:
    """One setting: what it is, how to make it, and how to undo it.

    `made` is whether the phone took it; None until that is known, and where it never was.
    """

    name: str
    make: str
    undo: str
    made: bool | None = None


class Preparation:
    """What is changed on one phone for as long as it is measured on."""

    def __init__(self, link: AdbLink, unit: str) -> None:
        self._link, self._unit = link, unit
        self._changes: list[Change] = []
        self._refused: dict[str, str] = {}

    @property
    def made(self) -> tuple[str, ...]:
        """What the phone took, each once."""
        return tuple(dict.fromkeys(change.name for change in self._changes if change.made))

    def __str__(self) -> str:
        refused = "".join(f"; not {name}: {reason}" for name, reason in self._refused.items())
        return (", ".join(self.made) or "nothing") + refused

    def make(self, root: Root | None, *, emulated: bool = False) -> None:
        """Change what can be changed; an emulated phone is not reached by its radio, whatever its address.

        Raises:
            DeviceLost: the phone went away; `restore` undoes what was done.
            OutputFailed: the file cannot be written; what is not in it was not changed.
        """
        self._make([Change("fixed-performance mode", _MODE_ON, f"{_MODE} false")])
        for setting in _SETTINGS:
            self._make(_changed(self._link, *setting))
        if emulated or not _on_a_network(self._link.serial):
            self._fly(root)
        else:
            self._refused["airplane mode"] = "it would cut the network that the phone is reached by"
        if root is not None:
            self._hold_clocks(root)

    def make_again(self) -> None:
        """Make all of it again: a restart of the phone ends some of it.

        Raises:
            DeviceLost: the phone went away.
            DeviceUnavailable: it does not take again what it took before.
        """
        left = dict.fromkeys(
            change.name
            for change in self._changes
            if change.made and not _runs(self._link, change.make)
        )
        if left:
            raise DeviceUnavailable(
                f"{self._link.serial} has restarted, and would not be prepared again: {', '.join(left)}",
                hint="allow on the phone what was allowed then (adb root ends with a restart), "
                "and run the same command again",
            )

    def _fly(self, root: Root | None) -> None:
        told = _printed(self._link, _AIRPLANE)
        if told == "disabled":
            self._make([Change("airplane mode", f"{_AIRPLANE} enable", f"{_AIRPLANE} disable")])
        elif told == "enabled":
            return
        elif root is None:
            self._refused["airplane mode"] = "before Android 11 only root, or the phone's menu, can"
        elif _printed(self._link, "settings get global airplane_mode_on") in ("0", "null"):
            on, off = (_announced(root, flying=flying) for flying in (True, False))
            self._make([Change("airplane mode", on, off)])

    def _hold_clocks(self, root: Root) -> None:
        name = "clocks held (root)"
        try:
            clocks = ask_clocks(self._link, root)
        except TimeoutError:
            clocks = []
        # All have been looked at before one is changed: policies may share a rule.
        if not self._make(Change(name, *_written(root, *clock.held)) for clock in clocks):
            self._refused[name] = "the kernel would not take it"

    def _make(self, changes: Iterable[Change]) -> bool:
        """Note how each is undone, and make it; what was refused may be half made, and is undone too.

        Returns whether there were any, and the phone took all.
        """
        took = []
        for change in changes:
            _note(self._unit, [*self._changes, change])
            took.append(_runs(self._link, change.make))
            self._changes.append(replace(change, made=took[-1]))
        _note(self._unit, self._changes)
        return bool(took) and all(took)


def restore(link: AdbLink, unit: str) -> bool:
    """Undo what was changed on a phone; returns whether there was something to undo.

    Raises:
        DeviceLost: the phone went away; the file stays for the next time.
        DeviceUnavailable: the file cannot be read, or the phone would not put something back.
        OutputFailed: the file cannot be written.
    """
    path = _file(unit)
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        changes = [Change(**one) for one in told["changes"]]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        raise DeviceUnavailable(
            f"{path} should say how to put back the settings of {unit}, but cannot be read",
            hint="look at the phone's developer options (Stay awake), then remove that file",
        ) from None
    if any(change.made is None for change in changes):
        time.sleep(_LANDS_S)  # the phone may still be making it
    left = [change for change in reversed(changes) if not _runs(link, change.undo) and change.made]
    if left:
        _note(unit, left[::-1])
        raise DeviceUnavailable(
            f"{link.serial} would not put back what was changed for measuring:",
            details=[f"{change.name}: {change.undo}" for change in left],
            hint="allow on the phone what was allowed then, and run the same command again; "
            f"or put it back by hand, and remove {path}",
        )
    path.unlink(missing_ok=True)
    return True


def _on_a_network(serial: str) -> bool:
    """Whether a unit's name is an address; this machine's own may lead on to a phone's, by a tunnel."""
    _, colon, port = serial.rpartition(":")
    # adb lists so what it found by multicast DNS.
    return "._tcp" in serial or (bool(colon) and port.isdigit())


def _announced(root: Root, *, flying: bool) -> str:
    """Airplane mode as Android before 11 switches it: the setting, and a broadcast that only the system,
    and so root, may send (AOSP: ConnectivityService.setAirplaneMode).
    """
    return root.command(
        f"settings put global airplane_mode_on {int(flying)} && am broadcast "
        f"-a android.intent.action.AIRPLANE_MODE --ez state {str(flying).lower()} >/dev/null"
    )


def _written(root: Root, file: str, value: str, before: str) -> tuple[str, str]:
    """The commands that make a file of the kernel hold `value`, and `before` again.

    The first fails where the kernel will not. The second trusts it, for what the file shows may hold
    others' wishes too, and has nothing to do where the cluster is switched off.
    """

    def holds(value: str) -> str:
        return f'[ "$(cat {file})" = {quote(value)} ]'

    make = f"{holds(value)} || {{ echo {quote(value)} > {file} && {holds(value)}; }}"
    undo = f"[ ! -e {file} ] || {holds(before)} || echo {quote(before)} > {file}"
    return root.command(make), root.command(undo)


def _changed(link: AdbLink, name: str, setting: str, value: int) -> list[Change]:
    """The change of a setting; none where it cannot be read, and so could not be put back."""
    before = _printed(link, f"settings get {setting}")
    if before is None:
        return []
    unset = before in ("", "null")
    undo = f"settings delete {setting}" if unset else f"settings put {setting} {quote(before)}"
    return [Change(name, f"settings put {setting} {value}", undo)]


def _printed(link: AdbLink, command: str) -> str | None:
    """What `command` prints; None where it fails, or its service hangs."""
    try:
        told = link.shell(command)
    except TimeoutError:
        return None
    return told.stdout.strip() if told.exit_code == 0 else None


def _runs(link: AdbLink, command: str) -> bool | None:
    """Whether the phone does what `command` says; None if it did not say."""
    try:
        return link.shell(command).exit_code == 0
    except TimeoutError:
        return None


def _note(unit: str, changes: Sequence[Change]) -> None:
    note = {"unit": unit, "changes": [asdict(change) for change in changes]}
    write_atomically(_file(unit), json.dumps(note, indent=1) + "\n")


def _file(unit: str) -> Path:
    return unit_file("units", unit, ".restore.json")
