"""The sections on several LUTs together: which ops are cheap where, and drift."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from latbench.lut import Lut
from latbench.lut.drift import DriftReport, compare_luts
from latbench.lut.ratios import Verdict
from latbench.report.drift_text import (
    bounds,
    change_of,
    overall_line,
    remarks_on,
    verdict_line,
)
from latbench.report.html.luts import layer_names
from latbench.report.html.page import Chart, Figure, Section, Table
from latbench.space import SearchSpace
from latbench.wording import count_of, milliseconds

#: At most this many ops are drawn; the tables list all.
_RANKED, _FOREST = 16, 48


def comparison(luts: Mapping[str, Lut]) -> Section | None:
    """The relative cost of ops on each LUT and on the first; None without common ops."""
    (first, base), *others = luts.items()
    figures: list[Figure] = []
    for name, lut in others:
        common = sorted(base.entries.keys() & lut.entries.keys())
        if len(common) > 1:
            figures += _pair(first, base, name, lut, common)
    if not figures:
        return None
    return Section(
        "comparison",
        "Comparison: which ops are cheap where",
        tuple(figures),
        "The median ratio between the two LUTs is divided out; what is left is how they differ op by op. "
        "Red ops are expensive on the second LUT and blue ops cheap, relative to the others.",
    )


def _pair(
    first: str, base: Lut, second: str, other: Lut, common: list[str]
) -> tuple[Figure, Figure]:
    ratios = {key: other[key].ms / base[key].ms for key in common}
    median = statistics.median(ratios.values())
    relative = {key: ratio / median for key, ratio in ratios.items()}
    ranks = [_ranks(lut, common) for lut in (base, other)]
    rows = [
        (
            key,
            milliseconds(base[key].ms),
            milliseconds(other[key].ms),
            f"{ratios[key]:.3f}",
            f"{relative[key]:.3f}",
            str(ranks[0][key]),
            str(ranks[1][key]),
            f"{ranks[1][key] - ranks[0][key]:+d}".replace("+0", "0"),
        )
        for key in sorted(common, key=lambda key: relative[key])
    ]
    columns = (
        "op", "first ms>", "second ms>", "ratio>", "relative ratio>",
        "rank first>", "rank second>", "change>",
    )  # fmt: skip
    table = Table(
        f"{count_of(len(common), 'op')} of {first} (first) and {second} (second)", columns, rows
    )
    moved = sorted(common, key=lambda key: -abs(ranks[1][key] - ranks[0][key]))[:_RANKED]
    slopes = [
        {
            "n": key,
            "a": ranks[0][key],
            "b": ranks[1][key],
            "s": 1 if ranks[1][key] > ranks[0][key] else 0,
            "t": f"{key}\nrank {ranks[0][key]} → {ranks[1][key]} of {len(common)}",
        }
        for key in moved
    ]
    return (
        Figure(
            f"{second} against {first}",
            table,
            Chart(
                "heatmap",
                f"Heat map: relative cost of ops on {second} compared with {first}",
                _relative_cells(base.search_space, relative),
            ),
            f"{second} takes {median:.2f} times as long as {first} (median of {len(common)} ops). "
            "A cell is an op's ratio divided by that.",
        ),
        Figure(
            "Rank changes",
            table,
            Chart(
                "slope",
                f"Ranks of the {len(moved)} ops whose rank changes most, {first} to {second}",
                {
                    "rows": slopes,
                    "sides": [f"{first} ", second] if first == second else [first, second],
                },
                ("relatively cheaper on the second LUT", "relatively more expensive"),
            ),
            "The ops whose rank changes most; rank 1, at the top, is the fastest op.",
        ),
    )


def _ranks(lut: Lut, keys: list[str]) -> dict[str, int]:
    ordered = sorted(keys, key=lambda key: lut[key].ms)
    return {key: rank for rank, key in enumerate(ordered, 1)}


def _relative_cells(space: SearchSpace, relative: Mapping[str, float]) -> dict[str, Any]:
    names, columns = layer_names(space), [str(candidate) for candidate in space.candidates]
    cells: list[dict[str, Any]] = []
    for layer, title in zip(space.layers, names, strict=True):
        for candidate, column in zip(space.candidates, columns, strict=True):
            if candidate not in layer.candidates:
                cells.append(
                    {"x": column, "y": title, "v": None, "l": "", "t": "no candidate here"}
                )
                continue
            op = space.op(layer, candidate)
            ratio = None if op is None else relative.get(op.key)
            cells.append(
                {
                    "x": column,
                    "y": title,
                    "v": None if ratio is None else math.log2(ratio),
                    "l": "–" if ratio is None else f"{ratio:.2f}",
                    "t": f"{op or 'the identity'}\n"
                    + (
                        "not in both LUTs"
                        if ratio is None
                        else f"{ratio:.3f} times the median ratio"
                    ),
                }
            )
    return {"x": columns, "y": names, "cells": cells, "diverging": True}


def drift(luts: Mapping[str, Lut]) -> Section | None:
    """The drift of each other LUT of the first one's target and space; None if there are none."""
    (first, base), *others = luts.items()
    figures = [
        _drift(f"{first} → {name}", compare_luts(base, lut))
        for name, lut in others
        if lut.target == base.target and lut.space == base.space
    ]
    if not figures:
        return None
    return Section(
        "drift",
        "Drift: what became slower",
        tuple(figures),
        "The change of each op beyond the overall change, with its 95 % interval, as in latbench drift.",
    )


def _drift(heading: str, report: DriftReport) -> Figure:
    if report.overall is None:
        rows = [(one.what, one.baseline, one.current, one.explanation) for one in report.changes]
        columns = ("what differs", "before", "now", "what it means")
        return Figure(heading, Table(verdict_line(report), columns, rows))
    changed = sorted(
        (one for one in report.entries if one.change is not None),
        key=lambda one: one.change.ratio if one.change else 0.0,
    )
    moved: list[tuple[str, ...]] = []
    points: list[dict[str, Any]] = []
    for network in report.networks:
        moved.append(_row(network.name, network.baseline_ms, network.current_ms, network.change))
    for one in changed:
        assert one.change is not None
        moved.append(_row(one.key, one.baseline_ms, one.current_ms, one.change))
        points.append(
            {
                "n": one.key,
                "v": 100 * (one.change.ratio - 1),
                "lo": 100 * (one.change.low - 1),
                "hi": 100 * (one.change.high - 1),
                "s": {Verdict.SLOWER: 1, Verdict.FASTER: 2}.get(one.verdict, 5),
                "t": f"{one.key}\n{change_of(one.change.ratio)} {bounds(one.change)}\n{one.verdict}",
            }
        )
    half = _FOREST // 2
    shown = points if len(points) <= _FOREST else [*points[:half], *points[-half:]]
    left_out = (
        f" The chart shows the {half} ops at either end of {len(points)}."
        if shown != points
        else ""
    )
    remarks = " ".join(remarks_on(report))
    return Figure(
        heading,
        Table(
            verdict_line(report),
            ("op", "before ms>", "now ms>", "change>", "95 % interval>", "verdict"),
            moved,
        ),
        Chart(
            "forest",
            f"{heading}: change of {count_of(len(shown), 'op')} in per cent with intervals, sorted",
            {"rows": shown[::-1], "at": 0, "xlabel": "change beyond the overall change, %"},
            ("", "slower", "faster", "", "", "no change"),
        ),
        f"{verdict_line(report).capitalize()}. Overall change {overall_line(report)}.{left_out} {remarks}",
    )


def _row(name: str, before: float | None, now: float | None, change: Any) -> tuple[str, ...]:
    times = [milliseconds(ms) if ms is not None else "" for ms in (before, now)]
    return (name, *times, change_of(change.ratio), bounds(change), str(change.verdict))
