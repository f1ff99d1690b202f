"""What a LUT costs, beside the way it is done by hand: `python bench/lut_cost.py --runtime tflite`.

First `latbench profile` as users run it: the full space, 1 % intervals, calibration included. Then
ops as people time them today: a process an op, 10 warm-ups, 50 runs, their mean. Every fifth op is timed
so twice: how far the two disagree is how far such a number can be trusted. Then `--networks` whole
networks that neither has seen are timed, and predicted by the LUT and by the sum of what was timed by
hand, as it is and with the best common factor that could have been known. With `--union`, all inputs and
widths too: seconds an op and memory should stay what they are.

Seconds *inside* timed inference are the samples of all visits, also to the sentinel and the reference.
All else is *outside*: starts of runners, loads, warm-ups, messages, commits, decisions, waiting. The ratio
that is printed is outside / inside. `--journal FILE` measures nothing: it shows where the seconds of the
last run in a journal went.

Beside other work both grow with every wait for a core. So the same ratio is printed of CPU time too, which
such waits do not change: that of host and runners during the run, starts included, with the time inside
without the share of each visit in which its runner waited. `--budget SECONDS` only profiles, for so long at
the most. To compare two versions, alternate, with host and runners on one core and a journal's home of
their own: `OMP_NUM_THREADS=1 taskset -c 0 python bench/lut_cost.py --runtime onnx --budget 75`.
"""

import argparse
import contextlib
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latbench.device.protocol.client import RunnerClient, RunReply
from latbench.export import ArtifactStore, export_op
from latbench.lut import Lut
from latbench.measure import Journal
from latbench.space import SearchSpace
from latbench.space.design import varied_architectures
from latbench.target import Precision, Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.profile import profile
from latbench.workflows.target import TargetRequest, open_target
from latbench.workflows.validate import validate

WARM_UPS, RUNS = 10, 50
EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--budget", type=float, help="only profile, at most for so long, seconds")
    parser.add_argument("--networks", type=int, default=30, help="to judge both ways by")
    parser.add_argument("--union", action="store_true", help="all inputs and widths, at 5 %%")
    parser.add_argument("--journal", type=Path, help="show where the time of this profile went")
    options = parser.parse_args()
    if options.journal is not None:
        _where_the_time_went(options.journal)
        return
    request = TargetRequest(runtime=options.runtime, precision=options.precision)
    lut = _latbench(SearchSpace.named(), request, 0.01, options.budget or 600.0)
    if options.budget is not None:
        return
    _accuracy(lut, _by_hand(SearchSpace.named(), options.runtime), options.networks)
    if options.union:
        for size in (224, 192, 128, 96):
            for width in (1.0, 0.75, 0.5, 0.35):
                space = SearchSpace.named(input_size=size, width=width)
                _latbench(space, request, 0.05, 600.0)


class _CpuTime:
    """CPU time of this process and of the runners that it started, and the part of it inside, seconds."""

    def __init__(self) -> None:
        self.inside = 0.0
        self._began: float | None = None

    def begin(self, phase: str, done: int, total: int) -> None:
        """The progress of a profile: the run begins after the last export."""
        if phase == "measuring" and self._began is None:
            self._began = self._now()

    @property
    def spent(self) -> float:
        """Since the run began."""
        assert self._began is not None, "nothing was measured"
        return self._now() - self._began

    def note(self, reply: RunReply, warmups: int) -> None:
        """Add a visit, without the share of its samples in the time that its runner waited."""
        samples = len(reply.samples_ns)
        waited_s = (reply.waited_ms or 0.0) / 1e3 * samples / (samples + warmups)
        self.inside += max(0.0, sum(reply.samples_ns) / 1e9 - waited_s)

    @staticmethod
    def _now() -> float:
        return sum(os.times()[:4])


@contextlib.contextmanager
def _noting_visits(cpu: _CpuTime) -> Iterator[None]:
    run = RunnerClient.run

    def noted(self: RunnerClient, handle: str, *, warmups: int = 2, **named: Any) -> RunReply:
        reply = run(self, handle, warmups=warmups, **named)
        cpu.note(reply, warmups)
        return reply

    RunnerClient.run = noted  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        RunnerClient.run = run  # type: ignore[method-assign]


def _latbench(space: SearchSpace, request: TargetRequest, ci: float, budget_s: float) -> Lut:
    started, cpu = time.perf_counter(), _CpuTime()
    with tempfile.TemporaryDirectory() as folder, _noting_visits(cpu):
        journal = Path(folder) / "j"
        report = profile(
            request, space, ci=ci, budget_s=budget_s, journal=journal, progress=cpu.begin
        ).report
        outside_of_cpu = cpu.spent / cpu.inside - 1
        whole = time.perf_counter() - started
        lut = build_lut(journal)
        _where_the_time_went(journal)
    ops = len(space.unique_ops)
    wall, timed = report.session_wall_s, report.session_timed_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{space}, {request.runtime} {request.precision}: {whole:.1f} s with export, {wall:.1f} s measuring, "
        f"{timed:.1f} s inside timed inference, outside/inside {wall / timed - 1:.2f}, "
        f"of CPU time {outside_of_cpu:.2f}; {report.trials} visits, {ops} ops, "
        f"{wall / ops:.3f} s an op; {len(report.statuses) - len(report.unconverged)} of "
        f"{len(report.statuses)} workloads within {ci:.0%}; drift {report.drift or 0:.1%}; "
        f"host process at most {peak:.0f} MiB",
        flush=True,
    )
    return lut


def _where_the_time_went(path: Path) -> None:
    """Print by role what the visits of the last run in a journal took, seconds.

    `samples` are inside timed inference. `warm-ups` are their number times the visit's median; the first
    inference of a model that was just loaded takes longer, and its excess is in `request`, with the messages
    of the request to run and what the runner reads before and after. `load, rest` is the time until the next
    visit without that: loading, starts of runners, commits, readings of conditions, decisions, waiting.
    """
    with Journal(path, readonly=True) as journal:
        run = journal.run()
        trials = sorted(journal.trials(run.id), key=lambda trial: trial.started)
    spent: dict[str, tuple[float, ...]] = {}
    ends = [trial.started for trial in trials[1:]] + [trials[-1].started + trials[-1].duration_s]
    for trial, end in zip(trials, ends, strict=True):
        warm_ups = trial.warmups * trial.median_ms / 1e3 if trial.samples_ns.size else 0.0
        request = trial.duration_s - trial.timed_s - warm_ups
        rest = end - trial.started - trial.duration_s
        before = spent.get(trial.role, (0.0,) * 5)
        new = (1, trial.timed_s, warm_ups, request, rest)
        spent[trial.role] = tuple(map(sum, zip(before, new, strict=True)))
    inside = sum(row[1] for row in spent.values())
    print(f"{path.name}: {run.wall_s:.1f} s, outside/inside {run.wall_s / inside - 1:.2f}")
    print(f"{'':10} visits  samples warm-ups request load, rest")
    for role, row in spent.items():
        print(f"{role:10} {row[0]:6.0f} {row[1]:8.1f} {row[2]:8.1f} {row[3]:7.1f} {row[4]:10.1f}")


def _by_hand(space: SearchSpace, runtime: Runtime) -> dict[str, float]:
    """What every op takes, ms, as people time it today."""
    opened = open_target(TargetRequest(runtime=runtime, precision=Precision.FP32, threads=1))
    unit, target = opened.unit, opened.target
    store = ArtifactStore()
    paths = {
        op.key: str(export_op(op, target.runtime, target.precision, store).path)
        for op in space.unique_ops
    }

    def timed(path: str) -> float:
        runner = unit.open_runner()
        runner.hello()
        handle = runner.load(path, target.runtime, threads=1, cores=target.cores).handle
        reply = runner.run(handle, warmups=WARM_UPS, min_samples=RUNS, max_samples=RUNS, seconds=0)
        runner.quit()
        return statistics.fmean(reply.samples_ns) / 1e6

    started = time.perf_counter()
    found = {key: timed(path) for key, path in paths.items()}
    whole = time.perf_counter() - started
    twice = [abs(timed(paths[key]) / found[key] - 1) for key in list(found)[::EVERY]]
    print(
        f"by hand, {runtime}: {whole:.1f} s for all ops; the same op twice differs by "
        f"{statistics.median(twice):.1%} (median of {len(twice)}), {max(twice):.1%} (worst)",
        flush=True,
    )
    return found


def _accuracy(lut: Lut, by_hand: dict[str, float], networks: int) -> None:
    """How far either way is from whole networks, measured at the level of the LUT's run."""
    validation = validate(lut, networks=networks, seed=networks)
    figures = validation.figures
    learnt = len(lut.correction.calibration) if lut.correction else 0
    drawn = varied_architectures(lut.search_space, networks + learnt, seed=networks)
    ops = {str(one): one.ops for one in drawn}
    sums = [
        sum(by_hand[op.key] for op in ops[one.name]) / one.measured_ms
        for one in validation.networks
    ]
    middle = statistics.median(sums)
    print(f"{networks} unseen networks, drift {figures.drift:.0f} %")
    print(
        f"  the LUT                   mean error {figures.mape:.2f} %, worst {figures.worst:.1f} %"
    )
    for name, ratios in (
        ("by hand, sums", sums),
        ("by hand, best factor", [ratio / middle for ratio in sums]),
    ):
        errors = [100 * abs(ratio - 1) for ratio in ratios]
        print(
            f"  {name:25} mean error {statistics.fmean(errors):.2f} %, worst {max(errors):.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
