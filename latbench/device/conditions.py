"""The conditions of a unit: its clocks, temperatures, battery and the like at one moment."""

import time

from pydantic import Field

from latbench.device.records import Float, Int, Record


class Conditions(Record, extra="ignore"):  # a newer runner may report more
    """The state of a unit at one moment. None means "unavailable", never zero.

    Clocks are in kHz by core: `clocks_khz` now, `clock_limits_khz` the present caps,
    `clock_peaks_khz` the limits of the hardware. `stolen_s` and `throttled_s` are seconds since boot
    in which a hypervisor or a cgroup quota withheld the CPU. `thermal_status` is Android's, from 0
    (none) to 6 (shutdown).
    """

    time: Float = Field(default_factory=time.time)
    affinity: tuple[Int, ...] | None = None
    clocks_khz: dict[int, Int] | None = None
    clock_limits_khz: dict[int, Int] | None = None
    clock_peaks_khz: dict[int, Int] | None = None
    governors: dict[int, str] | None = None
    thermal_status: Int | None = None
    temperatures_c: dict[str, Float] | None = None
    load_average: Float | None = None
    memory_available_mib: Float | None = None
    stolen_s: Float | None = None
    throttled_s: Float | None = None
    battery_percent: Float | None = None
    charging: bool | None = None
    screen_on: bool | None = None
    uptime_s: Float | None = None
    build: str | None = None
