"""Does a disturbed run give the same LUT, or say that it cannot? `python bench/disturbed.py`.

The space is profiled twice undisturbed, then under load generators that throttle this machine on
purpose: a CPU quota of the runners' cgroup that comes and goes (needs root), a spinning process on the
pinned core that comes and goes, a clock limit that steps down and up (told through the conditions that
a run reads; it slows nothing, but must be heeded), and a spinning process that stays. Each LUT is
compared with the first as `latbench drift` does. `apart` counts entries whose interval does not meet that
of the first, `said` those of them that the LUT itself calls distrusted.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from latbench.device.host.device import HostDevice
from latbench.lut import Lut
from latbench.lut.drift import compare_luts
from latbench.lut.ratios import Verdict
from latbench.measure import Settings
from latbench.space import SearchSpace
from latbench.space.design import calibration_architectures
from latbench.target import Precision, Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.runs import Selection, measured, planned, silent
from latbench.workflows.target import TargetRequest, open_target

ON_S, OFF_S = 2.0, 5.0
QUOTA = 0.4
PEAK_KHZ, CAPPED_KHZ = 2_400_000, 1_200_000
CGROUP = Path("/sys/fs/cgroup/cpu/latbench-disturbed")  # cgroup v1
CGROUP_2 = Path("/sys/fs/cgroup/latbench-disturbed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--space", default="fbnet")
    parser.add_argument("--input", type=int)
    parser.add_argument("--ci", type=float, default=0.01)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds a run")
    options = parser.parse_args()
    space = SearchSpace.named(options.space, input_size=options.input)
    request = TargetRequest(runtime=options.runtime, precision=Precision.FP32, threads=1)
    with open_target(request) as opened:
        target = opened.target
    core = target.cores[0]
    print(f"{target}; {space}; load on {ON_S:g} s, off {OFF_S:g} s")

    def profile(root: Path = Path("/")) -> Lut:
        settings = Settings(ci=options.ci, budget_s=options.budget)
        networks, unit = tuple(calibration_architectures(space, 12)), HostDevice(root)
        selection = Selection(space, space.unique_ops, networks, sandwiched=True)
        plan, note = planned(unit, target, selection, settings, silent)
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "j"
            measured(plan, (unit,), journal, silent, note)
            return build_lut(journal, partial=True)

    clean = profile()
    print(f"{'run':22} {'s':>4} {'trials':>6} {'tainted':>7} {'differ':>6} {'apart':>5} {'said':>4} "
          f"{'slower':>6} {'faster':>6}  level and verdict")  # fmt: skip
    _show("undisturbed", clean, clean)
    _show("undisturbed again", clean, profile())
    with quota() as told:
        _show(f"quota, {told}", clean, profile())
    with spinner(core, comes_and_goes=True):
        _show("spinner on the core", clean, profile())
    with stepping_clock(core) as root:
        _show("clock steps", clean, profile(root))
    with spinner(core, comes_and_goes=False):
        _show("spinner that stays", clean, profile())


def _show(name: str, clean: Lut, lut: Lut) -> None:
    report = compare_luts(clean, lut)
    pairs = [(clean[key], lut[key]) for key in lut.entries]
    apart = [now for was, now in pairs if now.ci95[0] > was.ci95[1] or now.ci95[1] < was.ci95[0]]
    said = [now for now in apart if "distrusted" in now.warnings]
    differ = statistics.median(abs(now.ms / was.ms - 1) for was, now in pairs)
    reasons = ", ".join(f"{kind} {n}" for kind, n in lut.conditions["tainted_by"].items())
    level = "-" if report.overall is None else f"{report.overall.ratio - 1:+.1%}"
    if not report.comparable:
        verdict = "cannot compare: " + ", ".join(one.what for one in report.changes if one.blocks)
    else:
        verdict = "drift" if report.drifted else "no drift"
    distrusted = sum("distrusted" in entry.warnings for entry in lut.entries.values())
    print(
        f"{name:22} {lut.method['wall_seconds']:4.0f} {lut.method['trials']:6} "
        f"{lut.conditions['tainted_trials']:7} {100 * differ:5.2f}% {len(apart):5} {len(said):4} "
        f"{len(report.of(Verdict.SLOWER)):6} {len(report.of(Verdict.FASTER)):6}  {level} {verdict}; "
        f"{distrusted} of {len(lut)} distrusted; {reasons or 'nothing tainted'}",
        flush=True,
    )


# Load generators


@contextlib.contextmanager
def spinner(core: int, *, comes_and_goes: bool) -> Iterator[None]:
    """A process that wants all of `core`, all the time or by turns."""
    spin = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    try:
        if not comes_and_goes:
            yield
            return
        with by_turns(
            lambda: process.send_signal(signal.SIGCONT), lambda: process.send_signal(signal.SIGSTOP)
        ):
            yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def quota() -> Iterator[str]:
    """A CPU quota for this process and those it starts, by turns; yields what it is of."""
    version_1 = CGROUP.parent.is_dir()
    group = CGROUP if version_1 else CGROUP_2
    home = group.parent
    group.mkdir(exist_ok=True)

    def limit(share: float | None) -> None:
        micros = int(100_000 * share) if share else None
        if version_1:
            (group / "cpu.cfs_quota_us").write_text(str(micros or -1))
        else:
            (group / "cpu.max").write_text(f"{micros or 'max'} 100000")

    own = Path("/proc/self/cgroup").read_text()
    where = next((line.split(":")[2] for line in own.splitlines() if ":cpu" in line), "/")
    procs = "cgroup.procs"
    (group / procs).write_text(str(os.getpid()))
    try:
        with by_turns(lambda: limit(QUOTA), lambda: limit(None)):
            yield f"{QUOTA:.0%} of a core"
    finally:
        limit(None)
        back = home / where.lstrip("/") if version_1 else home
        (back / procs).write_text(str(os.getpid()))
        for _ in range(100):  # runners that have just ended are still listed for a moment
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                break


@contextlib.contextmanager
def stepping_clock(core: int) -> Iterator[Path]:
    """A root of /sys in which a core's clock is capped by turns; yields it."""
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "proc/cpuinfo"  # it is still this machine
        described.parent.mkdir()
        described.write_bytes(Path("/proc/cpuinfo").read_bytes())
        files = Path(folder) / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files.mkdir(parents=True)
        (files / "cpuinfo_max_freq").write_text(f"{PEAK_KHZ}\n")

        def limit(khz: int) -> None:
            new = files / "new"
            new.write_text(f"{khz}\n")
            new.replace(files / "scaling_max_freq")

        with by_turns(lambda: limit(CAPPED_KHZ), lambda: limit(PEAK_KHZ)):
            yield Path(folder)


@contextlib.contextmanager
def by_turns(on: Callable[[], None], off: Callable[[], None]) -> Iterator[None]:
    """Call `off` now, and `on` and `off` by turns until the end."""
    done = threading.Event()

    def turn() -> None:
        while not done.wait(OFF_S):
            on()
            done.wait(ON_S)
            off()

    off()
    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        off()


if __name__ == "__main__":
    main()
