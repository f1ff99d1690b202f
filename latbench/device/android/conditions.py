"""Reads the state that only Android's services know: thermal status, battery, screen.

A shell can query them with dumpsys. The thermal service came with Android 10; without it, or if a service
does not answer, its fields are None. Battery and temperatures in /sys are read by the runner
(`runner/core/conditions.c`), but newer phones hide them from a shell.
"""

import re
from collections.abc import Mapping
from typing import Any

from latbench.device.android.adb.link import AdbLink
from latbench.device.conditions import Conditions

_MARK = "latbench-service="
# One round trip for all. On some releases dumpsys of a missing service ends with 0.
_QUERY = "; ".join(
    f"echo; echo {_MARK}{service}; dumpsys {service} 2>/dev/null{only}"
    for service, only in (
        ("thermalservice", ""),
        ("battery", ""),
        ("power", " | grep mWakefulness="),  # the whole output is long
    )
)
_TIMEOUT_S = 30.0
#: mWakefulness -> whether the screen is on (PowerManagerInternal.WAKEFULNESS_…).
_LIT = {"Awake": True, "Dreaming": True, "Asleep": False, "Dozing": False}


def query_services(link: AdbLink) -> dict[str, Any]:
    """Query the phone's services; returns the fields of `Conditions` that they know.

    Raises:
        DeviceLost: the phone does not answer.
        TimeoutError: its services do not.
    """
    return read_services(link.shell(_QUERY, timeout_s=_TIMEOUT_S).stdout)


def read_services(output: str) -> dict[str, Any]:
    """Parse the output of the query of `query_services`."""
    parts = re.split(rf"^{_MARK}(\w+)\r?$", output, flags=re.MULTILINE)
    outputs = dict(zip(parts[1::2], parts[2::2], strict=True))
    battery, thermal = outputs.get("battery", ""), outputs.get("thermalservice", "")
    powered = re.findall(r"^\s*\w+ powered: (true|false)", battery, re.MULTILINE)
    level, scale = _number(battery, "level"), _number(battery, "scale")
    tenths = _number(battery, "temperature")
    wakefulness = re.search(r"mWakefulness=(\w+)", outputs.get("power", ""))
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


def merged(seen: Conditions, services: Mapping[str, Any], fingerprint: str | None) -> Conditions:
    """The runner's conditions, completed by those of the services.

    Args:
        fingerprint: of the build of Android.
    """
    own = seen.model_dump(exclude_none=True)
    temperatures = dict(services.get("temperatures_c", {})) | (seen.temperatures_c or {})
    build = ", ".join(part for part in (fingerprint, seen.build) if part)
    return Conditions.model_validate(
        {**services, **own, "temperatures_c": temperatures or None, "build": build or None}
    )


def _temperatures(thermal: str) -> dict[str, float]:
    """Degrees Celsius by sensor: current values of the hardware, else the service's cached ones."""
    _, current, now = thermal.partition("Current temperatures from HAL:")
    lines = re.findall(
        r"Temperature\{mValue=(-?\d+(?:\.\d+)?), .*?mName=([^,}]+)", now if current else thermal
    )
    return {name: float(value) for value, name in lines}


def _number(battery: str, name: str) -> float | None:
    match = re.search(rf"^\s*{name}: (-?\d+)\s*$", battery, re.MULTILINE)
    return float(match[1]) if match else None
