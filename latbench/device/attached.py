"""Which units are attached: this machine, and the phones that a running adb server knows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.device.catalogue import recognise
from latbench.device.host import HostDevice

if TYPE_CHECKING:
    from latbench.device.adb_server import AdbUnit


@dataclass(frozen=True)
class AttachedUnit:
    """One unit that can be seen from here.

    Attributes:
        device: the catalogue name, or None if it is not recognised.
        unit: what tells it apart: a hash for the host, the serial number for a phone.
        description: what it says it is.
        state: ready, or the adb server's word (unauthorized, offline, …).
        measurable: whether this version can measure on it now.
        advice: what to do about it, if something can be done.
    """

    device: str | None
    unit: str
    description: str
    state: str
    measurable: bool
    advice: str | None = None


_ADVICE = {
    "unauthorized": "unlock the phone and allow USB debugging for this computer",
    "authorizing": "unlock the phone and allow USB debugging for this computer",
    "offline": "unplug it and plug it in again, or restart it",
    "no permissions": "let your user use the USB device (udev rules), then plug it in again",
    "device": "this version lists phones, but measures on the host only",
}


def attached_units() -> list[AttachedUnit]:
    """The host, and every unit that a running adb server lists. No server is started."""
    from latbench.device.adb_server import adb_units  # slow: adbutils imports much

    host = HostDevice()
    board = recognise(host.properties)
    note = None if board is None else f"it is a {board.title}; measure on it as host"
    here = AttachedUnit(host.name, host.unit, host.description, "ready", True, note)
    return [here, *map(_phone, adb_units())]


def _phone(unit: "AdbUnit") -> AttachedUnit:
    known = recognise(unit.properties)
    maker = unit.properties.get("ro.product.manufacturer", "")
    model = unit.properties.get("ro.product.model", "")
    release = unit.properties.get("ro.build.version.release")
    described = " ".join(part for part in (maker, model) if part) or "unknown"
    return AttachedUnit(
        device=None if known is None else known.name,
        unit=unit.serial,
        description=f"{described}, Android {release}" if release else described,
        state="ready" if unit.state == "device" else unit.state,
        measurable=False,
        advice=next((text for word, text in _ADVICE.items() if unit.state.startswith(word)), None),
    )
