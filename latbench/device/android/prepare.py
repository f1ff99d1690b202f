"""Settings of a phone that make its times steadier, and how they are restored.

Before a setting is changed, the command that restores it is written to a file in latbench's home. These
commands run when measuring ends, also after Ctrl-C. After a crash or a lost connection the file is still
there, and the next command that opens the phone runs them first. What cannot be restored stays in the file,
and is reported.

Settings:
    fixed-performance mode   Android 11 and later; the system keeps clocks that it can sustain. It does not
                             report whether the mode was on, so the mode is off afterwards.
    stay on while plugged in   keeps the screen, and with it the cores, awake.
    brightness               constant and low: a bright screen heats the phone.
    airplane mode            radios heat the phone and wake it. Not if the phone is connected by radio.
                             Before Android 11 only root, or the phone's own menu, can set it.
    clocks                   at their highest, or at the highest that the system allows now; root only
                             (`latbench.device.android.root`).
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from latbench.device.android.adb.link import AdbLink, quote
from latbench.device.android.root import Root, query_clocks
from latbench.device.lock import unit_file
from latbench.errors import DeviceUnavailable
from latbench.files import write_atomically
from latbench.record import Record

_MODE = "cmd power set-fixed-performance-mode-enabled"
# Android 8 has no commands of this service: it prints an error, and ends with 0.
_MODE_ON = f'output=$({_MODE} true) && [ -z "$output" ]'
_AIRPLANE = "cmd connectivity airplane-mode"
#: Name, key and value of each setting that is changed.
_SETTINGS = (
    # Mains 1, USB 2, wireless 4 (BatteryManager.BATTERY_PLUGGED_…).
    ("stay on", "global stay_on_while_plugged_in", 7),
    ("steady brightness", "system screen_brightness_mode", 0),
    ("dim screen", "system screen_brightness", 10),  # of 255
)
_LANDS_S = 3.0  # for the end of a command that nobody waited for


class Change(Record):
    """A changed setting: its name, and the commands that make and undo the change.

    `made` is whether the phone accepted it; None as long as that is not known.
    """

    name: str
    make: str
    undo: str
    made: bool | None = None


class _Restore(Record):
    unit: str
    changes: tuple[Change, ...]


class Preparation:
    """The changed settings of a phone that is measured on."""

    def __init__(self, link: AdbLink, unit: str) -> None:
        self._link, self._unit = link, unit
        self._changes: list[Change] = []
        self._refused: dict[str, str] = {}

    @property
    def made(self) -> tuple[str, ...]:
        """The names of the changes that the phone accepted, each once."""
        return tuple(dict.fromkeys(change.name for change in self._changes if change.made))

    def __str__(self) -> str:
        refused = "".join(f"; not {name}: {reason}" for name, reason in self._refused.items())
        return (", ".join(self.made) or "nothing") + refused

    def make(self, root: Root | None, *, emulated: bool = False) -> None:
        """Change all settings that can be changed. An emulated phone is never connected by radio.

        Raises:
            DeviceLost: the phone is gone; `restore` undoes the changes so far.
            OutputFailed: the file cannot be written; no setting was changed that is not in it.
        """
        self._make([_change("fixed-performance mode", _MODE_ON, f"{_MODE} false")])
        for setting in _SETTINGS:
            self._make(_changed(self._link, *setting))
        if emulated or not _on_a_network(self._link.serial):
            self._fly(root)
        else:
            self._refused["airplane mode"] = "it would cut the network connection to the phone"
        if root is not None:
            self._hold_clocks(root)

    def make_again(self) -> None:
        """Make all changes again: a restart of the phone ends some of them.

        Raises:
            DeviceLost: the phone is gone.
            DeviceUnavailable: it refuses a change that it accepted before.
        """
        left = dict.fromkeys(
            change.name
            for change in self._changes
            if change.made and not _succeeds(self._link, change.make)
        )
        if left:
            raise DeviceUnavailable(
                f"{self._link.serial} has restarted, and cannot be prepared again: {', '.join(left)}",
                hint="grant on the phone what was granted before (adb root ends with a restart), "
                "then run the same command again",
            )

    def _fly(self, root: Root | None) -> None:
        state = _printed(self._link, _AIRPLANE)
        if state == "disabled":
            self._make([_change("airplane mode", f"{_AIRPLANE} enable", f"{_AIRPLANE} disable")])
        elif state == "enabled":
            return
        elif root is None:
            self._refused["airplane mode"] = "before Android 11 it takes root, or the phone's menu"
        elif _printed(self._link, "settings get global airplane_mode_on") in ("0", "null"):
            on, off = (_announced(root, flying=flying) for flying in (True, False))
            self._make([_change("airplane mode", on, off)])

    def _hold_clocks(self, root: Root) -> None:
        name = "clocks held (root)"
        try:
            clocks = query_clocks(self._link, root)
        except TimeoutError:
            clocks = []
        # All are read before one is changed: policies may share a governor.
        if not self._make(_change(name, *_written(root, *clock.held)) for clock in clocks):
            self._refused[name] = "the kernel refuses it"

    def _make(self, changes: Iterable[Change]) -> bool:
        """Record how each change is undone, and make it. A refused one may be half made: it is undone too.

        Returns:
            Whether there were any changes, and the phone accepted all.
        """
        accepted = []
        for change in changes:
            _save(self._unit, [*self._changes, change])
            accepted.append(_succeeds(self._link, change.make))
            self._changes.append(change.model_copy(update={"made": accepted[-1]}))
        _save(self._unit, self._changes)
        return bool(accepted) and all(accepted)


def restore(link: AdbLink, unit: str) -> bool:
    """Restore the settings of a phone; returns whether any were changed.

    Raises:
        DeviceLost: the phone is gone; the file stays for the next time.
        DeviceUnavailable: the file cannot be read, or the phone refuses to restore a setting.
        OutputFailed: the file cannot be written.
    """
    path = _file(unit)
    try:
        changes = _Restore.model_validate_json(path.read_bytes(), strict=True).changes
    except FileNotFoundError:
        return False
    except (OSError, ValidationError):
        raise DeviceUnavailable(
            f"cannot read {path}, which says how to restore the settings of {unit}",
            hint=f"check the phone's developer options (Stay awake), then: rm {path}",
        ) from None
    if any(change.made is None for change in changes):
        time.sleep(_LANDS_S)  # the phone may still be making the change
    left = [
        change for change in reversed(changes) if not _succeeds(link, change.undo) and change.made
    ]
    if left:
        _save(unit, left[::-1])
        raise DeviceUnavailable(
            f"{link.serial} refuses to restore settings that were changed for measuring:",
            details=[f"{change.name}: {change.undo}" for change in left],
            hint="grant on the phone what was granted before, then: latbench devices clean "
            f"--unit {link.serial}; or restore them by hand, then: rm {path}",
        )
    path.unlink(missing_ok=True)
    return True


def _on_a_network(serial: str) -> bool:
    """Whether a serial number is a network address; even of this machine: it may be a tunnel to the phone."""
    _, colon, port = serial.rpartition(":")
    # "._tcp": found by multicast DNS
    return "._tcp" in serial or (bool(colon) and port.isdigit())


def _announced(root: Root, *, flying: bool) -> str:
    """The command that sets airplane mode before Android 11: the setting, and a broadcast that only the
    system, and so root, may send (AOSP: ConnectivityService.setAirplaneMode).
    """
    return root.command(
        f"settings put global airplane_mode_on {int(flying)} && am broadcast "
        f"-a android.intent.action.AIRPLANE_MODE --ez state {str(flying).lower()} >/dev/null"
    )


def _written(root: Root, file: str, value: str, before: str) -> tuple[str, str]:
    """The commands that write `value` to a kernel file, and that restore `before`.

    The first fails if the kernel refuses. The second does not check, since the file may also reflect
    requests of others, and does nothing if the cluster is offline.
    """

    def holds(value: str) -> str:
        return f'[ "$(cat {file})" = {quote(value)} ]'

    make = f"{holds(value)} || {{ echo {quote(value)} > {file} && {holds(value)}; }}"
    undo = f"[ ! -e {file} ] || {holds(before)} || echo {quote(before)} > {file}"
    return root.command(make), root.command(undo)


def _changed(link: AdbLink, name: str, setting: str, value: int) -> list[Change]:
    """The change of a setting; none if it cannot be read, and so could not be restored."""
    before = _printed(link, f"settings get {setting}")
    if before is None:
        return []
    unset = before in ("", "null")
    undo = f"settings delete {setting}" if unset else f"settings put {setting} {quote(before)}"
    return [_change(name, f"settings put {setting} {value}", undo)]


def _printed(link: AdbLink, command: str) -> str | None:
    """The output of `command`; None if it fails, or its service hangs."""
    try:
        result = link.shell(command)
    except TimeoutError:
        return None
    return result.stdout.strip() if result.exit_code == 0 else None


def _succeeds(link: AdbLink, command: str) -> bool | None:
    """Whether `command` succeeds on the phone; None if it did not end in time."""
    try:
        return link.shell(command).exit_code == 0
    except TimeoutError:
        return None


def _change(name: str, make: str, undo: str) -> Change:
    return Change(name=name, make=make, undo=undo)


def _save(unit: str, changes: Sequence[Change]) -> None:
    content = _Restore(unit=unit, changes=tuple(changes)).model_dump_json(indent=1)
    write_atomically(_file(unit), content + "\n")


def _file(unit: str) -> Path:
    return unit_file("units", unit, ".restore.json")
