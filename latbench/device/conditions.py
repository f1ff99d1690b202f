"""The conditions of a unit: what it says of its own state at one moment."""

import time

from pydantic import BaseModel, ConfigDict, Field


class Conditions(BaseModel):
    """What a unit says of its own state at one moment. None is 'unavailable', never zero.

    Clocks are in kHz by core: `clocks_khz` as they run, `clock_limits_khz` as something now caps
    them, `clock_peaks_khz` as the hardware could. `stolen_s` and `throttled_s` are seconds since
    boot in which a hypervisor or a cgroup quota took the CPU away. `thermal_status` is Android's
    0 (none) to 6 (shutdown).
    """

    # A newer runner may tell more than this version knows.
    model_config = ConfigDict(frozen=True, extra="ignore")

    time: float = Field(default_factory=time.time)
    affinity: tuple[int, ...] | None = None
    clocks_khz: dict[int, int] | None = None
    clock_limits_khz: dict[int, int] | None = None
    clock_peaks_khz: dict[int, int] | None = None
    governors: dict[int, str] | None = None
    thermal_status: int | None = None
    temperatures_c: dict[str, float] | None = None
    load_average: float | None = None
    memory_available_mib: float | None = None
    stolen_s: float | None = None
    throttled_s: float | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    screen_on: bool | None = None
    uptime_s: float | None = None
    build: str | None = None
