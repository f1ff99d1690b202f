"""Runs under load generators that take the CPU away: affected trials are tainted.

`python bench/disturbed.py` shows what becomes of the numbers; here, that a run notices and says so.
"""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from measuring import QUICK, small_plan

from latbench.device.host.device import HostDevice
from latbench.measure import Journal, Plan, measure

_CGROUP = Path("/sys/fs/cgroup/cpu")


def pinned(folder: Path) -> tuple[Plan, int]:
    """A plan of small models on one core, with visits long enough to be disturbed."""
    core = max(os.sched_getaffinity(0))
    settings = dataclasses.replace(QUICK, seconds=0.02, max_samples=2000, cool_down_s=0.1)
    plan = small_plan(folder, workloads=3, settings=settings)
    target = plan.target.model_copy(update={"cores": (core,)})
    return dataclasses.replace(plan, target=target), core


@contextmanager
def spinner(core: int) -> Iterator[None]:
    """A process that uses all of `core`."""
    spin = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_competitor_on_the_pinned_core_is_noticed_and_said(
    tmp_path: Path, device: HostDevice, journal: Journal
) -> None:
    plan, core = pinned(tmp_path / "models")
    with spinner(core):
        report = measure(plan, device, journal)
    assert report.complete
    assert report.taints.get("waiting", 0) >= len(plan.workloads)
    assert set(report.distrusted) >= {workload.key for workload in plan.workloads}
    reasons = [trial.taint for trial in journal.trials(report.run.id) if trial.taint]
    assert any("waiting: others had the core for" in reason for reason in reasons)


def test_a_quota_that_holds_the_runner_back_is_noticed_and_said(
    tmp_path: Path, device: HostDevice, journal: Journal
) -> None:
    group = _CGROUP / f"latbench-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("20000")
    except OSError:
        pytest.skip("this system lets us set no CPU quota (cgroup v1 and root)")
    home = _home_group()
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        report = measure(pinned(tmp_path / "models")[0], device, journal)
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        _remove(group)
    assert report.complete
    assert report.taints.get("throttled", 0) > 0
    assert report.distrusted


def _home_group() -> Path:
    """The cgroup of this process."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return _CGROUP / path.lstrip("/")
    return _CGROUP


def _remove(group: Path) -> None:
    for _ in range(100):  # runners that have just ended are still in it for a moment
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
