"""From the name of a device to one that can be measured on."""

from latbench.device.base import Device
from latbench.device.catalogue import find_device
from latbench.device.host import HostDevice
from latbench.errors import DeviceUnavailable


def open_device(name: str) -> Device:
    """Return the device called `name`, ready to open runners on.

    Raises:
        UnknownName: the catalogue has no such device; the nearest names are given.
        DeviceUnavailable: this version cannot measure on it.
        BadRequest: a file of the catalogue is broken.
    """
    entry = find_device(name)
    if entry.kind == "host":
        return HostDevice()
    if entry.kind == "board":
        raise DeviceUnavailable(
            f"cannot measure on {entry.name} from here: this version measures on the machine it "
            "runs on",
            hint=f"install latbench on the {entry.title} and use --device host there",
        )
    raise DeviceUnavailable(
        f"cannot measure on {entry.name}: measuring on phones is not in this version",
        hint=f"predict from a LUT of {entry.name} made elsewhere (latbench predict LUT ARCH), "
        "or measure on this machine with --device host",
    )
