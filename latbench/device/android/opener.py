"""Android phones as a kind of device."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.opener import AttachedUnit, CleanedUnit, DeviceOpener, split_runner
from latbench.device.selector import UnitSelector
from latbench.device.tools.programs import TOOLS, Tool
from latbench.errors import BadRequest, CannotRead, DeviceUnavailable

# adbutils takes a third of a second to import, so everything that needs it is imported when used.
if TYPE_CHECKING:
    from latbench.device.android.adb.link import AdbLink
    from latbench.device.android.adb.server import AdbUnit
    from latbench.device.base import Device


def _open(entry: CatalogueDevice, selector: UnitSelector) -> "Device":
    """Raises as `find_phone` and `AndroidDevice`; BadRequest: a tool is named without its file."""
    from latbench.device.android.device import AndroidDevice
    from latbench.device.android.tool_phone import ToolPhone

    tool = None if selector.runner is None else _tool(selector.runner)
    link = find_phone(selector, entry)
    try:
        if tool is None:
            return AndroidDevice(
                link,
                entry,
                skip_identity_check=selector.skip_identity_check,
                prepare=selector.prepare,
            )
        return ToolPhone(
            *tool,
            link,
            entry,
            skip_identity_check=selector.skip_identity_check,
            prepare=selector.prepare,
        )
    except BaseException:  # Ctrl-C included: the unit may not stay locked
        link.close()
        raise


def _tool(runner: str) -> tuple[Tool, Path]:
    """The tool of `--runner NAME=FILE`, and the program that the user built for phones."""
    name, program = split_runner(runner)
    if program is None:
        raise BadRequest(
            f"--runner {name} needs the {name} that was built for the phone",
            hint=f"--runner {name}=FILE",
        )
    if not program.is_file():
        raise CannotRead(f"no such program: {program}", hint=f"--runner {name}=FILE")
    return TOOLS[name], program.absolute()


def find_phone(selector: UnitSelector, entry: CatalogueDevice | None = None) -> "AdbLink":
    """Connect to the selected phone; by default to the only one attached, or the only one of `entry`.

    The adb server is asked for it; none is ever started. Without an adb server, a unit that is named as
    HOST:PORT is connected to directly.

    Raises:
        BadRequest: several phones are attached and none is named, or the named one is not attached.
        DeviceUnavailable: no adb server answers, or the phone is not ready; the hint says what to do.
    """
    from latbench.device.android.adb.direct import DirectLink
    from latbench.device.android.adb.server import choose_unit, units
    from latbench.device.android.adb.server_link import ServerLink

    try:
        listed = units(selector.adb_server)
    except DeviceUnavailable:
        if selector.adb_server is None and selector.unit is not None and ":" in selector.unit:
            return DirectLink.tcp(selector.unit)
        raise
    serial = selector.unit
    if serial is None and entry is not None:
        same = [unit.serial for unit in listed if recognise(unit.properties) == entry]
        serial = same[0] if len(same) == 1 else None
    return ServerLink(choose_unit(listed, serial).serial, selector.adb_server)


def _attached() -> list[AttachedUnit]:
    from latbench.device.android.adb.server import adb_units

    return [_described(unit) for unit in adb_units()]


def _described(unit: "AdbUnit") -> AttachedUnit:
    from latbench.device.android.adb.server import cure_of
    from latbench.device.android.identity import describe

    known = recognise(unit.properties)
    ready = unit.state == "device"
    advice = cure_of(unit.state)
    if ready and known is None:
        advice = "describe it in ./devices/NAME.toml, or measure with --device NAME --as"
    return AttachedUnit(
        device=None if known is None else known.name,
        unit=unit.serial,
        description=describe(unit.properties),
        state="ready" if ready else unit.state,
        measurable=ready and known is not None,
        advice=advice,
    )


def _clean(selector: UnitSelector) -> CleanedUnit:
    """Raises as `find_phone`; DeviceUnavailable: another process measures on the phone."""
    from latbench.device.android.device import clean_phone

    link = find_phone(selector)
    try:
        return CleanedUnit(link.serial, clean_phone(link))
    finally:
        link.close()


def _locate(serials: Sequence[str], servers: Sequence[str]) -> list[str]:
    """The adb server that lists each unit."""
    from latbench.device.android.adb.server import units

    listed = {server: [unit.serial for unit in units(server)] for server in servers}
    found = []
    for serial in serials:
        server = next((server for server, known in listed.items() if serial in known), None)
        if server is None:
            raise BadRequest(
                f"none of the adb servers {', '.join(servers)} lists {serial}",
                details=[
                    f"{one}: {', '.join(known) or 'nothing'}" for one, known in listed.items()
                ],
                hint="adb devices shows what a server lists",
            )
        found.append(server)
    return found


ANDROID = DeviceOpener(
    kind="Android phones",
    opens=lambda entry: entry.os == "android",
    open=_open,
    options=frozenset({"unit", "adb_server", "skip_identity_check", "prepare"}),
    runners=tuple(TOOLS),
    attached=_attached,
    clean=_clean,
    locate=_locate,
)
