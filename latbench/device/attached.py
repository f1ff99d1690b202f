"""Which units are attached: this machine, and the phones that a running adb server and usbmuxd know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.device.catalogue import recognise
from latbench.device.host.device import HostDevice
from latbench.device.ios import lockdown, usbmux
from latbench.errors import DeviceUnavailable

if TYPE_CHECKING:
    from latbench.device.android.adb_server import AdbUnit


@dataclass(frozen=True)
class AttachedUnit:
    """One unit that can be seen from here.

    Attributes:
        device: the catalogue name, or None if it is not recognised.
        unit: what tells it apart: a hash for the host, the serial number or UDID for a phone.
        description: what it says it is.
        state: ready, silent, or the adb server's word (unauthorized, offline, …).
        measurable: whether it can be measured on now, as that device.
        advice: what to do about it, if something can be done.
    """

    device: str | None
    unit: str
    description: str
    state: str
    measurable: bool
    advice: str | None = None


def attached_units() -> list[AttachedUnit]:
    """The host, and every unit that a running adb server or usbmuxd lists. No server is started."""
    from latbench.device.android.adb_server import adb_units  # slow: adbutils imports much

    host = HostDevice()
    board = recognise(host.properties)
    note = None if board is None else f"it is a {board.title}; measure on it as host"
    here = AttachedUnit(host.name, host.unit, host.description, "ready", True, note)
    return [here, *map(_phone, adb_units()), *map(_iphone, _iphones())]


def _iphones() -> list[usbmux.UsbUnit]:
    try:
        return usbmux.list_units()
    except DeviceUnavailable:  # most machines have no usbmuxd
        return []


def _iphone(unit: usbmux.UsbUnit) -> AttachedUnit:
    try:
        told = lockdown.properties(unit.udid)
    except DeviceUnavailable as error:
        return AttachedUnit(None, unit.udid, "an iPhone", "silent", False, error.hint)
    known = recognise(told)
    name = f"{told.get('ProductType', 'an iPhone')}, iOS {told.get('ProductVersion', 'unknown')}"
    advice = "describe it in ./devices/NAME.toml" if known is None else None
    device = None if known is None else known.name
    return AttachedUnit(device, unit.udid, name, "ready", known is not None, advice)


def _phone(unit: "AdbUnit") -> AttachedUnit:
    from latbench.device.android.device import describe
    from latbench.device.android.server import cure_of

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
