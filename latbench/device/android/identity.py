"""What an Android phone is, from its system properties."""

from collections.abc import Mapping


def unit_of(properties: Mapping[str, str], serial: str) -> str:
    """The phone's identifier, the same over USB and network; `serial` is how adb lists it.

    Emulators of one kind all report the same serial number, so `serial` identifies them.
    """
    number = properties.get("ro.serialno") or properties.get("ro.boot.serialno") or ""
    return serial if is_emulated(properties) or number in ("", "unknown") else number


def is_emulated(properties: Mapping[str, str]) -> bool:
    """Whether it reports that QEMU runs it, as Android's emulator and the test rig do."""
    return "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))


def model_of(properties: Mapping[str, str]) -> str | None:
    """Manufacturer and model, "samsung SM-G950U"; None if the phone reports neither."""
    names = ("ro.product.manufacturer", "ro.product.model")
    return " ".join(properties[name] for name in names if properties.get(name)) or None


def describe(properties: Mapping[str, str]) -> str:
    """Manufacturer, model and release: "samsung SM-G950U, Android 9"."""
    model = model_of(properties) or "unknown"
    release = properties.get("ro.build.version.release")
    return f"{model}, Android {release}" if release else model
