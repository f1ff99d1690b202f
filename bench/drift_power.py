"""How often `latbench drift` is wrong: `python bench/drift_power.py --runs 12`.

The space is profiled `--runs` times on this machine, and every pair of LUTs is compared. Nothing changed
between them, so every report of drift is a false alarm. Then changes are injected into the second LUT of
each pair: one op 5 % slower, each op in turn (found if that op is reported slower); everything 3 %
slower, whole networks included and the reference not (found if the level or a network is). `--journals`
keeps the trials: the same command with more runs takes only those that are missing. `--calibrate 0
--ci 0.005` does it with ops that are timed alone.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from latbench.lut import Entry, Lut
from latbench.lut.drift import DriftReport, NetworkDrift, compare_luts
from latbench.lut.ratios import Verdict
from latbench.lut.schema import TimedNetwork
from latbench.space import SearchSpace
from latbench.target import Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.profile import CALIBRATE, profile
from latbench.workflows.target import TargetRequest

ONE_OP, EVERYTHING = 1.05, 1.03
FOUND_ENOUGH = 0.95

Timed = TypeVar("Timed", Entry, TimedNetwork)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--space", default="fbnet")
    parser.add_argument("--input", type=int)
    parser.add_argument("--ci", type=float, default=0.01)
    parser.add_argument("--calibrate", type=int, default=CALIBRATE, help="0: ops alone")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--journals", type=Path, help="keep trials here, and use those that are")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args()
    space = SearchSpace.named(options.space, input_size=options.input)
    with tempfile.TemporaryDirectory() as folder:
        kept = options.journals or Path(folder)
        luts = []
        for number in range(options.runs):
            journal = kept / f"{options.runtime}-{options.calibrate}-{number}.sqlite"
            profile(
                TargetRequest(runtime=options.runtime),
                space,
                calibrate=options.calibrate,
                ci=options.ci,
                journal=journal,
            )
            luts.append(build_lut(journal))
            _show(number, luts[-1])
    found = _judge(luts)
    for name, value in found.items():
        print(f"{name:44} {value:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _show(number: int, lut: Lut) -> None:
    sentinel = lut.sentinel
    print(
        f"run {number}: {lut.method['wall_seconds']:.0f} s, {lut.method['trials']} trials, "
        f"{lut.conditions['tainted_trials']} tainted, drift "
        f"{0 if sentinel is None else sentinel.drift:.0%}",
        flush=True,
    )


def _judge(luts: list[Lut]) -> dict[str, float]:
    pairs = list(itertools.combinations(luts, 2))
    reports = [compare_luts(*pair) for pair in pairs]
    comparable = [report for report in reports if report.overall is not None]
    one_op: dict[str, list[bool]] = defaultdict(list)
    for before, after in pairs:
        for key in after.entries:
            report = compare_luts(before, _with_one_slower(after, key))
            one_op[key].append(key in {entry.key for entry in report.of(Verdict.SLOWER)})
    everything = [compare_luts(before, _slower(after)) for before, after in pairs]
    levels = [math.log(report.overall.ratio) for report in comparable if report.overall]
    timed = [math.log(one.change.ratio) for one in _timed(comparable)]
    untouched = [math.log(one.current_ms / one.baseline_ms) for one in _timed(comparable)]
    shares = [statistics.fmean(hits) for hits in one_op.values()]
    return {
        "pairs": len(pairs),
        "cannot compare, %": _percent(report.overall is None for report in reports),
        "false alarms, % of pairs": _percent(report.drifted for report in reports),
        "  of which by an op, %": _percent(_ops(report) for report in reports),
        "  of which by level or network, %": _percent(_whole(report) for report in reports),
        f"one op {ONE_OP - 1:.0%} slower found, %": 100 * statistics.fmean(shares),
        f"  ops found in {FOUND_ENOUGH:.0%} of pairs, %": _percent(
            share >= FOUND_ENOUGH for share in shares
        ),
        "  worst op, % of pairs": 100 * min(shares),
        f"everything {EVERYTHING - 1:.0%} slower found, %": _percent(
            _whole(report, Verdict.SLOWER) for report in everything
        ),
        "level of ops between runs, rms %": _rms(levels),
        "timed networks between runs, rms %": _rms(untouched),
        "  the reference divided out, rms %": _rms(timed),
    }


def _timed(reports: list[DriftReport]) -> Iterator[NetworkDrift]:
    for report in reports:
        yield from (one for one in report.networks if one.name.endswith("timed"))


def _ops(report: DriftReport) -> bool:
    return bool(report.of(Verdict.SLOWER) or report.of(Verdict.FASTER))


def _whole(report: DriftReport, *verdicts: Verdict) -> bool:
    wanted = verdicts or (Verdict.SLOWER, Verdict.FASTER)
    changes = [one.change for one in report.networks]
    return any(one.verdict in wanted for one in [*changes, *filter(None, [report.overall])])


def _percent(hits: Iterator[bool] | list[bool]) -> float:
    return 100 * statistics.fmean(list(hits))


def _rms(values: list[float]) -> float:
    return 100 * math.sqrt(statistics.fmean(value**2 for value in values)) if values else math.nan


def _scaled(timed: Timed, factor: float) -> Timed:
    low, high = timed.ci95
    return timed.model_copy(update={"ms": timed.ms * factor, "ci95": (low * factor, high * factor)})


def _with_one_slower(lut: Lut, key: str) -> Lut:
    slower = {key: _scaled(lut[key], ONE_OP)}
    return lut.model_copy(update={"entries": lut.entries | slower})


def _slower(lut: Lut) -> Lut:
    entries = {key: _scaled(entry, EVERYTHING) for key, entry in lut.entries.items()}
    correction = lut.correction
    if correction is not None:
        timed = tuple(_scaled(one, EVERYTHING) for one in correction.calibration)
        correction = correction.model_copy(update={"calibration": timed})
    return lut.model_copy(update={"entries": entries, "correction": correction})


if __name__ == "__main__":
    main()
