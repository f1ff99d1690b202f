"""What a LUT costs, beside the way it is done by hand: `python bench/lut_cost.py --runtime tflite`.

First `latbench profile` as users run it: the full space, 1 % intervals, calibration included. Then
ops as people time them today: a process an op, 10 warm-ups, 50 runs, their mean. `--by-hand` of them,
evenly over the space, are timed so twice, in two processes each; the seconds of one time are scaled up
to all ops, and how far the two disagree is how far such a number can be trusted. With `--union`,
all inputs and widths too: seconds an op and memory should stay what they are.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

from latbench.api import profile
from latbench.export import ArtifactStore, export_op
from latbench.opening import open_target
from latbench.space import SearchSpace
from latbench.target import Precision, Runtime

WARM_UPS, RUNS = 10, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--by-hand", type=int, default=20, metavar="N", help="ops timed by hand")
    parser.add_argument("--union", action="store_true", help="all inputs and widths, at 5 %%")
    options = parser.parse_args()
    _latbench(SearchSpace.named(), options.runtime, 0.01)
    _by_hand(SearchSpace.named(), options.runtime, options.by_hand)
    if options.union:
        for size in (224, 192, 128, 96):
            for width in (1.0, 0.75, 0.5, 0.35):
                _latbench(SearchSpace.named(input_size=size, width=width), options.runtime, 0.05)


def _latbench(space: SearchSpace, runtime: Runtime, ci: float) -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = profile(space=space, runtime=runtime, ci=ci, journal=Path(folder) / "j").report
    whole = time.perf_counter() - started
    ops = len(space.unique_ops)
    wall, timed = report.session_wall_s, report.session_timed_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{space}, {runtime}: {whole:.1f} s with export, {wall:.1f} s measuring, "
        f"{timed:.1f} s inside timed inference, ratio {wall / timed:.2f}; {ops} ops, "
        f"{wall / ops:.3f} s an op; {len(report.standings) - len(report.unconverged)} of "
        f"{len(report.standings)} subjects within {ci:.0%}; drift {report.drift or 0:.1%}; "
        f"host process at most {peak:.0f} MiB",
        flush=True,
    )


def _by_hand(space: SearchSpace, runtime: Runtime, count: int) -> None:
    unit, target = open_target("host", runtime, Precision.FP32, 1, None)
    store = ArtifactStore()
    step = max(1, len(space.unique_ops) // count)
    chosen = space.unique_ops[::step]
    seconds, repeated = [], []
    for op in chosen:
        path = str(export_op(op, target.runtime, target.precision, store).path)
        means = []
        for _ in range(2):
            started = time.perf_counter()
            runner = unit.open_runner()
            runner.hello()
            handle = runner.load(path, target.runtime, threads=1, cores=target.cores).handle
            reply = runner.run(
                handle, warmups=WARM_UPS, min_samples=RUNS, max_samples=RUNS, seconds=0.0
            )
            runner.quit()
            seconds.append(time.perf_counter() - started)
            means.append(statistics.fmean(reply.samples_ns))
        repeated.append(abs(means[1] / means[0] - 1))
    total = statistics.fmean(seconds) * len(space.unique_ops)
    print(
        f"by hand, {runtime}: {total:.1f} s for all ops, scaled up from {len(chosen)}; the same op "
        f"twice differs by {statistics.median(repeated):.1%} (median), "
        f"{max(repeated):.1%} (worst)",
        flush=True,
    )


if __name__ == "__main__":
    main()
