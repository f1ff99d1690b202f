"""The section on a run: conditions over time from its journal, and the LUT's summary of them."""

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
from latbench.measure.slowdown import Slowdowns
from latbench.report.html.page import Chart, Figure, Section, Table
from latbench.wording import count_of

#: The names of the series of a run's trials; see `Chart.legend`.
_SERIES = ("sentinel", "tainted", "reference", "", "", "ops and networks")

#: Trials slower than this multiple of their workload's median are not drawn.
_MOST = 2.0


def conditions(luts: Mapping[str, Lut], journal: Path | None) -> Section | None:
    """The conditions under which LUTs were measured; None if none are recorded.

    Raises:
        JournalRefused, BadRequest: the journal cannot be read, has no run, or belongs to another target
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
        "Tainted trials, in the shaded spans, are trials with evidence against them. They were kept and "
        "repeated.",
    )


def _summary(name: str, lut: Lut) -> Figure:
    rows = [(key, _text(value)) for key, value in sorted(lut.conditions.items())]
    settings = lut.method.get("settings", {})
    rows += [(f"setting {key}", _text(value)) for key, value in sorted(settings.items())]
    return Figure(name, Table(f"conditions and settings of {name}", ("what", "value"), rows))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in sorted(value.items())) or "none"
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_journal(path: Path, lut: Lut) -> list[Figure]:
    with Journal(path, readonly=True) as journal:
        run = journal.run()
        trials = [one for one in journal.trials(run.id) if one.failure is None]
        trials = list(map(Slowdowns.of(trials).judged, trials))
        readings = [journal.conditions(run.id)[key] for key in sorted(journal.conditions(run.id))]
    if run.target != lut.target:
        raise BadRequest(
            f"the journal {path} belongs to {run.target}, but the first LUT to {lut.target}",
            hint="give the journal that the first LUT was built from",
        )
    if not trials:
        return []
    begin = trials[0].started
    spans = _spans(trials, begin)
    drawn = [_slowdowns(run, trials, spans, begin), _clocks(trials, spans, begin)]
    drawn += [_reading(readings, spans, begin, *one) for one in _READINGS]
    return [one for one in drawn if one is not None]


def _spans(trials: Sequence[Trial], begin: float) -> list[dict[str, Any]]:
    """The spans of consecutive tainted trials, in seconds since the run began."""
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


def _slowdowns(
    run: Run, trials: Sequence[Trial], spans: Sequence[Mapping[str, Any]], begin: float
) -> Figure:
    """Every trial's latency relative to the median of its workload."""
    medians = {
        key: statistics.median(one.median_ms for one in trials if one.workload == key)
        for key in {one.workload for one in trials}
    }
    points: list[dict[str, Any]] = []
    for trial in trials:
        slowdown = trial.median_ms / medians[trial.workload]
        whole = trial.role in (Role.SENTINEL, Role.REFERENCE)
        series = {Role.SENTINEL: 0, Role.REFERENCE: 2}.get(trial.role, 1 if trial.taint else 5)
        if slowdown < _MOST:
            points.append(
                {
                    "x": round(trial.started - begin, 3),
                    "y": round(slowdown, 4),
                    "s": series,
                    "faint": not whole,
                    "t": f"{trial.workload}\n{trial.median_ms:.4f} ms, {slowdown:.3f} times its median"
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
        f"Trials of run {run.id}, started {when}",
        Table("tainted spans", ("span", "trials>", "tainted by"), rows),
        Chart(
            "time",
            f"{count_of(len(points), 'trial')} over time, {count_of(len(spans), 'tainted span')} shaded",
            {
                "points": points,
                "spans": [{"a": one["a"], "b": one["b"]} for one in spans],
                "range": [max(0, 1 - edge), 1 + edge],
                "cut": True,
                "xlabel": "seconds since the run began",
                "ylabel": "latency / its median",
            },
            _SERIES,
        ),
        f"{sum(one.taint is not None for one in trials)} of {count_of(len(trials), 'trial')} tainted.",
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


#: (heading, unit, key of a reading).
_READINGS = (
    ("Hottest sensor", "°C", "temperatures_c"),
    ("Thermal status", "0 none to 6 shutdown", "thermal_status"),
    ("Load average", "processes", "load_average"),
    ("Available memory", "MiB", "memory_available_mib"),
    ("CPU time stolen by the hypervisor since boot", "s", "stolen_s"),
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
    """One quantity over time; None if it was not read or never changed."""
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
