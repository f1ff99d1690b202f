"""What only Android's services tell of a phone's state: thermal status, battery, screen.

A shell may ask them by dumpsys. The thermal service came with Android 10; before it, and where a
service does not answer, its fields stay None. Battery and temperatures that /sys tells are the
runner's own to read (`runner/core/conditions.c`); newer phones keep them from a shell.
"""

import re
from collections.abc import Mapping
from typing import Any

from latbench.device.android.link import AdbLink
from latbench.device.conditions import Conditions

_MARK = "latbench-service="
# One round trip for all. dumpsys of a service that is not there ends with 0 on some releases.
_ASK = "; ".join(
    f"echo; echo {_MARK}{service}; dumpsys {service} 2>/dev/null{only}"
    for service, only in (
        ("thermalservice", ""),
        ("battery", ""),
        ("power", " | grep mWakefulness="),  # the whole is long
    )
)
_TIMEOUT_S = 30.0
#: What dumpsys power calls a screen that shows something (PowerManagerInternal.WAKEFULNESS_…).
_LIT = {"Awake": True, "Dreaming": True, "Asleep": False, "Dozing": False}


def ask_services(link: AdbLink) -> dict[str, Any]:
    """Ask the phone's services; returns the fields of `Conditions` that they tell.

    Raises:
        DeviceLost: the phone does not answer.
        TimeoutError: its services do not.
    """
    return read_services(link.shell(_ASK, timeout_s=_TIMEOUT_S).stdout)


def read_services(output: str) -> dict[str, Any]:
    """Read what `ask_services` made the phone print."""
    parts = re.split(rf"^{_MARK}(\w+)\r?$", output, flags=re.MULTILINE)
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    battery, thermal = told.get("battery", ""), told.get("thermalservice", "")
    powered = re.findall(r"^\s*\w+ powered: (true|false)", battery, re.MULTILINE)
    level, scale = _number(battery, "level"), _number(battery, "scale")
    tenths = _number(battery, "temperature")
    wakefulness = re.search(r"mWakefulness=(\w+)", told.get("power", ""))
    status = re.search(r"^\s*Thermal Status: (\d+)", thermal, re.MULTILINE)
    temperatures = _temperatures(thermal)
    if tenths is not None:
        temperatures.setdefault("battery", tenths / 10)
    fields = {
        "thermal_status": int(status[1]) if status else None,
        "temperatures_c": temperatures or None,
        "battery_percent": 100 * level / scale if level is not None and scale else None,
        "charging": "true" in powered if powered else None,
        "screen_on": _LIT.get(wakefulness[1]) if wakefulness else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def merged(seen: Conditions, told: Mapping[str, Any], fingerprint: str | None) -> Conditions:
    """What a runner saw, and what services told where it could not see.

    Args:
        fingerprint: of the build of Android.
    """
    own = seen.model_dump(exclude_none=True)
    temperatures = dict(told.get("temperatures_c", {})) | (seen.temperatures_c or {})
    build = ", ".join(part for part in (fingerprint, seen.build) if part)
    return Conditions.model_validate(
        {**told, **own, "temperatures_c": temperatures or None, "build": build or None}
    )


def _temperatures(thermal: str) -> dict[str, float]:
    """Degrees Celsius by sensor: as the hardware says now, else as the service remembers."""
    _, current, now = thermal.partition("Current temperatures from HAL:")
    lines = re.findall(
        r"Temperature\{mValue=(-?\d+(?:\.\d+)?), .*?mName=([^,}]+)", now if current else thermal
    )
    return {name: float(value) for value, name in lines}


def _number(battery: str, name: str) -> float | None:
    match = re.search(rf"^\s*{name}: (-?\d+)\s*$", battery, re.MULTILINE)
    return float(match[1]) if match else None
