"""Reads a unit's state from /proc and /sys, on Linux and Android.

Files are read through `Files`, so that the same code works for this machine, a copied tree, and a phone.
Whatever a system does not have is None.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from latbench.device.conditions import Conditions

_CPU = "/sys/devices/system/cpu"
_TICKS_PER_SECOND = 100  # USER_HZ, the unit of /proc/stat on every architecture (proc(5))


class Files(Protocol):
    """Small text files of a unit, by absolute path."""

    def read(self, path: str) -> str | None:
        """The file's text, stripped; None if it cannot be read or is empty."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""


class LocalFiles:
    """The files of this machine, or of a copied tree below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, path: str) -> str:
        """The real path of the file with that absolute path."""
        return str(self.root / path.lstrip("/"))

    def read(self, path: str) -> str | None:
        try:
            text = Path(self.path(path)).read_text(errors="replace")
        except OSError:
            return None
        return text.strip().strip("\0") or None

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in Path(self.path(folder)).iterdir())
        except OSError:
            return []


def read_conditions(files: Files, affinity: tuple[int, ...] | None = None) -> Conditions:
    """Return the state of the unit that `files` belong to.

    Args:
        affinity: the cores that the measured process may use; no file contains it.
    """
    battery, charging = _battery(files)
    return Conditions(
        affinity=affinity,
        clocks_khz=_numbers_by_core(files, "scaling_cur_freq"),
        clock_limits_khz=_numbers_by_core(files, "scaling_max_freq"),
        clock_peaks_khz=peak_clocks_khz(files),
        governors=dict(_by_core(files, "scaling_governor")) or None,
        temperatures_c=dict(_temperatures(files)) or None,
        load_average=_first_number(files.read("/proc/loadavg")),
        memory_available_mib=_memory_available_mib(files),
        stolen_s=_stolen_s(files),
        throttled_s=_throttled_s(files),
        battery_percent=battery,
        charging=charging,
        uptime_s=_first_number(files.read("/proc/uptime")),
        build=_build(files),
    )


def peak_clocks_khz(files: Files) -> dict[int, int] | None:
    """The highest clock of each core's hardware, kHz; None if the system does not report any."""
    return _numbers_by_core(files, "cpuinfo_max_freq")


def _by_core(files: Files, name: str) -> Iterator[tuple[int, str]]:
    for folder in files.names(_CPU):
        if match := re.fullmatch(r"cpu(\d+)", folder):
            text = files.read(f"{_CPU}/{folder}/cpufreq/{name}")
            if text is not None:
                yield int(match[1]), text


def _numbers_by_core(files: Files, name: str) -> dict[int, int] | None:
    values = {core: int(text) for core, text in _by_core(files, name) if text.isdecimal()}
    return dict(sorted(values.items())) or None


def _temperatures(files: Files) -> Iterator[tuple[str, float]]:
    """Thermal zones and hardware monitors, by name; repeated names get a number. Degrees Celsius."""
    seen: dict[str, int] = {}
    for name, text in _temperature_files(files):
        if not re.fullmatch(r"-?\d+", text):
            continue
        seen[name] = seen.get(name, 0) + 1
        # The unit is a thousandth of a degree (kernel: sysfs-api).
        yield (name if seen[name] == 1 else f"{name} #{seen[name]}"), int(text) / 1000


def _temperature_files(files: Files) -> Iterator[tuple[str, str]]:
    for zone in files.names("/sys/class/thermal"):
        folder = f"/sys/class/thermal/{zone}"
        if zone.startswith("thermal_zone") and (text := files.read(f"{folder}/temp")):
            yield files.read(f"{folder}/type") or zone, text
    for monitor in files.names("/sys/class/hwmon"):
        folder = f"/sys/class/hwmon/{monitor}"
        chip = files.read(f"{folder}/name") or monitor
        for name in files.names(folder):
            match = re.fullmatch(r"(temp\d+)_input", name)
            if match and (text := files.read(f"{folder}/{name}")):
                yield f"{chip} {files.read(f'{folder}/{match[1]}_label') or match[1]}", text


def _memory_available_mib(files: Files) -> float | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", files.read("/proc/meminfo") or "", re.MULTILINE)
    return int(match[1]) / 1024 if match else None


def _stolen_s(files: Files) -> float | None:
    """Steal time, s: the eighth figure of /proc/stat's first line (proc(5))."""
    fields = (files.read("/proc/stat") or "").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    return int(fields[8]) / _TICKS_PER_SECOND


def _throttled_s(files: Files) -> float | None:
    """Time in which a CPU quota throttled this process's cgroup or one above it, s."""
    seconds = [
        figure
        for folder in _cgroup_folders(files)
        if (figure := _throttled_in(files.read(f"{folder}/cpu.stat") or "")) is not None
    ]
    return sum(seconds) if seconds else None


def _throttled_in(statistics: str) -> float | None:
    if match := re.search(r"^throttled_usec (\d+)$", statistics, re.MULTILINE):  # cgroup v2
        return int(match[1]) / 1e6
    if match := re.search(r"^throttled_time (\d+)$", statistics, re.MULTILINE):  # cgroup v1
        return int(match[1]) / 1e9
    return None


def _cgroup_folders(files: Files) -> list[str]:
    """The folders of this process's CPU cgroup and of those above it."""
    folders: dict[str, None] = {}
    for line in (files.read("/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            roots = [f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup/cpu"]
        else:
            continue
        root = next((root for root in roots if files.read(f"{root}/cpu.stat")), roots[0])
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folders["/".join([root, *parts[:depth]])] = None
    return list(folders)


def _battery(files: Files) -> tuple[float | None, bool | None]:
    """The unit's battery: its charge in percent, and whether external power is connected."""
    for name in files.names("/sys/class/power_supply"):
        folder = f"/sys/class/power_supply/{name}"
        if files.read(f"{folder}/type") != "Battery" or files.read(f"{folder}/scope") == "Device":
            continue  # a mains adapter, or a mouse's battery
        status = files.read(f"{folder}/status")
        known = status is not None and status != "Unknown"
        charging = status in ("Charging", "Full", "Not charging") if known else None
        return _first_number(files.read(f"{folder}/capacity")), charging
    return None, None


def _build(files: Files) -> str | None:
    """The kernel's release, and the distribution's name."""
    kernel = files.read("/proc/sys/kernel/osrelease")
    match = re.search(
        r'^PRETTY_NAME="?([^"\n]+)"?', files.read("/etc/os-release") or "", re.MULTILINE
    )
    parts = [f"Linux {kernel}" if kernel else None, match[1] if match else None]
    return ", ".join(part for part in parts if part) or None


def _first_number(text: str | None) -> float | None:
    match = re.match(r"\d+(\.\d+)?", text or "")
    return float(match[0]) if match else None
