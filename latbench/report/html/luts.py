"""The sections on each LUT: overview, entries, roofline and whole networks."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from latbench.errors import BadRequest
from latbench.lut import Entry, Lut, predict_ops
from latbench.lut.flags import best_rates, bytes_of, flagged_entries
from latbench.lut.provenance import provenance_note
from latbench.report.html.page import Chart, Figure, Section, Table
from latbench.space import Architecture, OpSpec, SearchSpace, parse_key
from latbench.wording import count_of, milliseconds, percent

#: The kinds of ops by colour, in the order `--s0` … of the style sheet.
SERIES = (
    "blocks with k3",
    "blocks with k5 or more",
    "skip projections",
    "stem and head",
    "pool, classifier",
)


def series_of(op: OpSpec) -> int:
    """The number of an op's kind in `SERIES`."""
    if op.is_block:
        return 0 if op.kernel <= 3 else 1
    others = {"skip": 2, "stem": 3, "head": 3}
    return others.get(op.kind, 4)


def plus_minus(entry: Entry) -> str:
    """How far the 95 % interval reaches below and above the value, relative."""
    if entry.ci95 is None:
        return "unknown"
    low, high = entry.ci95
    return f"−{percent(1 - low / entry.ms)} +{percent(high / entry.ms - 1)}"


def tooltip(key: str, entry: Entry) -> str:
    """The text shown when the user points at an entry."""
    lines = [key, f"{milliseconds(entry.ms)} ms"]
    if entry.ci95 is not None:
        low, high = map(milliseconds, entry.ci95)
        lines.append(f"95 % interval {low} to {high} ms")
    if entry.samples:
        lines.append(f"{count_of(entry.samples, 'sample')}, {count_of(entry.rounds, 'round')}")
    return "\n".join([*lines, *entry.warnings])


def overview(luts: Mapping[str, Lut]) -> Section:
    """The target, provenance, calibration and validation of each LUT."""
    facts = {name: _facts(lut) for name, lut in luts.items()}
    kinds = dict.fromkeys(kind for one in facts.values() for kind in one)
    rows = [[kind, *(one.get(kind, "") for one in facts.values())] for kind in kinds]
    notes = [note for name, lut in luts.items() if (note := provenance_note(lut, name))]
    table = Table("Targets, provenance and accuracy", ("", *luts), rows)
    return Section("overview", "Overview", (Figure("", table),), warning=" ".join(notes))


def _facts(lut: Lut) -> dict[str, str]:
    facts = {
        "target": str(lut.target),
        "space": str(lut.search_space),
        "provenance": lut.provenance,
        "created": lut.created.isoformat(timespec="seconds"),
        "entries": str(len(lut)),
        "flags": _flags(lut),
    }
    description = lut.conditions.get("description")
    if description:
        facts["unit"] = f"{description}{', emulated' if lut.conditions.get('emulated') else ''}"
    if lut.sentinel is not None:
        facts["sentinel"] = (
            f"{milliseconds(lut.sentinel.ms)} ms, drift {percent(lut.sentinel.drift)}"
        )
    if lut.correction is not None:
        one = lut.correction
        facts["correction"] = (
            f"sums × {one.scale:.3f}{f' {one.offset_ms:+.3f} ms' if one.offset_ms else ''}, "
            f"{'boundary costs, ' if one.boundary_costs else ''}"
            f"from {count_of(one.networks, 'network')}, {percent(one.residual)} unexplained"
        )
    if lut.validation is not None:
        figures = lut.validation
        facts["validated on"] = count_of(round(figures["networks"]), "other network")
        facts["mean error"] = f"{figures['mape']:.2f} %, {figures['worst']:.2f} % worst"
        if "coverage" in figures:
            facts["inside the 95 % interval"] = f"{figures['coverage']:.0f} %"
    facts["sha256"] = lut.content_sha256[:16]
    return facts


def _flags(lut: Lut) -> str:
    """How many entries have each flag."""
    counts = Counter(name for one in flagged_entries(lut) for name in one.names)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def layer_names(space: SearchSpace) -> list[str]:
    """The searchable layers in order: number, channels, size, stride."""
    return [
        f"{number} {layer.in_channels}→{layer.out_channels} {layer.size}"
        + (f"/{layer.stride}" if layer.stride > 1 else "")
        for number, layer in enumerate(space.layers, 1)
    ]


def heat_maps(luts: Mapping[str, Lut]) -> Section:
    """The latency of every candidate at every layer."""
    return Section(
        "entries",
        "Entries: layer × candidate",
        tuple(_heat_map(name, lut) for name, lut in luts.items()),
        "The latency of each candidate at each layer in milliseconds, uncorrected; darker is slower, on a "
        "logarithmic scale. A skip that is the identity costs nothing. Point at a cell for its interval; the "
        "table lists all intervals.",
    )


def _heat_map(name: str, lut: Lut) -> Figure:
    space = lut.search_space
    names, columns = layer_names(space), [str(candidate) for candidate in space.candidates]
    cells: list[dict[str, Any]] = []
    rows = []
    for layer, title in zip(space.layers, names, strict=True):
        row = [title]
        for candidate, column in zip(space.candidates, columns, strict=True):
            cell: dict[str, Any] = {"x": column, "y": title, "v": None, "l": "–"}
            if candidate not in layer.candidates:
                cell |= {"l": "", "t": f"{title}\nno candidate here"}
                row.append("")
                cells.append(cell)
                continue
            op = space.op(layer, candidate)
            if op is None:
                cell["t"] = f"{title}\nskip: the identity"
                row.append("0")
            elif op not in lut:
                cell |= {"l": "?", "t": f"{op}\nnot in this LUT"}
                row.append("missing")
            else:
                entry = lut[op]
                cell |= {"v": entry.ms, "l": _short(entry.ms), "t": tooltip(op.key, entry)}
                row.append(f"{milliseconds(entry.ms)} ({plus_minus(entry)})")
            cells.append(cell)
        rows.append(row)
    around = {op.key: op for op in (*space.stem_ops, *_heads(space)) if op in lut}
    rows += [
        [key, f"{milliseconds(lut[key].ms)} ({plus_minus(lut[key])})", *[""] * (len(columns) - 1)]
        for key in around
    ]
    return Figure(
        name,
        Table(
            f"latencies in ms with 95 % intervals, {name}",
            ("layer", *(f"{c}>" for c in columns)),
            rows,
        ),
        Chart(
            "heatmap",
            f"Heat map of {name}: latency of {len(columns)} candidates at {len(names)} layers",
            {"x": columns, "y": names, "cells": cells},
        ),
    )


def _heads(space: SearchSpace) -> list[OpSpec]:
    return [op for head in space.heads for op in space.head_ops(head)]


def _short(ms: float) -> str:
    """About three characters, for a cell."""
    return f"{ms:.2f}".removeprefix("0") if ms < 10 else f"{ms:.0f}"


def rooflines(luts: Mapping[str, Lut]) -> Section:
    """The distance of ops to the limits of arithmetic and memory."""
    figures = [figure for name, lut in luts.items() for figure in _roofline(name, lut)]
    return Section(
        "roofline",
        "Roofline: what limits ops",
        tuple(figures),
        "The dashed line is the best rate of any entry in the same LUT, so no op lies below it. An op far "
        "above both lines is limited by something other than arithmetic and memory traffic. Bytes are an "
        "op's input, output and weights, once each.",
    )


def _roofline(name: str, lut: Lut) -> list[Figure]:
    precision, best = lut.target.precision, best_rates(lut)
    flagged = [(parse_key(one.key), one) for one in flagged_entries(lut)]
    caption = f"distance to the roofline, {name}"
    columns = ("op", "MACs>", "bytes>", "ms>", "times the bound>", "flags")
    rows = [
        (
            one.key,
            f"{op.macs:,}",
            f"{bytes_of(op, precision):,}",
            milliseconds(one.entry.ms),
            f"{one.over_roofline:.1f}",
            ", ".join(one.flags),
        )
        for op, one in sorted(flagged, key=lambda pair: -pair[1].over_roofline)
    ]
    table, figures = Table(caption, columns, rows), []
    for what, amount, rate in (
        ("MACs", lambda op: op.macs, best.macs_per_ms),
        ("bytes", lambda op: bytes_of(op, precision), best.bytes_per_ms),
    ):
        points: list[dict[str, Any]] = [
            {
                "x": amount(op),
                "y": one.entry.ms,
                **(
                    {}
                    if one.entry.ci95 is None
                    else dict(zip(("lo", "hi"), one.entry.ci95, strict=True))
                ),
                "s": series_of(op),
                "t": f"{tooltip(op.key, one.entry)}\n{amount(op) / 1e6:.3g} M {what}, "
                f"{one.over_roofline:.1f} times the bound",
            }
            for op, one in flagged
            if amount(op)
        ]
        ends = [min(p["x"] for p in points), max(p["x"] for p in points)]
        unit = "GMAC/s" if what == "MACs" else "GB/s"
        figures.append(
            Figure(
                f"{name}: ms against {what}",
                table,
                Chart(
                    "scatter",
                    f"{name}: latency of {count_of(len(points), 'op')} against {what}, both logarithmic",
                    {
                        "points": points,
                        "lines": [{"points": [[end, end / rate] for end in ends]}],
                        "logx": True,
                        "logy": True,
                        "xlabel": what,
                        "ylabel": "ms",
                    },
                    SERIES,
                ),
                f"Best rate in this LUT: {rate / 1e6:.1f} {unit}.",
            )
        )
    return figures


def networks(
    luts: Mapping[str, Lut], validation: Mapping[str, Any] | None = None
) -> Section | None:
    """Predictions and measurements of whole networks; None if there are none.

    Args:
        validation: the output of `latbench validate --json` for the first LUT.

    Raises:
        BadRequest: the validation belongs to another target.
    """
    figures = [_calibration(name, lut) for name, lut in luts.items() if _timed(lut)]
    if validation is not None:
        name, lut = next(iter(luts.items()))
        if validation.get("target", lut.target.model_dump(mode="json")) != lut.target.model_dump(
            mode="json"
        ):
            raise BadRequest(
                f"the validation belongs to another target than {name}: {lut.target}",
                hint="give the validated LUT first",
            )
        figures.insert(0, _validated(name, validation))
    if not figures:
        return None
    return Section(
        "networks",
        "Whole networks: predicted and measured",
        tuple(figures),
        "The dot and its bar are the prediction and its 95 % interval, the cross is the measurement, all "
        "relative to the measurement. The LUT was fitted to its calibration networks, so they are no test "
        "of it; only other networks show how accurate it is.",
    )


def _timed(lut: Lut) -> bool:
    return lut.correction is not None and len(lut.correction.calibration) > 1


def _calibration(name: str, lut: Lut) -> Figure:
    assert lut.correction is not None
    compared = []
    for timed in lut.correction.calibration:
        ops = Architecture.parse(timed.layers, lut.search_space, head=timed.head).ops
        predicted = predict_ops(lut, ops, timed.layers)
        compared.append((timed.layers, predicted.ms, predicted.bounds, timed.ms))
    return _networks(f"{name}: calibration networks", compared)


def _validated(name: str, validation: Mapping[str, Any]) -> Figure:
    compared = [
        (
            one["layers"],
            one["predicted"],
            None if one["low"] is None else (one["low"], one["high"]),
            one["measured"],
        )
        for one in validation["each"]
    ]
    return _networks(f"{name}: validation networks", compared)


def _networks(
    heading: str, compared: list[tuple[str, float, tuple[float, float] | None, float]]
) -> Figure:
    compared = sorted(compared, key=lambda one: one[3])
    rows, points = [], []
    for number, (layers, ms, bounds, measured) in enumerate(compared, 1):
        inside, reach = "unknown", "unknown"
        if bounds is not None:
            inside = "yes" if bounds[0] <= measured <= bounds[1] else "no"
            reach = " to ".join(map(milliseconds, bounds))
        low, high = bounds or (ms, ms)  # a dot without a bar
        rows.append(
            (
                layers,
                milliseconds(measured),
                milliseconds(ms),
                reach,
                percent(ms / measured - 1, signed=True),
                inside,
            )
        )
        points.append(
            {
                "n": f"{number}: {milliseconds(measured)} ms",
                "v": 100 * (ms / measured - 1),
                "lo": 100 * (low / measured - 1),
                "hi": 100 * (high / measured - 1),
                "m": 0,
                "s": 1 if inside == "no" else 0,
                "t": layers.replace("|", "\n") + f"\nmeasured {milliseconds(measured)} ms\n"
                f"predicted {milliseconds(ms)} ms",
            }
        )
    off = [100 * abs(ms / measured - 1) for _, ms, _, measured in compared]
    columns = ("network", "measured ms>", "predicted ms>", "95 % interval>", "error>", "inside")
    return Figure(
        heading,
        Table(f"{count_of(len(rows), 'network')}, predicted and measured", columns, rows),
        Chart(
            "forest",
            f"{heading}: error of {count_of(len(rows), 'prediction')} in per cent, with intervals",
            {"rows": points, "at": 0, "xlabel": "error of the prediction, %"},
            ("measurement inside the interval", "outside"),
        ),
        f"Mean absolute error {math.fsum(off) / len(off):.2f} %, worst {max(off):.2f} %.",
    )
