"""What the registry knows of a kind of device: how its units are opened, listed and cleaned.

Each kind has one `DeviceOpener`, in the file `opener.py` of its own folder; `latbench.device.registry`
lists them. These files import their drivers inside functions, so that the registry is fast to import.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from latbench.device.catalogue import CatalogueDevice
from latbench.device.selector import UnitSelector

if TYPE_CHECKING:
    from latbench.device.base import Device


@dataclass(frozen=True)
class AttachedUnit:
    """A unit that this machine can see.

    Attributes:
        device: its name in the catalogue; None if the catalogue does not recognise it.
        unit: its identifier: a hash for the host, the serial number or UDID of a phone.
        description: what it identifies itself as.
        state: ready, silent, or the state that the adb server reports (unauthorized, offline, …).
        measurable: whether it can be measured on now, as `device`.
        advice: what to do about it, if something can be done.
    """

    device: str | None
    unit: str
    description: str
    state: str
    measurable: bool
    advice: str | None = None


class CleanedUnit(NamedTuple):
    """A unit whose settings were restored and whose files were removed, and how many bytes that freed."""

    unit: str
    freed_bytes: int


def _no_units() -> list[AttachedUnit]:
    return []


@dataclass(frozen=True, kw_only=True)
class DeviceOpener:
    """One kind of device.

    Attributes:
        kind: what its devices are called in messages, in the plural where there can be several.
        opens: whether a device of the catalogue is of this kind.
        open: opens a unit; the caller closes it. The options in the selector are ones that it takes.
        options: the fields of `UnitSelector` that apply to it, without `runner`.
        runners: the programs that can stand in for its default runner, by name.
        attached: lists the units that are attached now, without starting any server.
        clean: restores a unit's settings and removes latbench's files; returns None if the selector
            selects a unit of another kind. None: nothing is left on units of this kind.
        locate: for units behind servers, given units and servers: the server that lists each unit.
    """

    kind: str
    opens: Callable[[CatalogueDevice], bool]
    open: Callable[[CatalogueDevice, UnitSelector], "Device"]
    options: frozenset[str] = frozenset()
    runners: tuple[str, ...] = ()
    attached: Callable[[], list[AttachedUnit]] = _no_units
    clean: Callable[[UnitSelector], CleanedUnit | None] | None = None
    locate: Callable[[Sequence[str], Sequence[str]], Sequence[str]] | None = None

    def takes(self, field: str) -> bool:
        """Whether a field of `UnitSelector` applies to this kind."""
        return bool(self.runners) if field == "runner" else field in self.options


def split_runner(runner: str) -> tuple[str, Path | None]:
    """Split NAME=FILE or NAME into name and file."""
    name, _, file = runner.partition("=")
    return name, Path(file) if file else None
