"""The kinds of devices that latbench can measure on, and the way from a device's name to an open unit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench.device.android.opener import ANDROID
from latbench.device.catalogue import CatalogueDevice, find_device
from latbench.device.host.opener import HOST
from latbench.device.ios.opener import IOS
from latbench.device.opener import AttachedUnit, CleanedUnit, DeviceOpener, split_runner
from latbench.device.selector import ANY_UNIT, UnitSelector, option_of
from latbench.errors import BadRequest, DeviceUnavailable

if TYPE_CHECKING:
    from latbench.device.base import Device

__all__ = [
    "ANY_UNIT",
    "OPENERS",
    "UnitSelector",
    "attached_units",
    "clean_unit",
    "open_device",
    "open_devices",
    "unit_selectors",
]

#: Every kind of device, in the order in which attached units are listed.
OPENERS: tuple[DeviceOpener, ...] = (HOST, ANDROID, IOS)


def open_device(name: str, selector: UnitSelector = ANY_UNIT) -> "Device":
    """Open a unit of the device called `name`. The caller closes it.

    Raises:
        UnknownName: the catalogue has no such device; the error suggests the nearest names.
        DeviceUnavailable: no unit of it can be reached, the unit is another device or in use, or this
            version cannot measure on such a device.
        BadRequest: a catalogue file is invalid, an option does not apply to the device, or several units
            are attached and none is named.
    """
    entry = find_device(name)
    opener = _opener_of(entry)
    _require_options(opener, entry, selector)
    return opener.open(entry, selector)


def open_devices(name: str, selectors: Sequence[UnitSelector]) -> "list[Device]":
    """Open one unit of the device called `name` for each selector: all of them, or none.

    Raises:
        As `open_device`; units that were opened before the error are closed.
    """
    devices: list[Device] = []
    try:
        for selector in selectors:
            devices.append(open_device(name, selector))
    except BaseException:  # Ctrl-C included: no unit may stay locked
        for device in devices:
            device.close()
        raise
    return devices


def attached_units() -> list[AttachedUnit]:
    """List the host and every unit that is attached to it. No server is started."""
    return [unit for opener in OPENERS for unit in opener.attached()]


def clean_unit(selector: UnitSelector) -> CleanedUnit:
    """Restore the settings of a unit, and remove the files that latbench left on it.

    Raises:
        BadRequest: several units are attached and none is named, or the named one is not attached.
        DeviceUnavailable: no unit can be reached, or another process uses it.
    """
    for opener in OPENERS:
        if opener.clean is not None and all(map(opener.takes, selector.given)):
            cleaned = opener.clean(selector)
            if cleaned is not None:
                return cleaned
    raise BadRequest(
        f"cannot clean a unit selected by {_listed([option_of(field) for field in selector.given])}",
        hint="latbench devices clean --unit SERIAL; latbench devices lists the attached units",
    )


def unit_selectors(
    units: Sequence[str],
    adb_servers: Sequence[str] = (),
    *,
    skip_identity_check: bool = False,
    prepare: bool = False,
    address: str | None = None,
    runner: str | None = None,
) -> tuple[UnitSelector, ...]:
    """Return one selector for each of `units`; without units, one for each server's only unit.

    With several adb servers, each is asked for the units that it lists.

    Raises:
        BadRequest: a unit or server is given twice, or no server lists a unit.
        DeviceUnavailable: there are several servers, and one of them does not answer.
    """
    for option, values in (("--unit", units), ("--adb-server", adb_servers)):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise BadRequest(f"{option} {twice} is given twice", hint=f"give {option} {twice} once")
    pairs: list[tuple[str | None, str | None]]
    if not units:
        pairs = [(None, server) for server in adb_servers or (None,)]
    elif len(adb_servers) > 1:
        locate = next(opener.locate for opener in OPENERS if opener.locate is not None)
        pairs = list(zip(units, locate(units, adb_servers), strict=True))
    else:
        pairs = [(unit, adb_servers[0] if adb_servers else None) for unit in units]
    return tuple(
        UnitSelector(
            unit=unit,
            adb_server=server,
            skip_identity_check=skip_identity_check,
            prepare=prepare,
            address=address,
            runner=runner,
        )
        for unit, server in pairs
    )


def _opener_of(entry: CatalogueDevice) -> DeviceOpener:
    for opener in OPENERS:
        if opener.opens(entry):
            return opener
    kinds = _listed([opener.kind for opener in OPENERS])
    raise DeviceUnavailable(
        f"cannot measure on {entry.name} from here: latbench measures on {kinds}",
        hint=f"install latbench on the {entry.title} and run it there with --device host",
    )


def _require_options(opener: DeviceOpener, entry: CatalogueDevice, selector: UnitSelector) -> None:
    """Refuse options that do not apply to a device, and runners that it does not have."""
    wrong = [field for field in selector.given if not opener.takes(field)]
    if wrong:
        kinds = {
            field: _listed([other.kind for other in OPENERS if other.takes(field)])
            for field in wrong
        }
        raise BadRequest(
            "; ".join(
                f"{option_of(field)} is for {kinds[field]}, not for {entry.name}" for field in wrong
            ),
            hint=f"leave out {_listed([option_of(field) for field in wrong])}",
        )
    if selector.runner is not None:
        name, _ = split_runner(selector.runner)
        if name not in opener.runners:
            raise BadRequest(
                f"unknown runner {name!r} for {entry.name}",
                hint=f"known: {', '.join(opener.runners)}; without --runner, latbench's own is used",
            )


def _listed(words: Sequence[str]) -> str:
    """Join words as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
