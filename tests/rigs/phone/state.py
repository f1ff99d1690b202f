"""The state that a phone's stand-ins report, as files that a test can change while the phone runs.

The folder of a phone's state is /rig inside it. The stand-ins read it anew each time:

    properties                      "name=value" lines, for getprop and adbd
    cpuinfo                         /proc/cpuinfo
    sys/                            /sys
    services/NAME                   there is such a service for dumpsys and cmd
    thermal_status                  0 to 6
    temperatures                    "name type degrees" lines, for dumpsys thermalservice
    battery/level, status, temperature, usb     percent; Android's number; tenths of a degree; true
    wakefulness                     Awake or Asleep; a shell may change it, by input
    fixed_performance               true or false, where the phone has that mode; by cmd power
    airplane_mode                   enabled or disabled, likewise; by cmd connectivity
    settings/NAMESPACE/KEY          one value each; by settings and svc
"""

import os
from itertools import groupby
from pathlib import Path

from tests.rigs.phone.profiles import Core, Profile

SHELL = 2000  # Android's user and group of a shell that adb opens
_CHARGING, _DISCHARGING, _FULL = 2, 3, 5  # BatteryManager.BATTERY_STATUS_…
_STATUS_WORDS = {_CHARGING: "Charging", _DISCHARGING: "Discharging", _FULL: "Full"}
_CPU = "sys/devices/system/cpu"
_BATTERY = "sys/class/power_supply/battery"


class PhoneState:
    """The state of one phone. Temperatures in degrees Celsius, clocks in kHz."""

    def __init__(self, folder: Path, profile: Profile, serial: str) -> None:
        """Write the state of a phone that was just switched on into an empty `folder`."""
        self.folder = folder
        self.profile = profile
        self._temperatures = {sensor.name: sensor.celsius for sensor in profile.temperatures}
        self._write_identity(serial)
        self._write_clocks()
        self._write_zones()
        self.set_battery(level=80, charging=True, celsius=30.0)
        for path in profile.denied:
            (folder / "sys" / path).chmod(0o700)
        if profile.fixed_performance:
            self._write("airplane_mode", "disabled", shell_may_write=True)
        self.boot()

    def boot(self) -> None:
        """Put back what a reboot puts back; settings stay."""
        self.set_thermal_status(0)
        self.uncap_clocks()
        self._write("wakefulness", "Awake", shell_may_write=True)
        if self.profile.fixed_performance:
            self._write("fixed_performance", "false", shell_may_write=True)

    def set_thermal_status(self, status: int) -> None:
        """Set Android's thermal status, 0 (none) to 6 (shutdown), as far as the phone tells it."""
        self._write("thermal_status", str(status))

    def set_temperature(self, sensor: str, celsius: float) -> None:
        """Set the temperature of a sensor of the profile."""
        names = [known.name for known in self.profile.temperatures]
        self._temperatures[sensor] = celsius
        self._write(
            f"sys/class/thermal/thermal_zone{names.index(sensor)}/temp", f"{celsius * 1000:.0f}"
        )
        self._write_temperatures()

    def set_battery(
        self,
        level: int | None = None,
        charging: bool | None = None,
        celsius: float | None = None,
    ) -> None:
        """Set the battery's charge in percent, whether USB charges it, and its temperature."""
        if level is not None:
            self._write("battery/level", str(level))
            self._write(f"{_BATTERY}/capacity", str(level))
        if charging is not None:
            full = self.read("battery/level") == "100"
            status = (_FULL if full else _CHARGING) if charging else _DISCHARGING
            self._write("battery/status", str(status))
            self._write("battery/usb", str(charging).lower())
            self._write(f"{_BATTERY}/status", _STATUS_WORDS[status])
        if celsius is not None:
            self._write("battery/temperature", f"{celsius * 10:.0f}")
            self._write(f"{_BATTERY}/temp", f"{celsius * 10:.0f}")

    def cap_clock(self, core: int, khz: int) -> None:
        """Keep the clock of a core, and of those that share it, at or below `khz`."""
        self._write(f"{_CPU}/cpu{core}/cpufreq/scaling_max_freq", str(khz))
        self._write(f"{_CPU}/cpu{core}/cpufreq/scaling_cur_freq", str(khz))

    def uncap_clocks(self) -> None:
        """Let every core run at its peak."""
        for number, core in enumerate(self.profile.cores):
            self.cap_clock(number, core.peak_khz)

    def set_property(self, name: str, value: str) -> None:
        """Set a system property; adbd sees it only after a restart."""
        properties = self.properties
        properties[name] = value
        self._write_properties(properties)

    @property
    def properties(self) -> dict[str, str]:
        """The system properties by name."""
        lines = self.read("properties").splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def fixed_performance(self) -> bool | None:
        """Whether the mode is on; None where the phone has no such mode."""
        if not self.profile.fixed_performance:
            return None
        return self.read("fixed_performance") == "true"

    @property
    def awake(self) -> bool:
        """Whether the screen is on."""
        return self.read("wakefulness") == "Awake"

    @awake.setter
    def awake(self, value: bool) -> None:
        self._write("wakefulness", "Awake" if value else "Asleep", shell_may_write=True)

    def setting(self, namespace: str, key: str) -> str | None:
        """A value that `settings put` or `svc` wrote; None if there is none."""
        path = self.folder / "settings" / namespace / key
        return path.read_text().strip() if path.exists() else None

    def read(self, name: str) -> str:
        """The text of a file of the state, stripped."""
        return (self.folder / name).read_text().strip()

    def _write_identity(self, serial: str) -> None:
        self._write_properties({**self.profile.properties, "ro.serialno": serial})
        self._write("cpuinfo", _cpuinfo(self.profile))
        for service in ("battery", "connectivity", "power"):
            self._write(f"services/{service}", "")
        if self.profile.thermalservice:
            self._write("services/thermalservice", "")
        for namespace in ("global", "secure", "system"):
            path = self.folder / "settings" / namespace
            path.mkdir(parents=True)
            os.chown(path, SHELL, SHELL)

    def _write_properties(self, properties: dict[str, str]) -> None:
        self._write(
            "properties", "\n".join(f"{name}={properties[name]}" for name in sorted(properties))
        )

    def _write_clocks(self) -> None:
        """Clocks by policy, to which the cores are linked, as the kernel has it."""
        last = len(self.profile.cores) - 1
        for name in ("online", "possible", "present"):
            self._write(f"{_CPU}/{name}", f"0-{last}")
        for core, numbers in _clusters(self.profile):
            policy = f"{_CPU}/cpufreq/policy{numbers[0]}"
            shared = " ".join(map(str, numbers))
            for name, text in {
                "affected_cpus": shared,
                "related_cpus": shared,
                "cpuinfo_max_freq": str(core.peak_khz),
                "cpuinfo_min_freq": str(core.lowest_khz),
                "scaling_min_freq": str(core.lowest_khz),
                "scaling_governor": self.profile.governor,
            }.items():
                self._write(f"{policy}/{name}", text)
            for number in numbers:
                self._write(f"{_CPU}/cpu{number}/online", "1")
                link = self.folder / f"{_CPU}/cpu{number}/cpufreq"
                link.symlink_to(f"../cpufreq/policy{numbers[0]}")

    def _write_zones(self) -> None:
        for number, sensor in enumerate(self.profile.temperatures):
            zone = f"sys/class/thermal/thermal_zone{number}"
            self._write(f"{zone}/type", sensor.name)
            self._write(f"{zone}/temp", f"{sensor.celsius * 1000:.0f}")
        self._write_temperatures()
        for name, text in {"type": "Battery", "present": "1"}.items():
            self._write(f"{_BATTERY}/{name}", text)

    def _write_temperatures(self) -> None:
        lines = [
            f"{sensor.name} {sensor.kind} {self._temperatures[sensor.name]:.1f}"
            for sensor in self.profile.temperatures
        ]
        self._write("temperatures", "\n".join(lines))

    def _write(self, name: str, text: str, *, shell_may_write: bool = False) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parent / f".{path.name}.new"  # a reader finds the old file or the new one
        new.write_text(f"{text}\n" if text else "")
        if shell_may_write:
            os.chown(new, SHELL, SHELL)
        new.rename(path)


def _clusters(profile: Profile) -> list[tuple[Core, list[int]]]:
    groups = groupby(enumerate(profile.cores), key=lambda numbered: numbered[1])
    return [(core, [number for number, _ in group]) for core, group in groups]


def _cpuinfo(profile: Profile) -> str:
    """/proc/cpuinfo of an arm64 kernel; ONNX Runtime and LiteRT read it when they start."""
    return "\n\n".join(
        f"processor\t: {number}\n"
        f"BogoMIPS\t: 38.40\n"
        f"Features\t: {profile.features}\n"
        f"CPU implementer\t: 0x{core.implementer:02x}\n"
        f"CPU architecture: 8\n"
        f"CPU variant\t: 0x{core.variant:x}\n"
        f"CPU part\t: 0x{core.part:03x}\n"
        f"CPU revision\t: 1"
        for number, core in enumerate(profile.cores)
    )
