"""The conditions of a unit: its clocks, temperatures, battery and the like at one moment."""

import time

from pydantic import Field

from latbench.record import Integer, Number, Record


class Conditions(Record, extra="ignore"):  # a newer runner may report more
    """The state of a unit at one moment. None means "unavailable", never zero.

    Clocks are in kHz by core: `clocks_khz` now, `clock_limits_khz` the present caps,
    `clock_peaks_khz` the limits of the hardware. `stolen_s` and `throttled_s` are seconds since boot
    in which a hypervisor or a cgroup quota withheld the CPU. `thermal_status` is Android's, from 0
    (none) to 6 (shutdown).
    """

    time: Number = Field(default_factory=time.time)
    affinity: tuple[Integer, ...] | None = None
    clocks_khz: dict[int, Integer] | None = None
    clock_limits_khz: dict[int, Integer] | None = None
    clock_peaks_khz: dict[int, Integer] | None = None
    governors: dict[int, str] | None = None
    thermal_status: Integer | None = None
    temperatures_c: dict[str, Number] | None = None
    load_average: Number | None = None
    memory_available_mib: Number | None = None
    stolen_s: Number | None = None
    throttled_s: Number | None = None
    battery_percent: Number | None = None
    charging: bool | None = None
    screen_on: bool | None = None
    uptime_s: Number | None = None
    build: str | None = None
