"""Build a LUT from the trials of one run: `latbench build-lut`.

An entry is the statistic of an op's trusted trials (`latbench.measure.evidence`), normalised to the
run's baseline quarter (`latbench.measure.slowdown`). If an op was timed in a sandwich, its frames were timed
in the same rounds, and half of each pair of frames is subtracted (`latbench.space.sandwich`). The whole
networks of the run become the correction (`latbench.lut.calibrate`).
"""

import math
import platform
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from latbench._version import __version__
from latbench.device.catalogue import find_device
from latbench.errors import BadRequest, LutRefused, MissingOps
from latbench.lut.calibrate import calibrate
from latbench.lut.faster_run import FasterRun
from latbench.lut.schema import Entry, Lut, Reference, Sentinel, TimedNetwork
from latbench.measure import taint
from latbench.measure.evidence import Evidence
from latbench.measure.journal import Journal
from latbench.measure.ledger import Result
from latbench.measure.modes import outliers, within_rounds
from latbench.measure.plan import Role, loads_cheaply
from latbench.measure.records import NetworkNote, Run, Trial
from latbench.measure.report import unit_parts
from latbench.measure.slowdown import Slowdowns
from latbench.space.architecture import Architecture
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.sandwich import frames_of
from latbench.space.search_space import SearchSpace
from latbench.statistics import Summary, drift
from latbench.workflows import history
from latbench.workflows.runs import last_profile, target_stem

#: The smallest share of its sandwich that an op may have.
_MIN_SHARE = 0.01

#: The smallest relative standard error caused by the placement of a model in memory, where few runners keep
#: it.
_PLACEMENT_SD = 0.006

Readings = Mapping[str, Sequence[Mapping[str, Any]]]


def build_lut(journal: Path | None = None, *, partial: bool = False) -> Lut:
    """Build the LUT of the last run in a journal, by default of the last profile.

    Args:
        journal: the journal's file.
        partial: accept a run that lacks ops of its space.

    Raises:
        LatbenchError: no profile was measured yet.
        JournalRefused: the journal cannot be read.
        MissingOps: the run lacks ops and `partial` is false.
    """
    path = journal or last_profile()
    with Journal(path, readonly=True) as opened:
        return lut_of_run(opened, macs=lambda key: parse_key(key).macs, partial=partial)


def run_command(journal: Path | None = None) -> str:
    """The complete command that continues the run of which `build_lut` makes a LUT.

    Raises:
        LatbenchError: as `build_lut`.
    """
    path = journal or last_profile()
    with Journal(path, readonly=True) as opened:
        return profile_command(opened.run(), path)


def lut_stem(lut: Lut) -> str:
    """The default name of a LUT's file, without suffix."""
    return target_stem(find_device(lut.target.device), lut.target)


def lut_of_run(
    journal: Journal,
    run: int | None = None,
    *,
    macs: Callable[[str], int],
    partial: bool = False,
) -> Lut:
    """Build the LUT of a run.

    Args:
        journal: may be open for reading only, even while another process measures.
        run: the run's id; by default the run that was measured last.
        macs: returns the multiply-accumulates of an op, by key.
        partial: accept a run that lacks ops of its space.

    Raises:
        BadRequest: there is no such run, or it is not of a search space.
        MissingOps: it lacks ops of its space; the message lists them and the command that measures them.
        LutRefused: its trials hold values that a LUT must not hold.
    """
    data = _RunData.read(journal, journal.run(run))
    measured = data.measured_ops
    missing = [op.key for op in data.space.unique_ops if op.key not in measured]
    if missing and (not partial or not measured):
        raise _missing(journal, data, missing)
    try:
        return _lut_of(data, {key: macs(key) for key in measured})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise LutRefused(
            f"run {data.run.id} in {journal.path} holds values that a LUT must not hold:",
            details=problems[:8],
            hint=f"measure it again with: {profile_command(data.run, journal.path)} --fresh",
        ) from None


def profile_command(run: Run, journal: Path) -> str:
    """The complete command that continues a run of a search space in its journal.

    Raises:
        BadRequest: it is not of a search space.
    """
    words = [
        f"latbench profile {run.target.arguments} {_space_of(run, journal).arguments}",
        f"--calibrate {len(run.note.calibration)}",
        f"--ci {run.settings['ci']:.6g}",
        f"--journal {shlex.quote(str(journal))}",
    ]
    if any(one.fell_back for one in run.note.delegated):
        words.append("--allow-partial")
    return " ".join(words)


@dataclass(frozen=True)
class _RunData:
    """A run as a LUT needs it.

    Attributes:
        trials: all its trials, in the order taken.
        evidence: what they show about each statistic.
        by_workload: the trials of each workload.
        best: the normalised trials of each workload's statistic.
        results: the statistic of each workload that has one.
        readings: the conditions of each unit.
    """

    run: Run
    space: SearchSpace
    trials: Sequence[Trial]
    evidence: Evidence
    by_workload: Mapping[str, Sequence[Trial]]
    best: Mapping[str, Sequence[Trial]]
    results: Mapping[str, Result]
    readings: Readings

    @classmethod
    def read(cls, journal: Journal, run: Run) -> Self:
        """Read the trials of a run, and compute its slowdowns and statistics."""
        space = _space_of(run, journal.path)
        trials = journal.trials(run.id)
        slowdowns = Slowdowns.of(trials)
        trials = list(map(slowdowns.judged, trials))
        evidence = Evidence.of(trials, slowdowns)
        by_workload: dict[str, list[Trial]] = {key: [] for key in run.workloads}
        for trial in trials:
            by_workload[trial.workload].append(trial)
        results = {key: evidence.result(its) for key, its in by_workload.items()}
        return cls(
            run,
            space,
            trials,
            evidence,
            by_workload,
            {key: slowdowns.best(its) for key, its in by_workload.items()},
            {key: result for key, result in results.items() if result is not None},
            {unit: list(journal.conditions(run.id, unit).values()) for unit in run.units},
        )

    @property
    def measured_ops(self) -> list[str]:
        """The keys of the ops that have a statistic."""
        ops = (key for key, workload in self.run.workloads.items() if workload.role is Role.OP)
        return [key for key in ops if key in self.results]


def _space_of(run: Run, journal: Path) -> SearchSpace:
    if run.note.space is None:
        raise BadRequest(
            f"run {run.id} in {journal} has no search space",
            hint="a LUT is built from a run of: latbench profile",
        )
    return SearchSpace.from_dict(dict(run.note.space))


def _missing(journal: Journal, data: _RunData, missing: Sequence[str]) -> MissingOps:
    """The error for a run that lacks ops, with the reasons of those that failed."""
    error = MissingOps(
        missing,
        len(data.space.unique_ops),
        f"run {data.run.id} in {journal.path}",
        str(data.space),
        profile_command(data.run, journal.path),
    )
    reasons = {
        trial.workload: str(trial.failure)
        for trial in data.trials
        if trial.failure is not None and trial.workload in missing
    }
    error.details += tuple(f"{key} {reason}" for key, reason in list(reasons.items())[:3])
    return error


def _lut_of(data: _RunData, macs: Mapping[str, int]) -> Lut:
    """The LUT of the ops in `macs`."""
    run = data.run
    entries = {key: _entry(data, parse_key(key), number) for key, number in macs.items()}
    sentinel = _sentinel(data)
    return Lut(
        target=run.target,
        space=data.space.to_dict(),
        provenance="measured",
        created=datetime.now(UTC).replace(microsecond=0),
        tool=_tool(run),
        method=_method(run, data.trials) | _rounds_of_units(data),
        conditions=_conditions(data),
        entries=entries,
        sentinel=sentinel,
        reference=_reference(data),
        correction=calibrate(entries, _timed_networks(data, sentinel), data.space),
    )


# Entries


def without_frames(
    sandwich: Summary, pairs: Iterable[Summary]
) -> tuple[float, tuple[float, float]]:
    """The latency of an op and its 95 % interval, ms: its sandwich less half of each pair of frames.

    Each end has its own error: an interval may reach far to one side only. Errors of different workloads are
    independent; if both pairs are the same one, its error counts twice.
    Neither the latency nor the lower end of its interval is less than a hundredth of the sandwich, since
    the entries of a LUT must be positive.
    """
    pairs = list(pairs)
    least = _MIN_SHARE * sandwich.ms
    ms = max(least, sandwich.ms - sum(pair.ms for pair in pairs) / 2)
    halves = [(pair, count / 2) for pair, count in Counter(pairs).items()]
    below = math.hypot(
        sandwich.ms - sandwich.ci95[0], *(half * (pair.ci95[1] - pair.ms) for pair, half in halves)
    )
    above = math.hypot(
        sandwich.ci95[1] - sandwich.ms, *(half * (pair.ms - pair.ci95[0]) for pair, half in halves)
    )
    return ms, (max(least, ms - below), ms + above)


def _entry(data: _RunData, op: OpSpec, macs: int) -> Entry:
    """The entry of an op, without the cost of its frames if it was timed in a sandwich."""
    run, result, best = data.run, data.results[op.key], data.best[op.key]
    pairs = _pairs_of(data, op)
    warnings = set(data.evidence.warnings(data.by_workload[op.key]))
    far = outliers(within_rounds([trial.samples_ns for trial in best]))
    ms, ci95 = result.ms, result.ci95
    if pairs:
        ms, ci95 = without_frames(result, pairs)
        if ci95[0] <= _MIN_SHARE * result.ms:
            warnings.add("unresolved")
    return Entry(
        ms=ms,
        ci95=ci95,
        samples=result.samples,
        rounds=result.rounds,
        spread=result.spread,
        tainted=result.tainted,
        context="sandwich" if pairs else "alone",
        placement=_placement_error(run, best) / ms,
        outliers=far.low + far.high,
        warnings=tuple(sorted(warnings)),
        macs=macs,
        artifact_sha256=run.workloads[op.key].sha256,
    )


def _pairs_of(data: _RunData, op: OpSpec) -> list[Result]:
    """The statistics of an op's pairs of frames; none if it was timed alone."""
    frames = frames_of(op) if data.run.note.context == "sandwich" else ()
    pairs = [data.results[frame.key] for frame in frames if frame.key in data.results]
    if len(pairs) != len(frames):
        raise BadRequest(
            f"run {data.run.id} lacks the frames of {op.key}",
            hint="repeat the latbench profile command of this run: it continues the run",
        )
    return pairs


def _placement_error(run: Run, trials: Iterable[Trial]) -> float:
    """The standard error of an entry caused by the placement of its model in memory, milliseconds.

    If models are loaded again for every visit, rounds are rounds over placements, and their interval includes
    this error: the entries of sixteen runs differed by no more (`bench/drift_power.py`). If they stay loaded,
    it is the standard error of the mean of the runners' medians. A few runners may agree by chance, so it is
    at least the error that was observed for such placements.
    """
    if run.settings.get("reload", False) and loads_cheaply(run.target):
        return 0.0
    by_runner: dict[tuple[str, int | None], list[float]] = {}
    for trial in trials:
        by_runner.setdefault((trial.unit, trial.slot), []).append(trial.median_ms)
    medians = [statistics.median(rounds) for rounds in by_runner.values()]
    least = _PLACEMENT_SD * statistics.median(medians)
    if len(medians) < 2:
        return least
    return max(least, statistics.stdev(medians) / math.sqrt(len(medians)))


# Networks and the reference


def _sentinel(data: _RunData) -> Sentinel | None:
    """The record of the run's sentinel; None if it had none, or all visits to it failed."""
    workload, note = data.run.sentinel, data.run.note.sentinel
    if workload is None or note is None or workload.key not in data.results:
        return None
    # If it was timed as an ordinary network too, that result is over all runner slots, and better.
    result = data.results.get(note.workload, data.results[workload.key])
    medians: dict[str, list[float]] = {}
    for trial in data.trials:
        if trial.workload == workload.key and trial.failure is None:
            medians.setdefault(trial.unit, []).append(trial.median_ms)
    architecture = _architecture_of(note, data.space)
    return Sentinel(
        architecture=architecture.notation,
        head=architecture.head,
        ms=result.ms,
        ci95=result.ci95,
        visits=sum(map(len, medians.values())),
        drift=max(map(drift, medians.values())),
    )


def _reference(data: _RunData) -> Reference | None:
    """The record of the run's reference; None if it had none, or all visits to it failed."""
    workload = data.run.reference
    if workload is None or workload.key not in data.results:
        return None
    result = data.results[workload.key]
    return Reference(
        workload=workload.key.removeprefix(f"{Role.REFERENCE}:"),
        ms=result.ms,
        ci95=result.ci95,
        visits=result.rounds,
    )


def _timed_networks(data: _RunData, sentinel: Sentinel | None) -> list[TimedNetwork]:
    """The calibration networks of the run; only the sentinel if there were none."""
    timed = []
    for note in data.run.note.calibration:
        result = data.results.get(note.workload)
        if result is not None:
            architecture = _architecture_of(note, data.space)
            layers, head = architecture.notation, architecture.head
            timed.append(TimedNetwork(layers=layers, head=head, ms=result.ms, ci95=result.ci95))
    if not timed and sentinel is not None:
        layers, head = sentinel.architecture, sentinel.head
        timed = [TimedNetwork(layers=layers, head=head, ms=sentinel.ms, ci95=sentinel.ci95)]
    return timed


def _architecture_of(note: NetworkNote, space: SearchSpace) -> Architecture:
    return Architecture.parse(note.layers, space, head=note.head)


# Provenance


def _engine(run: Run) -> Mapping[str, Any]:
    """The first runner's description of the target's runtime."""
    engines = (run.hello or {}).get("engines", ())
    matching = (engine for engine in engines if engine["runtime"] == run.target.runtime)
    return next(matching, {})


def _tool(run: Run) -> dict[str, str]:
    return {
        "name": "latbench",
        "version": __version__,
        "measured_by_version": run.tool,
        "python": platform.python_version(),
        "runtime_version": str(_engine(run).get("version", "unknown")),
    }


def _method(run: Run, trials: Sequence[Trial]) -> dict[str, Any]:
    hello = run.hello or {}
    return {
        "settings": dict(run.settings),
        "statistic": "median of round medians at the baseline quarter; "
        "interpolated order-statistic interval",
        "context": run.note.context,
        "runner": hello.get("runner"),
        "engine": dict(_engine(run)),
        "operating_system": hello.get("os"),
        "abi": hello.get("abi"),
        "run": run.id,
        "run_state": run.state.value,
        "plan_sha256": run.identity,
        "rounds": 1 + max((trial.round for trial in trials), default=-1),
        "trials": len(trials),
        "failed_trials": sum(trial.failure is not None for trial in trials),
        "timed_seconds": round(sum(trial.timed_s for trial in trials), 3),
        "wall_seconds": round(run.wall_s, 3),
        "started": datetime.fromtimestamp(run.created, UTC).isoformat(timespec="seconds"),
    }


def _rounds_of_units(data: _RunData) -> dict[str, Any]:
    """The number of rounds of each workload's statistic by unit; empty for a single unit."""
    if len(data.run.units) == 1:
        return {}
    rounds = {
        key: dict(sorted(Counter(trial.unit for trial in trials).items()))
        for key, trials in data.best.items()
        if trials and not data.run.workloads[key].role.watches
    }
    return {"rounds_of_units": rounds}


def _conditions(data: _RunData) -> dict[str, Any]:
    """A summary of the conditions of the run, the part of each of several units, and any faster run."""
    run, trials = data.run, data.trials
    readings = [reading for of_unit in data.readings.values() for reading in of_unit]
    summary: dict[str, Any] = {
        "unit": run.unit,
        "description": run.device["description"],
        "emulated": run.device["emulated"],
        "readings": len(readings),
        "tainted_trials": sum(trial.taint is not None for trial in trials),
        "tainted_by": taint.tally(trial.taint for trial in trials),
    }
    parts = unit_parts(run, trials)
    if len(run.units) > 1:
        summary["units"] = {unit: asdict(part) for unit, part in parts.items()}
    if faster := history.faster_run(run, data.results, parts):
        summary[FasterRun.KEY] = faster.model_dump(mode="json")
    return summary | _last_values(readings) | _ranges(readings) | _lost_times(data.readings)


def _last_values(readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last values of conditions that hardly change, and all values of those that are true or false."""
    summary: dict[str, Any] = {}
    for field in ("build", "affinity", "governors", "clock_peaks_khz"):
        if values := _values(readings, field):
            summary[field] = values[-1]
    for field in ("charging", "screen_on"):
        if values := _values(readings, field):
            summary[field] = sorted(set(values))
    return summary


def _ranges(readings: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The lowest and highest values of the conditions that were available."""
    values = {
        "thermal_status": _values(readings, "thermal_status"),
        "load_average": _values(readings, "load_average"),
        "memory_available_mib": _values(readings, "memory_available_mib"),
        "battery_percent": _values(readings, "battery_percent"),
        "temperature_c": _nested_values(readings, "temperatures_c"),
        "clock_khz": _nested_values(readings, "clocks_khz"),
        "clock_limit_khz": _nested_values(readings, "clock_limits_khz"),
    }
    return {field: [min(found), max(found)] for field, found in values.items() if found}


def _lost_times(readings: Readings) -> dict[str, float]:
    """Seconds in which the CPU was stolen or throttled, summed over the units that report it."""
    lost = {}
    for field in ("stolen_s", "throttled_s"):
        counters = [found for of_unit in readings.values() if (found := _values(of_unit, field))]
        if counters:
            lost[field] = round(sum(values[-1] - values[0] for values in counters), 3)
    return lost


def _values(readings: Iterable[Mapping[str, Any]], field: str) -> list[Any]:
    """The available values of a condition."""
    return [reading[field] for reading in readings if reading.get(field) is not None]


def _nested_values(readings: Iterable[Mapping[str, Any]], field: str) -> list[float]:
    """The available values of a condition that has one value per core or sensor."""
    return [value for values in _values(readings, field) for value in values.values()]
