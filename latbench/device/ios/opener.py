"""iPhones as a kind of device."""

from typing import TYPE_CHECKING

from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.opener import AttachedUnit, DeviceOpener
from latbench.device.selector import UnitSelector
from latbench.errors import DeviceUnavailable

if TYPE_CHECKING:
    from latbench.device.base import Device
    from latbench.device.ios.usbmux import UsbUnit


def _open(entry: CatalogueDevice, selector: UnitSelector) -> "Device":
    """Raises as `find_iphone` and `IosDevice`."""
    from latbench.device.ios.device import IosDevice, find_iphone

    link = find_iphone(entry, selector.unit, selector.address)
    return IosDevice(link, entry, skip_identity_check=selector.skip_identity_check)


def _attached() -> list[AttachedUnit]:
    from latbench.device.ios.usbmux import list_units

    try:
        return [_described(unit) for unit in list_units()]
    except DeviceUnavailable:  # most machines have no usbmuxd
        return []


def _described(unit: "UsbUnit") -> AttachedUnit:
    from latbench.device.ios import lockdown

    try:
        properties = lockdown.properties(unit.udid)
    except DeviceUnavailable as error:
        return AttachedUnit(None, unit.udid, "an iPhone", "silent", False, error.hint)
    known = recognise(properties)
    model = properties.get("ProductType", "an iPhone")
    name = f"{model}, iOS {properties.get('ProductVersion', 'unknown')}"
    advice = "describe it in ./devices/NAME.toml" if known is None else None
    device = None if known is None else known.name
    return AttachedUnit(device, unit.udid, name, "ready", known is not None, advice)


IOS = DeviceOpener(
    kind="iPhones",
    opens=lambda entry: entry.os == "ios",
    open=_open,
    options=frozenset({"unit", "skip_identity_check", "address"}),
    attached=_attached,
)
