"""A drift report in words: the sentences that all formats share, and the text for a terminal."""

import textwrap
from collections.abc import Sequence

from latbench.lut.drift import DriftReport, EntryDrift, LutSummary, NetworkDrift
from latbench.lut.ratios import Ratio, Verdict
from latbench.wording import count_of, milliseconds, percent

_WIDTH = 80

#: At most this many missing ops are named.
_NAMED = 12

#: From this scale on, the report remarks on how much the ops disagree.
_RESTLESS_SCALE = 1.5

#: The verdicts on ops that count as drift.
DRIFTED = (Verdict.SLOWER, Verdict.FASTER, Verdict.MISSING)


def verdict_line(report: DriftReport) -> str:
    """The verdict in one line."""
    if report.overall is None:
        reason, *others = [change.what for change in report.changes if change.blocks]
        more = f", and {len(others)} more" if others else ""
        return f"cannot compare: {reason}{more}"
    parts = []
    if report.level is not None and report.level_drifted:
        parts.append(f"everything {report.level.verdict}")
    if networks := sum(network.change.drifted for network in report.networks):
        parts.append(f"{networks} of {count_of(len(report.networks), 'network')}")
    counts = [(len(found), verdict) for verdict in DRIFTED if (found := report.of(verdict))]
    for number, (count, verdict) in enumerate(counts):
        parts.append(f"{count if number else count_of(count, 'op')} {verdict}")
    if parts:
        return f"drift: {', '.join(parts)}"
    if report.machine is not None and report.level is report.beyond and report.overall.drifted:
        change = f"{percent(abs(report.overall.ratio - 1))} {report.overall.verdict}"
        return f"no drift: the machine is {change}, by the reference too"
    return "no drift"


def remarks_on(report: DriftReport) -> list[str]:
    """The limits of the comparison, one sentence each."""
    overall, remarks = report.overall, []
    if overall is None:
        return []
    if overall.source == "nothing":
        remarks.append(
            "The overall change cannot be estimated, and is assumed to be none: too few ops are in both "
            "LUTs, and they have no sentinel in common."
        )
    elif report.level is not None and report.level.detectable > 1 + report.level_tolerance:
        remarks.append(
            f"A change of everything is found reliably from {change_of(report.level.detectable)} on; a "
            "smaller one cannot be told from the variation of the machine."
        )
    if report.machine is None:
        remarks.append(
            f"{_no_reference(report)}, so a change of the machine cannot be told from one of the runtime."
        )
    if overall.scale > _RESTLESS_SCALE:
        remarks.append(
            f"The ops disagree {overall.scale:.1f} times as much as their intervals explain: the machine was "
            "restless, or too many ops changed to be found one by one."
        )
    if noisy := sorted(report.undetectable):
        middle = noisy[len(noisy) // 2]
        remarks.append(
            f"{count_of(len(noisy), 'op')} {'is' if len(noisy) == 1 else 'are'} too noisy for a slowdown of "
            f"{_share(report.tolerance)} to be found reliably; the median of them needs {change_of(middle)}."
        )
    if report.machine is not None and report.networks:
        those = " that both runs timed" if report.strict_level else ""
        remarks.append(
            f"The reference, which uses no runtime, changed by {change_of(report.machine.ratio)}; "
            f"this is divided out of the change of the networks{those}."
        )
    if new := len(report.of(Verdict.NEW)):
        remarks.append(
            f"{count_of(new, 'op')} of the current LUT {'is' if new == 1 else 'are'} new."
        )
    return remarks


def _no_reference(report: DriftReport) -> str:
    """Which LUT lacks a reference, if not both have one, but others."""
    named = {"baseline": report.baseline.reference, "current": report.current.reference}
    lacking = [name for name, reference in named.items() if reference is None]
    if len(lacking) == 1:
        return f"The {lacking[0]} LUT has no reference"
    return "Neither LUT has a reference" if lacking else "The LUTs have different references"


def overall_line(report: DriftReport) -> str:
    """The overall change of comparable LUTs, and what of it is the machine's, in one line."""
    return "; ".join(overall_parts(report))


def overall_parts(report: DriftReport) -> list[str]:
    """The overall change of comparable LUTs, the machine's, and what is left; what counts is judged."""
    overall, machine, beyond = report.overall, report.machine, report.beyond
    assert overall is not None
    raw = f"{change_of(overall.ratio)} {bounds(overall)}"
    if machine is None or beyond is None:
        return [f"{raw}: {finding(overall)}"]
    explained = f"the machine, by the reference: {change_of(machine.ratio)} {bounds(machine)}"
    left = f"beyond the machine: {change_of(beyond.ratio)} {bounds(beyond)}"
    if report.strict_level:
        return [f"{raw}: {finding(overall)}", explained, left]
    return [raw, explained, f"{left}: {finding(beyond)}"]


def finding(ratio: Ratio) -> str:
    """The result of a test, in a word or two."""
    return "no change" if not ratio.drifted else str(ratio.verdict)


def change_of(ratio: float) -> str:
    """A ratio as a change in per cent, like +5.1%."""
    return percent(ratio - 1, signed=True)


def _share(share: float) -> str:
    return f"{100 * share:.3g}%"


def bounds(ratio: Ratio) -> str:
    """The 95 % interval of a change."""
    return f"[{change_of(ratio.low)}, {change_of(ratio.high)}]"


def identity(lut: LutSummary) -> str:
    """Which LUT it is, in one line."""
    return f"{lut.created}, {count_of(lut.entries, 'op')}, sha256 {lut.content_sha256[:12]}"


def moved_ops(report: DriftReport) -> list[EntryDrift]:
    """The ops that are slower or faster, the most significant first."""
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
            change_of(e.change.ratio),
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
            change_of(network.change.ratio),
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
        f"{found} of {count_of(compared, 'op')} changed beyond the overall change "
        f"(tolerance {_share(report.tolerance)})"
    )


def ratio_line(workload: EntryDrift | NetworkDrift) -> str:
    """An op or a network that both LUTs have, in one line."""
    change, before, after = workload.change, workload.baseline_ms, workload.current_ms
    assert change is not None
    assert before is not None
    assert after is not None
    return (
        f"{finding(change)}, {change_of(change.ratio)} {bounds(change)}: "
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
        lines += ["", "Also different:"]
        for change in report.changes:
            lines += _wrapped(f"{change.what}: {change.baseline} -> {change.current}", indent=2)
            lines += _wrapped(change.explanation, indent=4)
    if report.overall is not None:
        overall, *parts = overall_parts(report)
        lines += ["", f"Overall change: {overall}", *(f"  {part}" for part in parts)]
        lines += [line for remark in remarks_on(report) for line in _wrapped(remark)]
        lines += ["", f"{op_heading(report)}{':' if moved_ops(report) else '.'}"]
        lines += _table(OP_COLUMNS, op_rows(report))
        if missing := report.of(Verdict.MISSING):
            lines += ["", f"{count_of(len(missing), 'op')} missing from the current LUT:"]
            lines += [f"  {name}" for name in named(missing)]
        if report.networks:
            lines += ["", f"Networks, including the overall change{_left(report)}:"]
            lines += _table(NETWORK_COLUMNS, network_rows(report))
    return "\n".join([*lines, "", verdict_line(report)])


def _left(report: DriftReport) -> str:
    """What the changes of networks do not include."""
    explained = report.machine is not None and not report.strict_level
    return " beyond the machine's" if explained else ""


def _wrapped(text: str, *, indent: int = 0, hang: int = 0) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_on_hyphens=False,
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; its first and last columns are aligned left."""
    if not rows:
        return []
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    left = {0, 5}

    def cell(text: str, i: int) -> str:
        return text.ljust(widths[i]) if i in left else text.rjust(widths[i])

    return [" ".join(map(cell, line, range(len(columns)))).rstrip() for line in lines]


def named(entries: Sequence[EntryDrift]) -> list[str]:
    """The first keys, and how many more there are."""
    names = [entry.key for entry in entries[:_NAMED]]
    return [*names, f"… and {len(entries) - _NAMED} more"] if len(entries) > _NAMED else names
