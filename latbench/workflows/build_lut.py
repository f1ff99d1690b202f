"""Build a LUT from the trials of one run.

An entry is the statistic of an op's trusted trials (`latbench.measure.ledger.result_of`), all brought to
the calm level of the run first (`latbench.measure.slowdown`). An op that was timed in a
sandwich had its frames timed in the same rounds; half of each pair of them is taken off
(`latbench.space.sandwich`). The whole networks of the run become the correction
(`latbench.lut.calibrate`).
"""

import math
import platform
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latbench._version import __version__
from latbench.device.catalogue import find_device
from latbench.errors import BadRequest, LutRefused, MissingOps
from latbench.lut.calibrate import calibrate
from latbench.lut.schema import Entry, Lut, Reference, Sentinel, TimedNetwork
from latbench.measure import taint
from latbench.measure.diagnostics import outliers, warnings_of, within_rounds
from latbench.measure.journal import Journal
from latbench.measure.ledger import Result, result_of
from latbench.measure.plan import Role, loads_cheaply
from latbench.measure.records import Run, Trial
from latbench.measure.report import unit_parts
from latbench.measure.slowdown import Levels
from latbench.space.architecture import Architecture
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.sandwich import frames_of
from latbench.space.search_space import SearchSpace
from latbench.statistics import Summary, drift
from latbench.workflows.runs import last_profile, target_stem

#: The least share of its sandwich that an op is given.
_LEAST_SHARE = 0.01

#: The least relative standard error that comes with where a few runners keep a model's memory.
_PLACEMENT_SD = 0.006


def build_lut(journal: Path | None = None, *, partial: bool = False) -> Lut:
    """Build the LUT of the last run in a journal, by default of what was last profiled.

    Raises:
        LatbenchError: nothing was profiled yet.
        JournalRefused: the journal cannot be read.
        MissingOps: the run lacks ops and `partial` is not set.
    """
    path = journal or last_profile()
    with Journal(path, readonly=True) as opened:
        return lut_of_run(opened, macs=lambda key: parse_key(key).macs, partial=partial)


def lut_stem(lut: Lut) -> str:
    """The name of a LUT's file, without suffix, that tells its target."""
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
        run: the run's number; by default the run that was measured last.
        macs: the multiply-accumulates of an op, by key.
        partial: accept a run that lacks ops of its space.

    Raises:
        BadRequest: there is no such run, or it is not of a search space.
        MissingOps: it lacks ops of its space; the message lists them and names the command that
            measures them.
        LutRefused: its trials hold what no LUT may hold.
    """
    chosen = journal.run(run)
    space = _space(journal, chosen)
    trials = journal.trials(chosen.id)
    levels = Levels.of(trials)
    by_workload: dict[str, list[Trial]] = {key: [] for key in chosen.workloads}
    for trial in trials:
        by_workload[trial.workload].append(trial)
    best = {key: levels.best(of_workload) for key, of_workload in by_workload.items()}
    results = {
        key: result
        for key, of_workload in by_workload.items()
        if (result := result_of(of_workload, levels)) is not None
    }
    ops = [workload for workload in chosen.workloads.values() if workload.role is Role.OP]
    measured = {workload.key: results[workload.key] for workload in ops if workload.key in results}
    missing = [op.key for op in space.unique_ops if op.key not in measured]
    if missing and (not partial or not measured):
        raise _missing(journal, chosen, space, missing, trials)
    readings = {unit: list(journal.conditions(chosen.id, unit).values()) for unit in chosen.units}
    try:
        entries = {
            key: _entry(chosen, parse_key(key), results, best[key], macs(key)) for key in measured
        }
        sentinel = _sentinel(chosen, space, trials, results)
        return Lut(
            target=chosen.target,
            space=space.to_dict(),
            provenance="measured",
            created=datetime.now(UTC).replace(microsecond=0),
            tool=_tool(chosen),
            method=_method(chosen, trials) | _units_of_rounds(chosen, best),
            conditions=_conditions(chosen, trials, readings),
            entries=entries,
            sentinel=sentinel,
            reference=_reference(chosen, results),
            correction=calibrate(entries, _timed_networks(chosen, space, sentinel, results), space),
        )
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise LutRefused(
            f"run {chosen.id} in {journal.path} holds what no LUT may hold:",
            details=problems[:8],
            hint="measure it anew, with: latbench profile --fresh",
        ) from None


def _space(journal: Journal, run: Run) -> SearchSpace:
    if "space" not in run.about:
        raise BadRequest(
            f"run {run.id} in {journal.path} is not of a search space",
            hint="a LUT is built from what latbench profile measured",
        )
    return SearchSpace.from_dict(dict(run.about["space"]))


def _missing(
    journal: Journal,
    run: Run,
    space: SearchSpace,
    missing: Sequence[str],
    trials: Iterable[Trial],
) -> MissingOps:
    """The refusal of a run that lacks ops, with the reasons of those that failed."""
    command = (
        f"latbench profile {run.target.arguments} {space.arguments} "
        f"--ci {run.settings['ci']:.6g} --journal {shlex.quote(str(journal.path))}"
    )
    refused = MissingOps(
        missing,
        len(space.unique_ops),
        f"run {run.id} in {journal.path}",
        str(space),
        command,
    )
    reasons = {
        trial.workload: str(trial.failure)
        for trial in trials
        if trial.failure is not None and trial.workload in missing
    }
    refused.details += tuple(f"{key} {reason}" for key, reason in list(reasons.items())[:3])
    return refused


def without_frames(
    sandwich: Summary, pairs: Iterable[Summary]
) -> tuple[float, tuple[float, float]]:
    """What an op takes, ms, and its interval: its sandwich less half of each pair of frames.

    The errors of different things are independent; a pair on both sides errs twice. Neither the op nor
    the lower end of its interval gets less than a hundredth of the sandwich, since a LUT holds no op
    that takes no time.
    """
    pairs = list(pairs)
    least = _LEAST_SHARE * sandwich.ms
    ms = max(least, sandwich.ms - sum(pair.ms for pair in pairs) / 2)
    errors = (count * pair.half_width / 2 for pair, count in Counter(pairs).items())
    error = math.hypot(sandwich.half_width, *errors)
    return ms, (max(least, ms - error), ms + error)


def _entry(
    run: Run, op: OpSpec, results: Mapping[str, Result], best: Sequence[Trial], macs: int
) -> Entry:
    """The entry of an op, of its `best` trials; in a sandwich, what the frames cost is taken off."""
    result = results[op.key]
    frames = frames_of(op) if run.about.get("context") == "sandwich" else ()
    pairs = [results[frame.key] for frame in frames if frame.key in results]
    if len(pairs) != len(frames):
        raise BadRequest(
            f"run {run.id} lacks the frames of {op.key}", hint="latbench profile --fresh"
        )
    rounds = [trial.samples_ns for trial in best]
    doubts = set(warnings_of(rounds))
    far = outliers(within_rounds(rounds))
    if result.distrusted:
        doubts.add("distrusted")
    ms, ci95 = result.ms, result.ci95
    if pairs:
        ms, ci95 = without_frames(result, pairs)
        if ci95[0] <= _LEAST_SHARE * result.ms:
            doubts.add("unresolved")
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
        warnings=tuple(sorted(doubts)),
        macs=macs,
        artifact_sha256=run.workloads[op.key].sha256,
    )


def _placement_error(run: Run, trials: Iterable[Trial]) -> float:
    """The standard error, ms, of what all runners say together: each its median of the rounds it had.

    Where models are loaded anew for every visit, rounds are rounds over placements already, and their
    interval holds it all: the entries of sixteen runs differed by no more (`bench/drift_power.py`).
    Where they stay loaded, a few runners may agree by chance, so it is no less than such placements were
    seen to do.
    """
    if run.settings.get("reload", False) and loads_cheaply(run.target):
        return 0.0
    rounds_of: dict[tuple[str, int | None], list[float]] = {}
    for trial in trials:
        rounds_of.setdefault((trial.unit, trial.place), []).append(trial.median_ms)
    medians = [statistics.median(rounds) for rounds in rounds_of.values()]
    least = _PLACEMENT_SD * statistics.median(medians)
    if len(medians) < 2:
        return least
    return max(least, statistics.stdev(medians) / math.sqrt(len(medians)))


def _sentinel(
    run: Run,
    space: SearchSpace,
    trials: Iterable[Trial],
    results: Mapping[str, Result],
) -> Sentinel | None:
    """The record of the run's sentinel; None where it had none, or it always failed."""
    workload, about = run.sentinel, run.about.get("sentinel")
    if workload is None or about is None or workload.key not in results:
        return None
    result = results[workload.key]
    # Timed as an ordinary network too, it took its turn at all runners, which is the better level.
    level = results.get(about.get("subject", ""), result)
    levels: dict[str, list[float]] = {}
    for trial in trials:
        if trial.workload == workload.key and trial.failure is None:
            levels.setdefault(trial.unit, []).append(trial.median_ms)
    architecture = Architecture.parse(about["layers"], space, head=about["head"])
    return Sentinel(
        architecture=architecture.notation,
        head=architecture.head,
        ms=level.ms,
        ci95=level.ci95,
        visits=sum(map(len, levels.values())),
        drift=max(map(drift, levels.values())),
    )


def _reference(run: Run, results: Mapping[str, Result]) -> Reference | None:
    """The record of the run's reference; None where it had none, or it always failed."""
    workload = run.reference
    if workload is None or workload.key not in results:
        return None
    result = results[workload.key]
    return Reference(
        workload=workload.key.removeprefix(f"{Role.REFERENCE}:"),
        ms=result.ms,
        ci95=result.ci95,
        visits=result.rounds,
    )


def _timed_networks(
    run: Run, space: SearchSpace, sentinel: Sentinel | None, results: Mapping[str, Result]
) -> list[TimedNetwork]:
    """The whole networks of the run; the sentinel alone where there were no others."""
    timed = []
    for about in run.about.get("calibration", ()):
        result = results.get(about["subject"])
        if result is not None:
            architecture = Architecture.parse(about["layers"], space, head=about["head"])
            timed.append(
                TimedNetwork(
                    layers=architecture.notation,
                    head=architecture.head,
                    ms=result.ms,
                    ci95=result.ci95,
                )
            )
    if not timed and sentinel is not None:
        layers, head = sentinel.architecture, sentinel.head
        timed = [TimedNetwork(layers=layers, head=head, ms=sentinel.ms, ci95=sentinel.ci95)]
    return timed


def _engine(run: Run) -> Mapping[str, Any]:
    engines = (run.hello or {}).get("engines", ())
    named = (engine for engine in engines if engine["runtime"] == run.target.runtime)
    return next(named, {})


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
        "statistic": "median of round medians at the calm level; interpolated order-statistic interval",
        "context": run.about.get("context", "alone"),
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


def _units_of_rounds(run: Run, best: Mapping[str, Sequence[Trial]]) -> dict[str, Any]:
    """How many of the rounds that a workload's statistic is made of each unit took.

    Nothing where there is one unit, nor of what watches the run.
    """
    if len(run.units) == 1:
        return {}
    rounds = {
        key: dict(sorted(Counter(trial.unit for trial in of_workload).items()))
        for key, of_workload in best.items()
        if of_workload and not run.workloads[key].role.watches
    }
    return {"rounds_of_units": rounds}


def _conditions(
    run: Run, trials: Sequence[Trial], of_units: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """The conditions of the whole run, and what each of several units did; `of_units` are the readings.

    What no reading could tell is left out.
    """
    readings = [reading for of_unit in of_units.values() for reading in of_unit]
    summary: dict[str, Any] = {
        "unit": run.unit,
        "description": run.device["description"],
        "emulated": run.device["emulated"],
        "readings": len(readings),
        "tainted_trials": sum(trial.taint is not None for trial in trials),
        "tainted_by": taint.tally(trial.taint for trial in trials),
    }
    if len(run.units) > 1:
        summary["units"] = {unit: asdict(part) for unit, part in unit_parts(run, trials).items()}
    for field in ("build", "affinity", "governors", "clock_peaks_khz"):
        if (last := _told(readings, field)[-1:]) != []:
            summary[field] = last[0]
    ranges = {
        "thermal_status": _told(readings, "thermal_status"),
        "load_average": _told(readings, "load_average"),
        "memory_available_mib": _told(readings, "memory_available_mib"),
        "battery_percent": _told(readings, "battery_percent"),
        "temperature_c": _all_values(readings, "temperatures_c"),
        "clock_khz": _all_values(readings, "clocks_khz"),
        "clock_limit_khz": _all_values(readings, "clock_limits_khz"),
    }
    summary |= {field: [min(values), max(values)] for field, values in ranges.items() if values}
    for field in ("charging", "screen_on"):
        if values := _told(readings, field):
            summary[field] = sorted(set(values))
    for field in ("stolen_s", "throttled_s"):
        told = [values for of_unit in of_units.values() if (values := _told(of_unit, field))]
        if told:
            summary[field] = round(sum(values[-1] - values[0] for values in told), 3)
    return summary


def _told(readings: Iterable[Mapping[str, Any]], field: str) -> list[Any]:
    return [reading[field] for reading in readings if reading.get(field) is not None]


def _all_values(readings: Iterable[Mapping[str, Any]], field: str) -> list[float]:
    """The values of a field that holds one for each core or sensor, over all of them."""
    return [value for values in _told(readings, field) for value in values.values()]
