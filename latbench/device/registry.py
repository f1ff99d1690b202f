"""From the name of a device to one that can be measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.device.base import Device
from latbench.device.catalogue import CatalogueDevice, find_device, recognise
from latbench.device.host.device import HostDevice
from latbench.device.tools.programs import TOOLS, Tool
from latbench.errors import BadRequest, CannotRead, DeviceUnavailable

if TYPE_CHECKING:
    from latbench.device.android.link import AdbLink


@dataclass(frozen=True)
class UnitSelector:
    """Which unit of a device to measure on, and what may be done to it.

    Attributes:
        unit: a serial number as adb lists it, host:port, or an iPhone's UDID; None: the only one that is
            attached.
        adb_server: host:port of the adb server; None: where adb's own environment variables say.
        claimed: take the unit for the device that was named, whatever it says it is.
        prepared: change its settings for steadier times, and put them back afterwards.
        address: host:port of the companion app of an iPhone on Wi-Fi; None: it is on a cable.
        runner: what loads and times models: a tool of `latbench.device.tools.programs`, on this machine also
            native, the runner in C, each also as NAME=FILE; None: a worker in Python here, the runner
            in C on phones.
    """

    unit: str | None = None
    adb_server: str | None = None
    claimed: bool = False
    prepared: bool = False
    address: str | None = None
    runner: str | None = None


ANY_UNIT = UnitSelector()

#: The runner in C.
NATIVE = "native"


def open_device(name: str, where: UnitSelector = ANY_UNIT) -> Device:
    """Return the device called `name`, ready to open runners on. The caller closes it.

    Raises:
        UnknownName: the catalogue has no such device; the nearest names are given.
        DeviceUnavailable: no unit of it can be reached, the unit is another device or in use, or this
            version cannot measure on it.
        BadRequest: a file of the catalogue is broken, or there are several units and none is named.
    """
    entry = find_device(name)
    if where.runner is not None and entry.kind != "host" and entry.os != "android":
        raise BadRequest(
            f"--runner is for Android phones and this machine, not for {entry.name}",
            hint="leave it out",
        )
    if entry.os == "ios":
        from latbench.device.ios.device import IosDevice, find_iphone

        if where.prepared or where.adb_server is not None:
            raise BadRequest(
                "--prepare and --adb-server are for Android phones", hint="leave them out"
            )
        way = find_iphone(entry, where.unit, where.address)
        return IosDevice(way, entry, claimed=where.claimed)
    if where.address is not None:
        raise BadRequest(
            f"--address is for iPhones, not for {entry.name}",
            hint="name an Android phone by --unit HOST:PORT",
        )
    if entry.os == "android":
        from latbench.device.android.device import AndroidDevice  # slow: adbutils imports much
        from latbench.device.android.tool_phone import ToolPhone

        tool = None if where.runner is None else _tool_for_phones(where.runner)
        link = find_phone(where, entry)
        open_phone = AndroidDevice if tool is None else partial(ToolPhone, *tool)
        try:
            return open_phone(link, entry, claimed=where.claimed, prepared=where.prepared)
        except BaseException:  # Ctrl-C included: the unit must not stay taken
            link.close()
            raise
    if replace(where, runner=None) != ANY_UNIT:
        raise BadRequest(
            f"--unit, --adb-server, --as and --prepare are for Android phones "
            f"and iPhones, not for {entry.name}",
            hint="leave them out",
        )
    if entry.kind == "host":
        return _host(where.runner)
    raise DeviceUnavailable(
        f"cannot measure on {entry.name} from here: this version measures on phones and on the machine "
        "it runs on",
        hint=f"install latbench on the {entry.title} and use --device host there",
    )


def _host(runner: str | None) -> Device:
    """This machine, measured on by `runner`."""
    if runner is None:
        return HostDevice()
    from latbench.device.host.native import native_host_device
    from latbench.device.tools.runner import tool_host_device

    name, program = _named(runner)
    if name == NATIVE:
        return native_host_device(program)
    if name in TOOLS:
        return tool_host_device(TOOLS[name], program)
    raise BadRequest(f"unknown runner {name!r}", hint=f"known: {', '.join((NATIVE, *TOOLS))}")


def _tool_for_phones(runner: str) -> tuple[Tool, Path]:
    """The tool of that name, and the program that the user has built for phones."""
    name, program = _named(runner)
    if name not in TOOLS:
        raise BadRequest(
            f"--runner {name!r} is not for phones",
            hint=f"known: {', '.join(TOOLS)}; without --runner, phones are measured by the runner in C",
        )
    if program is None:
        raise BadRequest(
            f"where is the {name} that was built for the phone?",
            hint=f"--runner {name}=FILE",
        )
    if not program.is_file():
        raise CannotRead(f"there is no program {program}", hint=f"--runner {name}=FILE")
    return TOOLS[name], program.absolute()


def _named(runner: str) -> tuple[str, Path | None]:
    """NAME=FILE or NAME."""
    name, _, file = runner.partition("=")
    return name, Path(file) if file else None


def open_devices(name: str, where: Sequence[UnitSelector]) -> list[Device]:
    """Return a unit of the device called `name` for each of `where`: all of them, or none is kept.

    Raises as `open_device`.
    """
    devices: list[Device] = []
    try:
        for one in where:
            devices.append(open_device(name, one))
    except BaseException:  # Ctrl-C included: no unit must stay taken
        for device in devices:
            device.close()
        raise
    return devices


def places(
    units: Sequence[str],
    adb_servers: Sequence[str] = (),
    *,
    claimed: bool = False,
    prepared: bool = False,
    address: str | None = None,
) -> tuple[UnitSelector, ...]:
    """Return where each of `units` is; without units, the only one of each server.

    With several adb servers they are asked which of them lists a unit.

    Raises:
        BadRequest: something was given twice, or none of several servers lists a unit.
        DeviceUnavailable: one of several servers does not answer.
    """
    for kind, given in (("--unit", units), ("--adb-server", adb_servers)):
        twice = next((one for one in given if given.count(one) > 1), None)
        if twice is not None:
            raise BadRequest(f"{kind} {twice} was given twice", hint="give each once")
    if not units:
        servers: Sequence[str | None] = adb_servers or (None,)
        return tuple(UnitSelector(None, server, claimed, prepared, address) for server in servers)
    if len(adb_servers) < 2:
        server = adb_servers[0] if adb_servers else None
        return tuple(UnitSelector(unit, server, claimed, prepared, address) for unit in units)
    return tuple(
        UnitSelector(unit, server, claimed, prepared, address)
        for unit, server in _listing(units, adb_servers)
    )


def _listing(units: Sequence[str], adb_servers: Sequence[str]) -> list[tuple[str, str]]:
    """Each unit, and the adb server that lists it."""
    from latbench.device.android.server import units as units_of

    listed = {server: [unit.serial for unit in units_of(server)] for server in adb_servers}
    found = []
    for unit in units:
        server = next((one for one, serials in listed.items() if unit in serials), None)
        if server is None:
            raise BadRequest(
                f"none of the adb servers {', '.join(adb_servers)} lists {unit}",
                details=[
                    f"{one}: {', '.join(serials) or 'nothing'}" for one, serials in listed.items()
                ],
                hint="adb devices lists what a server knows",
            )
        found.append((unit, server))
    return found


def find_phone(where: UnitSelector, entry: CatalogueDevice | None = None) -> "AdbLink":
    """Return a link to the unit that `where` names, else to the only one, or only one of `entry`.

    An adb server is asked; none is ever started. Where none answers, a unit that is named by host and
    port is spoken to directly.

    Raises:
        BadRequest: there are several units and none is named, or the named one is not among them.
        DeviceUnavailable: no adb server answers, or the unit is not ready; the cure is told.
    """
    from latbench.device.android.direct import DirectLink
    from latbench.device.android.server import ServerLink, choose_unit, units

    try:
        found = units(where.adb_server)
    except DeviceUnavailable:
        if where.adb_server is None and where.unit is not None and ":" in where.unit:
            return DirectLink.tcp(where.unit)
        raise
    wanted = [unit for unit in found if entry is not None and recognise(unit.properties) == entry]
    serial = wanted[0].serial if where.unit is None and len(wanted) == 1 else where.unit
    return ServerLink(choose_unit(found, serial).serial, where.adb_server)


def clean_unit(where: UnitSelector) -> tuple[str, int]:
    """Put back what was changed on a phone and remove what was left; returns its name, bytes freed.

    Raises:
        BadRequest, DeviceUnavailable: as `find_phone`; also if another process measures on it.
    """
    from latbench.device.android.device import clean_phone

    link = find_phone(where)
    try:
        return link.serial, clean_phone(link)
    finally:
        link.close()
