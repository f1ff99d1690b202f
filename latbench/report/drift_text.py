"""A drift report in words: what every format says alike, and the text for a terminal."""

import textwrap
from collections.abc import Sequence

from latbench.lut.drift import DriftReport, EntryDrift, LutSummary, NetworkDrift
from latbench.lut.ratios import Ratio, Verdict

_WIDTH = 80

#: So many missing ops are named.
_NAMED = 12

#: From here on the ops disagree so much that the report says so.
_RESTLESS_SCALE = 1.5

#: The verdicts on ops that are drift.
DRIFTED = (Verdict.SLOWER, Verdict.FASTER, Verdict.MISSING)


def verdict_line(report: DriftReport) -> str:
    """The verdict in one line."""
    if report.level is None:
        reason, *others = [change.what for change in report.changes if change.blocks]
        more = f", and {len(others)} more" if others else ""
        return f"cannot compare: {reason}{more}"
    parts = []
    if report.level.drifted:
        parts.append(f"everything {report.level.verdict}")
    if networks := sum(network.change.drifted for network in report.networks):
        parts.append(f"{networks} of {number_of(len(report.networks), 'network')}")
    counts = [(len(found), verdict) for verdict in DRIFTED if (found := report.of(verdict))]
    for number, (count, verdict) in enumerate(counts):
        parts.append(f"{count if number else number_of(count, 'op')} {verdict}")
    return f"drift: {', '.join(parts)}" if parts else "no drift"


def remarks_on(report: DriftReport) -> list[str]:
    """What limits the comparison or was left out of it, a sentence each."""
    level, remarks = report.level, []
    if level is None:
        return []
    if level.source == "nothing":
        remarks.append(
            "Too few ops are in both LUTs, and no sentinel is, to tell the level; it is taken for "
            "unchanged."
        )
    elif level.detectable > 1 + report.level_tolerance:
        remarks.append(
            f"A change of everything is sure to be found from {percent(level.detectable)} on; a "
            "smaller one looks like the machine's own level."
        )
    if level.scale > _RESTLESS_SCALE:
        remarks.append(
            f"The ops disagree {level.scale:.1f} times as much as their intervals explain: the "
            "machine was restless, or more ops changed than can be told one by one."
        )
    if unseen := sorted(report.unseen):
        middle = unseen[len(unseen) // 2]
        remarks.append(
            f"A slow-down of {_share(report.tolerance)} may be missed in "
            f"{number_of(len(unseen), 'op')}; the middle one of them shows it from "
            f"{percent(middle)} on."
        )
    if report.reference_ratio is not None and any("timed" in one.name for one in report.networks):
        remarks.append(
            f"The reference, in which no engine takes part, took {percent(report.reference_ratio)}; "
            "that is divided out of the change of the networks that both runs timed."
        )
    if new := len(report.of(Verdict.NEW)):
        remarks.append(f"The baseline lacks {number_of(new, 'op')} of the current LUT.")
    return remarks


def level_line(report: DriftReport) -> str:
    """The level of a comparison that was made, in one line."""
    level = report.level
    assert level is not None
    return f"{percent(level.ratio)} {bounds(level)}: {finding(level)}"


def finding(ratio: Ratio) -> str:
    """What came of a test, in a word or two."""
    return "no change" if not ratio.drifted else str(ratio.verdict)


def number_of(count: int, noun: str) -> str:
    """`count` and the noun in its number."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(ratio: float) -> str:
    """A ratio as a change, like +5.1%."""
    return f"{ratio - 1:+.1%}"


def _share(share: float) -> str:
    return f"{100 * share:.3g}%"


def bounds(ratio: Ratio) -> str:
    """The 95 % interval of a change."""
    return f"[{percent(ratio.low)}, {percent(ratio.high)}]"


def milliseconds(value: float) -> str:
    """Three decimals, which is a microsecond; four below a tenth of a millisecond."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def identity(lut: LutSummary) -> str:
    """Which LUT it is, in one line."""
    return f"{lut.created}, {number_of(lut.entries, 'op')}, sha256 {lut.content_sha256[:12]}"


def moved_ops(report: DriftReport) -> list[EntryDrift]:
    """The ops that are slower or faster, the surest first."""
    return [*report.of(Verdict.SLOWER), *report.of(Verdict.FASTER)]


OP_COLUMNS = ("op", "before ms", "now ms", "change", "95 % interval")
NETWORK_COLUMNS = ("network", *OP_COLUMNS[1:], "")


def op_rows(report: DriftReport) -> list[tuple[str, ...]]:
    """The ops that are slower or faster, under `OP_COLUMNS`."""
    return [
        (
            e.key,
            milliseconds(e.baseline_ms),
            milliseconds(e.current_ms),
            percent(e.change.ratio),
            bounds(e.change),
        )
        for e in moved_ops(report)
        if e.baseline_ms is not None and e.current_ms is not None and e.change is not None
    ]


def network_rows(report: DriftReport) -> list[tuple[str, ...]]:
    """All networks, under `NETWORK_COLUMNS`."""
    return [
        (
            network.name,
            milliseconds(network.baseline_ms),
            milliseconds(network.current_ms),
            percent(network.change.ratio),
            bounds(network.change),
            finding(network.change),
        )
        for network in report.networks
    ]


def op_heading(report: DriftReport) -> str:
    """How many ops are slower or faster, in one line."""
    compared = sum(entry.change is not None for entry in report.entries)
    found = len(moved_ops(report))
    return (
        f"{found} of {number_of(compared, 'op')} changed, beyond the level "
        f"(tolerance {_share(report.tolerance)})"
    )


def ratio_line(workload: EntryDrift | NetworkDrift) -> str:
    """One line on an op or a network that both LUTs have."""
    change, before, after = workload.change, workload.baseline_ms, workload.current_ms
    assert change is not None
    assert before is not None
    assert after is not None
    return (
        f"{finding(change)}, {percent(change.ratio)} {bounds(change)}: "
        f"{milliseconds(before)} ms -> {milliseconds(after)} ms"
    )


# Text


def as_text(report: DriftReport) -> str:
    """The report for a terminal of 80 columns; the verdict is its last line."""
    lines = [f"baseline  {identity(report.baseline)}", f"current   {identity(report.current)}"]
    if report.comparable:
        lines += _wrapped(f"target    {report.current.target}", hang=10)
        lines.append(f"space     {report.current.space}")
    if report.changes:
        lines += ["", "What else is different:"]
        for change in report.changes:
            lines += _wrapped(f"{change.what}: {change.baseline} -> {change.current}", indent=2)
            lines += _wrapped(change.explanation, indent=4)
    if report.level is not None:
        lines += ["", *_wrapped(f"Level: {level_line(report)}")]
        lines += [line for remark in remarks_on(report) for line in _wrapped(remark)]
        lines += ["", f"{op_heading(report)}{':' if moved_ops(report) else '.'}"]
        lines += _table(OP_COLUMNS, op_rows(report))
        if missing := report.of(Verdict.MISSING):
            lines += ["", f"The current LUT lacks {number_of(len(missing), 'op')} of the baseline:"]
            lines += [f"  {name}" for name in named(missing)]
        if report.networks:
            lines += ["", "Networks, level included:"]
            lines += _table(NETWORK_COLUMNS, network_rows(report))
    return "\n".join([*lines, "", verdict_line(report)])


def _wrapped(text: str, *, indent: int = 0, hang: int = 0) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_on_hyphens=False,
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The columns under their names, the first and the last aligned left."""
    if not rows:
        return []
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    left = {0, 5}

    def cell(text: str, i: int) -> str:
        return text.ljust(widths[i]) if i in left else text.rjust(widths[i])

    return [" ".join(map(cell, line, range(len(columns)))).rstrip() for line in lines]


def named(entries: Sequence[EntryDrift]) -> list[str]:
    """The first few keys, and how many more there are."""
    names = [entry.key for entry in entries[:_NAMED]]
    return [*names, f"… and {len(entries) - _NAMED} more"] if len(entries) > _NAMED else names
