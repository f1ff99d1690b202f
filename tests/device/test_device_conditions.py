"""A unit's files are parsed correctly, and missing values are unavailable."""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tinymodels import Models

from latbench.device.host import affinity
from latbench.device.host.device import HostDevice, choose_cores
from latbench.device.linux import LocalFiles, read_conditions
from latbench.errors import BadRequest
from latbench.target import Runtime

Tree = Callable[[dict[str, str]], Path]

CPU = "/sys/devices/system/cpu"


def cpufreq(core: int, now: int, limit: int, peak: int, governor: str) -> dict[str, str]:
    folder = f"{CPU}/cpu{core}/cpufreq"
    return {
        f"{folder}/scaling_cur_freq": str(now),
        f"{folder}/scaling_max_freq": str(limit),
        f"{folder}/cpuinfo_max_freq": str(peak),
        f"{folder}/scaling_governor": governor,
    }


def test_everything_that_linux_shows(text_files: Tree) -> None:
    battery = "/sys/class/power_supply/BAT0"
    mouse = "/sys/class/power_supply/A_mouse"  # before the machine's own
    zone = "/sys/class/thermal/thermal_zone"
    root = text_files(
        {
            **cpufreq(0, 800_000, 1_800_000, 1_800_000, "powersave"),
            **cpufreq(10, 2_400_000, 2_000_000, 2_800_000, "performance"),
            f"{CPU}/cpufreq/boost": "1",
            f"{zone}0/type": "cpu",
            f"{zone}0/temp": "45123",
            f"{zone}1/type": "cpu",
            f"{zone}1/temp": "-2000",
            f"{zone}2/type": "broken",
            f"{zone}2/temp": "N/A",
            "/sys/class/hwmon/hwmon0/name": "coretemp",
            "/sys/class/hwmon/hwmon0/temp1_input": "51000",
            "/sys/class/hwmon/hwmon0/temp1_label": "Package id 0",
            "/sys/class/hwmon/hwmon0/temp2_input": "49000",
            f"{mouse}/type": "Battery",
            f"{mouse}/scope": "Device",
            f"{mouse}/capacity": "5",
            f"{battery}/type": "Battery",
            f"{battery}/capacity": "83",
            f"{battery}/status": "Discharging",
            "/proc/stat": "cpu  100 0 50 900 3 0 1 250 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1",
            "/proc/loadavg": "1.25 0.80 0.50 2/300 1234",
            "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable:    2048000 kB",
            "/proc/uptime": "3600.51 7000.00",
            "/proc/self/cgroup": "0::/user.slice/app",
            "/sys/fs/cgroup/user.slice/app/cpu.stat": "usage_usec 9\nthrottled_usec 1500000",
            "/sys/fs/cgroup/user.slice/cpu.stat": "usage_usec 9\nthrottled_usec 500000",
            "/sys/fs/cgroup/cpu.stat": "usage_usec 9\nthrottled_usec 250000",
            "/proc/sys/kernel/osrelease": "6.1.0-rpi",
            "/etc/os-release": 'NAME="X"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
        }
    )
    conditions = read_conditions(LocalFiles(root), affinity=(10,))
    assert conditions.affinity == (10,)
    assert conditions.clocks_khz == {0: 800_000, 10: 2_400_000}
    assert conditions.clock_limits_khz == {0: 1_800_000, 10: 2_000_000}
    assert conditions.clock_peaks_khz == {0: 1_800_000, 10: 2_800_000}
    assert conditions.governors == {0: "powersave", 10: "performance"}
    assert conditions.temperatures_c == {
        "cpu": 45.123,
        "cpu #2": -2.0,
        "coretemp Package id 0": 51.0,
        "coretemp temp2": 49.0,
    }
    assert (conditions.battery_percent, conditions.charging) == (83.0, False)
    assert conditions.stolen_s == 2.5
    assert conditions.throttled_s == 2.25
    assert conditions.load_average == 1.25
    assert conditions.memory_available_mib == 2000.0
    assert conditions.uptime_s == 3600.51
    assert conditions.build == "Linux 6.1.0-rpi, Debian GNU/Linux 12 (bookworm)"
    assert (conditions.thermal_status, conditions.screen_on) == (None, None)


def test_nothing_is_unavailable_not_zero(tmp_path: Path) -> None:
    said = read_conditions(LocalFiles(tmp_path)).model_dump(exclude={"time"})
    assert set(said.values()) == {None}


def test_files_of_nonsense_are_unavailable(text_files: Tree) -> None:
    root = text_files(
        {
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>",
            "/proc/stat": "intr 1 2 3",
            "/proc/loadavg": "",
            "/proc/meminfo": "MemTotal: 8 kB",
            "/proc/uptime": "long",
            "/proc/self/cgroup": "nonsense",
            "/sys/class/power_supply/BAT0/type": "Battery",
            "/sys/class/power_supply/BAT0/status": "Unknown",
        }
    )
    said = read_conditions(LocalFiles(root)).model_dump(exclude={"time"})
    assert set(said.values()) == {None}


def test_cgroup_v1_is_read_too(text_files: Tree) -> None:
    root = text_files(
        {
            "/proc/self/cgroup": "4:memory:/a\n2:cpu,cpuacct:/docker/x",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_throttled 0\nthrottled_time 0",
            "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.stat": "throttled_time 3000000000",
        }
    )
    assert read_conditions(LocalFiles(root)).throttled_s == 3.0


@pytest.mark.parametrize(
    ("status", "charging"), [("Charging", True), ("Full", True), ("Discharging", False)]
)
def test_external_power_is_seen(text_files: Tree, status: str, charging: bool) -> None:
    supply = "/sys/class/power_supply/battery"
    root = text_files({f"{supply}/type": "Battery", f"{supply}/status": status})
    assert read_conditions(LocalFiles(root)).charging is charging


def test_this_machine_agrees_with_psutil() -> None:
    conditions = HostDevice().conditions()
    assert conditions.uptime_s is not None
    assert conditions.memory_available_mib is not None
    assert conditions.load_average is not None
    # Taken at different moments on a machine that others use.
    available = psutil.virtual_memory().available / 2**20
    assert conditions.memory_available_mib == pytest.approx(available, rel=0.5)
    if platform.system() == "Linux":
        assert conditions.affinity == tuple(sorted(os.sched_getaffinity(0)))
        assert conditions.build is not None
        assert conditions.build.startswith(f"Linux {platform.release()}")


def test_samples_carry_the_clock_of_their_core(text_files: Tree, models: Models) -> None:
    files: dict[str, str] = {}
    for core in range(os.cpu_count() or 1):
        files |= cpufreq(core, 1_000_000 + core, 2_000_000, 2_000_000, "performance")
    host = HostDevice(text_files(files))
    (core,) = host.default_cores(1) or (None,)
    with host.open_runner() as runner:
        cores = [] if core is None else [core]
        loaded = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, cores=cores)
        reply = runner.run(loaded.handle, min_samples=6, max_samples=6)
        if core is None:
            assert reply.clocks_khz is None
        else:
            assert reply.clocks_khz == [1_000_000 + core] * 6
        assert runner.conditions().clock_limits_khz == dict.fromkeys(
            range(len(files) // 4), 2000000
        )


def test_samples_without_a_clock_say_so(tmp_path: Path, models: Models) -> None:
    with HostDevice(tmp_path).open_runner() as runner:
        loaded = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE)
        assert runner.run(loaded.handle).clocks_khz is None


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="needs the scheduler statistics of Linux"
)
def test_waiting_is_the_kernels_figure() -> None:
    def figures(place: int) -> int:
        return sum(
            int((task / "schedstat").read_text().split()[place])
            for task in Path("/proc/self/task").iterdir()
        )

    before, waited, after = figures(1), affinity.waited_ns(), figures(1)
    assert waited is not None
    assert before <= waited <= after  # it only grows


# Which cores are best


def topology(peaks: dict[int, int], siblings: dict[int, str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for core, peak in peaks.items():
        files[f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq"] = str(peak)
    for core, listed in siblings.items():
        files[f"{CPU}/cpu{core}/topology/thread_siblings_list"] = listed
    return files


@pytest.mark.parametrize(
    ("peaks", "siblings", "threads", "chosen"),
    [
        pytest.param({}, {}, 1, (3,), id="all alike: the last"),
        pytest.param({}, {}, 2, (2, 3), id="all alike: the last two"),
        pytest.param({}, {}, 4, (0, 1, 2, 3), id="core 0 where there is no other"),
        pytest.param({0: 9, 1: 9, 2: 5, 3: 5}, {}, 1, (1,), id="the fastest, but not core 0"),
        pytest.param(
            {}, {1: "1,3", 3: "1,3", 2: "2", 0: "0"}, 2, (2, 3), id="not two threads of one core"
        ),
        pytest.param(
            {}, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 2, (1, 3), id="one of each core"
        ),
        pytest.param(
            {}, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 3, (1, 2, 3), id="then the siblings"
        ),
    ],
)
def test_the_best_cores_are_chosen(
    text_files: Tree,
    peaks: dict[int, int],
    siblings: dict[int, str],
    threads: int,
    chosen: tuple[int, ...],
) -> None:
    files = LocalFiles(text_files(topology(peaks, siblings)))
    assert choose_cores(files, range(4), threads) == chosen


@pytest.mark.skipif(affinity.allowed_cores() is None, reason="no affinity on this system")
def test_cores_that_a_process_may_not_use_are_refused() -> None:
    host, allowed = HostDevice(), affinity.allowed_cores()
    assert allowed
    host.require_cores(allowed[:1], 1)
    with pytest.raises(BadRequest, match="may not use core 4095") as refused:
        host.require_cores([allowed[0], 4095], 1)
    assert refused.value.hint == f"choose from --cores {','.join(map(str, allowed))}"


def test_only_core_0_is_core_0(tmp_path: Path) -> None:
    assert choose_cores(LocalFiles(tmp_path), [0], 1) == (0,)
