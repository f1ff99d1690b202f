"""From the name of a device to one that can be measured on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.device.base import Device
from latbench.device.catalogue import CatalogueDevice, find_device, recognise
from latbench.device.host import HostDevice
from latbench.errors import BadRequest, DeviceUnavailable

if TYPE_CHECKING:
    from latbench.device.android.link import AdbLink


@dataclass(frozen=True)
class Where:
    """Which unit of a device to measure on, and what may be done to it.

    Attributes:
        unit: a serial number as adb lists it, or host:port; None: the only one that is attached.
        adb_server: host:port of the adb server; None: where adb's own environment variables say.
        claimed: take the unit for the device that was named, whatever it says it is.
        prepared: change its settings for steadier times, and put them back afterwards.
    """

    unit: str | None = None
    adb_server: str | None = None
    claimed: bool = False
    prepared: bool = False


ANYWHERE = Where()


def open_device(name: str, where: Where = ANYWHERE) -> Device:
    """Return the device called `name`, ready to open runners on. The caller closes it.

    Raises:
        UnknownName: the catalogue has no such device; the nearest names are given.
        DeviceUnavailable: no unit of it can be reached, the unit is another device or in use, or this
            version cannot measure on it.
        BadRequest: a file of the catalogue is broken, or there are several units and none is named.
    """
    entry = find_device(name)
    if entry.os == "android":
        from latbench.device.android.device import AndroidDevice  # slow: adbutils imports much

        link = find_phone(where, entry)
        try:
            return AndroidDevice(link, entry, claimed=where.claimed, prepared=where.prepared)
        except BaseException:  # Ctrl-C included: the unit must not stay taken
            link.close()
            raise
    if where != ANYWHERE:
        raise BadRequest(
            f"--unit, --adb-server, --as and --prepare are for Android phones, not for {entry.name}",
            hint="leave them out",
        )
    if entry.kind == "host":
        return HostDevice()
    if entry.kind == "board":
        raise DeviceUnavailable(
            f"cannot measure on {entry.name} from here: this version measures on Android phones "
            "and on the machine it runs on",
            hint=f"install latbench on the {entry.title} and use --device host there",
        )
    raise DeviceUnavailable(
        f"cannot measure on {entry.name}: measuring on iPhones is not in this version",
        hint=f"predict from a LUT of {entry.name} made elsewhere (latbench predict LUT ARCH), "
        "or measure on this machine with --device host",
    )


def find_phone(where: Where, entry: CatalogueDevice | None = None) -> "AdbLink":
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


def clean_unit(where: Where) -> tuple[str, int]:
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
