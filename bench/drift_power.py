"""How often `latbench drift` is wrong: `python bench/drift_power.py --journals FOLDER --runs 21`.

FBNet's space is profiled `--runs` times with each `--runtime`, in turns, with pauses; every pair of LUTs of a
target is compared. Nothing changed between them, so every report of drift is a false alarm. Then changes
are injected into the second LUT of each pair: one op 5 % slower (found if that op is reported slower; every
eighth op, others in each pair, so that all ops take part), and everything 3 % slower, whole networks included
and the reference not (found if the level or a network is reported slower).

FOLDER keeps the journals. The same command with more runs takes only those that are missing; with
`--runs 0` it judges the journals that are there, with the present code. The constants of
`latbench.lut.ratios.Noise` were set with the first fourteen runs of a target, so the later ones judge them.

The figures go to bench/results/drift/CPU-DATE.json (`--out`), and `--page` writes the table of docs/drift.md
from all files there.
"""

import argparse
import itertools
import math
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.accuracy import this_machine, version
from bench.accuracy_results import Machine, file_stem
from latbench.files import write_atomically
from latbench.lut import Entry, Lut
from latbench.lut.drift import DriftReport, compare_luts
from latbench.lut.ratios import Verdict
from latbench.lut.schema import TimedNetwork
from latbench.measure import Journal
from latbench.measure.records import RunState
from latbench.record import Count, Number, Record
from latbench.space import SearchSpace
from latbench.target import Runtime
from latbench.wording import count_of
from latbench.workflows.build_lut import build_lut
from latbench.workflows.profile import CALIBRATE, profile
from latbench.workflows.target import TargetRequest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "drift"
PAGE = ROOT / "docs" / "drift.md"

ONE_OP, EVERYTHING = 1.05, 1.03

#: The runs with lower numbers set the constants of `latbench.lut.ratios.Noise`.
TUNED = 14

#: One op in so many is slowed down in each pair.
_EVERY = 8

_BLOCK = re.compile(r"(<!-- table: drift -->\n).*?(<!-- end of table -->)", re.DOTALL)

Timed = TypeVar("Timed", Entry, TimedNetwork)


class RunFigures(Record):
    """One profile: when it started, how long it took, and how restless the machine was.

    `load_average` is the lowest and the highest that the run read; `half_width` half the 95 % interval of the
    median entry, relative; latencies are in milliseconds, `networks_ms` the geometric mean of those timed.
    """

    number: Count
    started: str
    seconds: Number
    load_average: tuple[Number, ...]
    sentinel_drift: Number
    trials: Count
    tainted: Count
    half_width: Number
    reference_ms: Number | None
    networks_ms: Number | None


class Rates(Record):
    """Shares of pairs, 0 to 1; found and false are shares of the pairs that could be compared.

    `promised` is the share whose report says that a change of everything of 3 % is found reliably, and
    `promised_found` the share of them in which it was. The last three are root mean squares over pairs,
    relative: the overall change of ops, the timed networks, and the same beyond the machine.
    """

    runs: Count
    pairs: Count
    cannot_compare: Number
    false_alarms: Number
    false_by_level: Number
    false_by_networks: Number
    false_by_ops: Number
    false_if_strict: Number
    everything_found: Number
    promised: Number
    promised_found: Number | None
    one_op_found: Number
    ops_promised: Number
    ops_promised_found: Number | None
    ops_rms: Number
    networks_rms: Number
    beyond_rms: Number


class TargetFigures(Record):
    """The runs of one target, and how often their comparisons were wrong."""

    target: str
    runtime_version: str
    calibration_networks: Count
    runs: tuple[RunFigures, ...]
    judged: Rates | None
    all_runs: Rates


class Results(Record):
    """A file of bench/results/drift."""

    source: str
    date: str
    command: str
    latbench: str
    python: str
    machine: Machine
    note: str
    targets: tuple[TargetFigures, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench with these arguments, by default those of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--journals", type=Path, help="keep the trials here, and use those that are"
    )
    parser.add_argument("--runtime", type=Runtime, action="append", help="may be repeated")
    parser.add_argument("--runs", type=int, default=21, help="of each runtime; 0: measure nothing")
    parser.add_argument("--calibrate", type=int, default=CALIBRATE, help="0: ops alone")
    parser.add_argument("--ci", type=float, default=0.01)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds a run")
    parser.add_argument("--pause", type=float, default=20.0, help="seconds between runs")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--out", type=Path, help="the file of figures")
    parser.add_argument("--page", action="store_true", help="write the table of docs/drift.md")
    options = parser.parse_args(arguments)
    if options.journals is None and not options.page:
        parser.error("give --journals FOLDER, or --page")
    if options.journals is not None:
        _judge_journals(options)
    if options.page:
        write_atomically(PAGE, rendered(PAGE.read_text(encoding="utf-8")))


def _judge_journals(options: argparse.Namespace) -> None:
    folder = options.journals.resolve()
    os.environ["LATBENCH_HOME"] = str(folder / "home")
    runtimes = options.runtime or [Runtime.TFLITE, Runtime.ONNX]
    for number in range(options.runs):
        for runtime in runtimes:
            path = folder / f"{runtime}-{options.calibrate}-{number}.sqlite"
            if not path.exists():
                _profile(runtime, path, options)
                time.sleep(options.pause)
    targets = []
    for runtime in runtimes:
        pattern = re.compile(rf"{runtime}-{options.calibrate}-(\d+)\.sqlite")
        paths = {
            int(match[1]): path
            for path in folder.iterdir()
            if (match := pattern.fullmatch(path.name))
        }
        luts = dict(_luts(paths))
        print(f"{runtime}: {count_of(len(luts), 'run')}", flush=True)
        targets.append(_figures(luts))
    date = datetime.now(UTC).date().isoformat()
    machine = this_machine()
    results = Results(
        source="judged from journals by bench/drift_power.py",
        date=date,
        command=_command(options),
        latbench=version(),
        python=platform.python_version(),
        machine=machine,
        note=options.note,
        targets=tuple(targets),
    )
    out = options.out or RESULTS / f"{file_stem(machine, date)}.json"
    write_atomically(out, results.model_dump_json(indent=1) + "\n")
    print(f"wrote {out}")
    for one in targets:
        print(one.target)
        for name, rates in (("judged", one.judged), ("all", one.all_runs)):
            print(f"  {name}: {rates}")


def _luts(paths: dict[int, Path]) -> Iterator[tuple[int, Lut]]:
    """The LUT of each run that has ended."""
    for number, path in sorted(paths.items()):
        with Journal(path, readonly=True) as journal:
            running = journal.run().state is RunState.RUNNING
        if not running:
            yield number, build_lut(path)


def _profile(runtime: Runtime, path: Path, options: argparse.Namespace) -> None:
    profile(
        TargetRequest(runtime=runtime),
        SearchSpace.named("fbnet"),
        calibrate=options.calibrate,
        ci=options.ci,
        budget_s=options.budget,
        journal=path,
    )


def _command(options: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    words = ["python", "bench/drift_power.py", "--journals", "FOLDER"]
    defaults = {"runs": 21, "calibrate": CALIBRATE, "ci": 0.01, "budget": 600.0, "pause": 20.0}
    for name, default in defaults.items():
        if (value := getattr(options, name)) != default:
            words += [f"--{name}", f"{value:g}"]
    for runtime in options.runtime or ():
        words += ["--runtime", str(runtime)]
    return shlex.join(words)


# Figures


def _figures(luts: dict[int, Lut]) -> TargetFigures:
    first = next(iter(luts.values()))
    judged = [lut for number, lut in luts.items() if number >= TUNED]
    return TargetFigures(
        target=str(first.target),
        runtime_version=first.tool["runtime_version"],
        calibration_networks=0 if first.correction is None else first.correction.networks,
        runs=tuple(_run(number, lut) for number, lut in luts.items()),
        judged=_rates(judged) if len(judged) > 1 else None,
        all_runs=_rates(list(luts.values())),
    )


def _run(number: int, lut: Lut) -> RunFigures:
    networks = [one.ms for one in lut.correction.calibration] if lut.correction else []
    return RunFigures(
        number=number,
        started=lut.method["started"],
        seconds=round(lut.method["wall_seconds"], 1),
        load_average=tuple(lut.conditions.get("load_average", ())),
        sentinel_drift=round(lut.sentinel.drift, 3) if lut.sentinel else 0.0,
        trials=lut.method["trials"],
        tainted=lut.conditions["tainted_trials"],
        half_width=round(
            statistics.median(one.relative_half_width for one in lut.entries.values()), 4
        ),
        reference_ms=round(lut.reference.ms, 4) if lut.reference else None,
        networks_ms=round(statistics.geometric_mean(networks), 4) if networks else None,
    )


def _rates(luts: list[Lut]) -> Rates:
    pairs = list(itertools.combinations(luts, 2))
    reports = [compare_luts(*pair) for pair in pairs]
    known = [
        (pair, report) for pair, report in zip(pairs, reports, strict=True) if report.comparable
    ]
    slowed = [(report, compare_luts(pair[0], _slower(pair[1]))) for pair, report in known]
    found = [(_reliable(report), _whole(after, Verdict.SLOWER)) for report, after in slowed]
    ops = list(_single_ops(known))
    raw = [report for _, report in known]
    return Rates(
        runs=len(luts),
        pairs=len(pairs),
        cannot_compare=_share(not report.comparable for report in reports),
        false_alarms=_share(report.drifted for report in raw),
        false_by_level=_share(report.level_drifted for report in raw),
        false_by_networks=_share(
            any(one.change.drifted for one in report.networks) for report in raw
        ),
        false_by_ops=_share(
            bool(report.of(Verdict.SLOWER) or report.of(Verdict.FASTER)) for report in raw
        ),
        false_if_strict=_share(compare_luts(*pair, strict_level=True).drifted for pair, _ in known),
        everything_found=_share(hit for _, hit in found),
        promised=_share(promised for promised, _ in found),
        promised_found=_share_or_none(hit for promised, hit in found if promised),
        one_op_found=_share(hit for _, hit in ops),
        ops_promised=_share(promised for promised, _ in ops),
        ops_promised_found=_share_or_none(hit for promised, hit in ops if promised),
        ops_rms=_rms(report.overall.ratio for report in raw if report.overall),
        networks_rms=_rms(
            one.current_ms / one.baseline_ms
            for report in raw
            for one in report.networks
            if one.name.endswith("timed")
        ),
        beyond_rms=_rms(report.beyond.ratio for report in raw if report.beyond),
    )


def _single_ops(known: list[tuple[tuple[Lut, Lut], DriftReport]]) -> Iterator[tuple[bool, bool]]:
    """For single ops that are slowed down: whether the report promises that, and whether it was found."""
    for number, ((before, after), report) in enumerate(known):
        entries = {one.key: one for one in report.entries}
        for key in sorted(after.entries)[number % _EVERY :: _EVERY]:
            slow = {key: _scaled(after[key], ONE_OP)}
            drifted = compare_luts(
                before, after.model_copy(update={"entries": after.entries | slow})
            )
            change = entries[key].change
            promised = change is not None and change.detectable <= ONE_OP
            yield promised, key in {one.key for one in drifted.of(Verdict.SLOWER)}


def _reliable(report: DriftReport) -> bool:
    return report.level is not None and report.level.detectable <= EVERYTHING


def _whole(report: DriftReport, verdict: Verdict) -> bool:
    changes = [one.change for one in report.networks] + ([report.level] if report.level else [])
    return any(change.verdict is verdict for change in changes)


def _share(hits: Iterable[bool]) -> float:
    return _share_or_none(hits) or 0.0


def _share_or_none(hits: Iterable[bool]) -> float | None:
    known = list(hits)
    return round(statistics.fmean(known), 4) if known else None


def _rms(ratios: Iterable[float]) -> float:
    logs = [math.log(ratio) for ratio in ratios]
    return round(math.sqrt(statistics.fmean(log**2 for log in logs)), 5) if logs else 0.0


def _scaled(timed: Timed, factor: float) -> Timed:
    low, high = timed.ci95
    return timed.model_copy(update={"ms": timed.ms * factor, "ci95": (low * factor, high * factor)})


def _slower(lut: Lut) -> Lut:
    entries = {key: _scaled(entry, EVERYTHING) for key, entry in lut.entries.items()}
    correction = lut.correction
    if correction is not None:
        timed = tuple(_scaled(one, EVERYTHING) for one in correction.calibration)
        correction = correction.model_copy(update={"calibration": timed})
    return lut.model_copy(update={"entries": entries, "correction": correction})


# The page


def rendered(text: str) -> str:
    """The text of docs/drift.md with its table as the files in bench/results/drift have it."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted(RESULTS.glob("*.json"))}
    results = {path: Results.model_validate_json(found) for path, found in files.items()}
    body = "\n\n".join(_table(path, one) for path, one in results.items())
    return _BLOCK.sub(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text)


def _cell(rates: Rates, name: str) -> str:
    """One figure; a dash where no pair could be compared."""
    known = name == "cannot_compare" or rates.cannot_compare < 1
    share = getattr(rates, name) if known else None
    return "–" if share is None else f"{100 * share:.1f} %"


def _table(path: Path, results: Results) -> str:
    """The table of one file, and where it comes from."""
    columns = [
        (one.target, name, rates)
        for one in results.targets
        for name, rates in (("later runs", one.judged), ("all runs", one.all_runs))
        if rates is not None
    ]
    rows = [
        ("runs, pairs", [f"{rates.runs}, {rates.pairs}" for _, _, rates in columns]),
        *((title, [_cell(rates, name) for _, _, rates in columns]) for title, name in _ROWS),
    ]
    where = f"../bench/results/drift/{path.name}"
    head = [f"{target.split(' on ')[0]}: {name}" for target, name, _ in columns]
    lines = [
        f"**{results.machine.title}**, {results.date} ([figures]({where})).",
        results.note,
        "",
        f"| | {' | '.join(head)} |",
        "| --- |" + " --- |" * len(head),
        *(f"| {title} | {' | '.join(cells)} |" for title, cells in rows),
    ]
    return "\n".join(lines)


_ROWS = (
    ("could not be compared (intervals wider than the tolerance)", "cannot_compare"),
    ("false alarms", "false_alarms"),
    ("false alarms with `--strict-level`", "false_if_strict"),
    ("everything 3 % slower: found", "everything_found"),
    ("reports that promise so much", "promised"),
    ("found where promised", "promised_found"),
    ("one op 5 % slower: found", "one_op_found"),
    ("ops of which so much is promised", "ops_promised"),
    ("found where promised", "ops_promised_found"),
    ("overall change between runs (root mean square)", "ops_rms"),
    ("timed networks between runs", "networks_rms"),
    ("the same beyond the machine", "beyond_rms"),
)


if __name__ == "__main__":
    main()
