"""What the report says of a run: conditions over time, from its journal, or summed up in the LUT."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest
from latbench.lut import Lut
from latbench.measure import Journal
from latbench.measure.plan import Role
from latbench.measure.records import Run, Trial
from latbench.report.html.page import Chart, Figure, Section, Table

#: The series of a run's trials.
_SERIES = ("sentinel", "tainted", "reference", "", "", "ops and networks")

#: Points farther off than this share of their own median are left out of the picture, not of the table.
_MOST = 2.0


def conditions(luts: Mapping[str, Lut], journal: Path | None) -> Section | None:
    """The conditions under which LUTs were measured; None where nothing is known of them.

    Raises:
        JournalRefused, BadRequest: the journal cannot be read, holds no run, or is of another target
            than the first LUT.
    """
    figures = [] if journal is None else _of_journal(journal, next(iter(luts.values())))
    figures += [_summary(name, lut) for name, lut in luts.items() if lut.conditions]
    if not figures:
        return None
    return Section(
        "conditions",
        "Conditions of the run",
        tuple(figures),
        "Tainted trials are those that something spoke against; they were kept, and taken again. "
        "Shaded spans hold them.",
    )


def _summary(name: str, lut: Lut) -> Figure:
    rows = [(key, _told(value)) for key, value in sorted(lut.conditions.items())]
    settings = lut.method.get("settings", {})
    rows += [(f"setting {key}", _told(value)) for key, value in sorted(settings.items())]
    return Figure(name, Table(f"conditions and settings of {name}", ("what", "value"), rows))


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in sorted(value.items())) or "none"
    if isinstance(value, list):
        return " to ".join(map(_told, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_journal(path: Path, lut: Lut) -> list[Figure]:
    with Journal(path, readonly=True) as journal:
        run = journal.run()
        trials = [one for one in journal.trials(run.id) if one.failure is None]
        readings = [journal.conditions(run.id)[key] for key in sorted(journal.conditions(run.id))]
    if run.target != lut.target:
        raise BadRequest(
            f"{path} is of {run.target}, but the first LUT is of {lut.target}",
            hint="name the journal that the LUT was built from",
        )
    if not trials:
        return []
    begin = trials[0].started
    spans = _spans(trials, begin)
    drawn = [_levels(run, trials, spans, begin), _clocks(trials, spans, begin)]
    drawn += [_reading(readings, spans, begin, *one) for one in _READINGS]
    return [one for one in drawn if one is not None]


def _spans(trials: Sequence[Trial], begin: float) -> list[dict[str, Any]]:
    """Where tainted trials follow one another, seconds since the run began."""
    spans: list[dict[str, Any]] = []
    for trial in trials:
        if trial.taint is None:
            spans.append({})
        elif spans and spans[-1]:
            spans[-1]["b"] = trial.started + trial.duration_s - begin
            spans[-1]["why"].add(_kinds(trial.taint))
            spans[-1]["n"] += 1
        else:
            start = trial.started - begin
            end = start + max(trial.duration_s, 0.01)
            spans.append({"a": start, "b": end, "why": {_kinds(trial.taint)}, "n": 1})
    return [one | {"why": ", ".join(sorted(one["why"]))} for one in spans if one]


def _kinds(taint: str) -> str:
    return ", ".join(sorted({reason.split(":")[0] for reason in taint.split("; ")}))


def _levels(
    run: Run, trials: Sequence[Trial], spans: Sequence[Mapping[str, Any]], begin: float
) -> Figure:
    """Every trial relative to the median of its workload."""
    medians = {
        key: statistics.median(one.median_ms for one in trials if one.workload == key)
        for key in {one.workload for one in trials}
    }
    points: list[dict[str, Any]] = []
    for trial in trials:
        level = trial.median_ms / medians[trial.workload]
        whole = trial.role in (Role.SENTINEL, Role.REFERENCE)
        series = {Role.SENTINEL: 0, Role.REFERENCE: 2}.get(trial.role, 1 if trial.taint else 5)
        if level < _MOST:
            points.append(
                {
                    "x": round(trial.started - begin, 3),
                    "y": round(level, 4),
                    "s": series,
                    "faint": not whole,
                    "t": f"{trial.workload}\n{trial.median_ms:.4f} ms, {level:.3f} of its median"
                    + (f"\ntainted: {trial.taint}" if trial.taint else ""),
                }
            )
    when = datetime.fromtimestamp(run.created, UTC).isoformat(timespec="seconds")
    rows = [
        (f"{one['a']:.1f} s to {one['b']:.1f} s", str(one["n"]), one["why"]) for one in spans
    ] or [("none", "0", "")]
    middle = sorted(point["y"] for point in points)
    edge = max(0.05, 1 - middle[0], middle[int(0.995 * (len(middle) - 1))] - 1)
    return Figure(
        f"Trials of run {run.id}, begun {when}",
        Table("tainted spans", ("from, to", "trials>", "tainted by"), rows),
        Chart(
            "time",
            f"Level of {len(points)} trials over time, {len(spans)} tainted spans shaded",
            {
                "points": points,
                "spans": [{"a": one["a"], "b": one["b"]} for one in spans],
                "range": [max(0, 1 - edge), 1 + edge],
                "cut": True,
                "xlabel": "seconds since the run began",
                "ylabel": "times its own median",
            },
            _SERIES,
        ),
        f"{sum(one.taint is not None for one in trials)} of {len(trials)} trials are tainted.",
    )


def _clocks(
    trials: Sequence[Trial], spans: Sequence[Mapping[str, Any]], begin: float
) -> Figure | None:
    values = [
        (one.started - begin, float(one.clocks_khz.mean()) / 1000)
        for one in trials
        if one.clocks_khz is not None and len(one.clocks_khz)
    ]
    return _over_time("Clock while sampling", "MHz", values, spans)


#: (heading, unit, what of a reading).
_READINGS = (
    ("Hottest sensor", "°C", "temperatures_c"),
    ("Thermal status", "0 none to 6 shutdown", "thermal_status"),
    ("Load average", "processes", "load_average"),
    ("Available memory", "MiB", "memory_available_mib"),
    ("CPU time stolen by the hypervisor, since boot", "s", "stolen_s"),
)


def _reading(
    readings: Sequence[Mapping[str, Any]],
    spans: Sequence[Mapping[str, Any]],
    begin: float,
    heading: str,
    unit: str,
    what: str,
) -> Figure | None:
    values = []
    for reading in readings:
        value = reading.get(what)
        if isinstance(value, dict):
            value = max(value.values(), default=None)
        if value is not None:
            values.append((float(reading["time"]) - begin, float(value)))
    return _over_time(heading, unit, values, spans)


def _over_time(
    heading: str,
    unit: str,
    values: Sequence[tuple[float, float]],
    spans: Sequence[Mapping[str, Any]],
) -> Figure | None:
    """One quantity over time; None where it was not read, or never changed."""
    if len({value for _, value in values}) < 2:
        return None
    points = [
        {"x": round(at, 2), "y": value, "s": 0, "t": f"{at:.1f} s\n{value:g} {unit}"}
        for at, value in values
    ]
    low, high = min(value for _, value in values), max(value for _, value in values)
    table = Table(
        f"{heading}, {unit}",
        ("s since the run began", f"{unit}>"),
        [(f"{at:.1f}", f"{value:g}") for at, value in values],
    )
    data = {
        "points": points,
        "spans": [{"a": one["a"], "b": one["b"]} for one in spans],
        "range": [low, high],
        "xlabel": "seconds since the run began",
        "ylabel": unit,
    }
    label = f"{heading} over time, {low:g} to {high:g} {unit}"
    return Figure(heading, table, Chart("time", label, data))
