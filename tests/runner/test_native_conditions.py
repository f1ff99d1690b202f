"""The native runner reports the same state of its unit as Python reads."""

import os
from pathlib import Path

from nativebuild import Built
from tinymodels import Models

from latbench.device.linux import LocalFiles, read_conditions
from latbench.device.protocol.client import RunnerClient
from latbench.target import Runtime

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def test_conditions_are_those_that_python_reads(built: Built, tmp_path: Path) -> None:
    for path, text in {
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000",
        "/sys/devices/system/cpu/cpu10/cpufreq/scaling_cur_freq": "2400000",
        "/sys/devices/system/cpu/cpu2/cpufreq/scaling_max_freq": "2000000",
        "/sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_max_freq": "2841600",
        "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "schedutil",
        "/sys/class/thermal/thermal_zone0/type": "soc",
        "/sys/class/thermal/thermal_zone0/temp": "41500",
        "/sys/class/thermal/thermal_zone10/type": "soc",
        "/sys/class/thermal/thermal_zone10/temp": "42000",
        "/sys/class/thermal/thermal_zone2/temp": "-500",
        "/sys/class/hwmon/hwmon1/name": "chip",
        "/sys/class/hwmon/hwmon1/temp1_input": "30123",
        "/sys/class/hwmon/hwmon1/temp1_label": 'Tctl "A"',
        "/sys/class/power_supply/battery/type": "Battery",
        "/sys/class/power_supply/battery/status": "Full",
        "/sys/class/power_supply/battery/capacity": "100",
        "/proc/loadavg": "0.52 0.58 0.59 1/467 12345",
        "/proc/meminfo": "MemTotal: 100 kB\nMemAvailable:    204801 kB\n",
        "/proc/stat": "cpu  1 2 3 4 5 6 7 251 9 10",
        "/proc/uptime": "1234.56 999.00",
        "/proc/self/cgroup": "1:cpu,cpuacct:/a/b\n0::/job/..\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.stat": "throttled_time 1000000000",
        "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.stat": "nr_periods 1\nthrottled_time 500000000",
        "/sys/fs/cgroup/unified/job/cpu.stat": "throttled_usec 250000",
        "/proc/sys/kernel/osrelease": "6.1.0",
        "/etc/os-release": 'NAME="x"\nPRETTY_NAME="Some Linux 12 (é)"\n',
    }.items():
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="utf-8")
    with built.client("--system-root", str(tmp_path)) as client:
        got = client.conditions()
    expected = read_conditions(LocalFiles(tmp_path), tuple(CORES))
    assert got.model_dump(exclude={"time"}) == expected.model_dump(exclude={"time"})


def test_conditions_of_this_machine_are_those_that_python_reads(native: RunnerClient) -> None:
    got = native.conditions()
    expected = read_conditions(LocalFiles(), tuple(CORES))
    assert got.uptime_s is not None
    assert expected.uptime_s is not None
    assert 0 <= expected.uptime_s - got.uptime_s < 60
    reported = {name for name, value in got if value is not None}
    assert reported == {name for name, value in expected if value is not None}
    for name in ("affinity", "clock_peaks_khz", "governors", "build"):
        assert getattr(got, name) == getattr(expected, name)


def test_the_clock_of_the_first_core_comes_with_each_sample(
    built: Built, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / f"sys/devices/system/cpu/cpu{CORES[-1]}/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text("1400000\n")
    with built.client("--system-root", str(tmp_path)) as client:
        loaded = client.load(str(models.of[Runtime.ONNX]), Runtime.ONNX, cores=[CORES[-1]])
        assert client.run(loaded.handle, max_samples=3).clocks_khz == [1400000] * 3
