"""A drift report for continuous integration: JUnit XML, Markdown, and GitHub annotations."""

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from latbench.lut.drift import DriftReport
from latbench.lut.ratios import Ratio, Verdict
from latbench.report.drift_text import (
    NETWORK_COLUMNS,
    OP_COLUMNS,
    as_text,
    identity,
    named,
    network_rows,
    op_heading,
    op_rows,
    overall_line,
    ratio_line,
    remarks_on,
    verdict_line,
)
from latbench.wording import count_of

#: GitHub shows at most ten annotations of a kind per step; this many ops have one each.
_ANNOTATED = 6

# Characters that XML 1.0 cannot contain, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# JUnit


def as_junit(report: DriftReport) -> str:
    """The report as JUnit XML: drift is a failure, LUTs that cannot be compared are an error."""
    suite = ElementTree.Element("testsuite", name="latbench drift")
    properties = ElementTree.SubElement(suite, "properties")
    for change in report.changes:
        value = _xml(f"{change.baseline} -> {change.current}: {change.explanation}")
        ElementTree.SubElement(properties, "property", name=_xml(change.what), value=value)
    tally = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}

    def case(group: str, name: str, outcome: str | None = None, message: str = "") -> None:
        element = ElementTree.SubElement(
            suite, "testcase", classname=f"latbench.drift.{group}", name=name, time="0"
        )
        tally["tests"] += 1
        if outcome is not None:
            found = ElementTree.SubElement(element, outcome, message=_xml(message))
            if outcome != "skipped":
                found.set("type", "drift" if outcome == "failure" else "cannot compare")
                found.text = _xml(message)
            tally[{"failure": "failures", "error": "errors"}.get(outcome, outcome)] += 1

    for change in report.changes:
        if change.blocks:
            message = f"{change.baseline} -> {change.current}: {change.explanation}"
            case("comparable", _xml(change.what), "error", message)
    if report.overall is not None:
        failed = "failure" if report.level_drifted else None
        case("level", "level", failed, overall_line(report))
    for network in report.networks:
        failed = "failure" if network.change.drifted else None
        case("networks", network.name, failed, ratio_line(network))
    for entry in report.entries:
        if entry.verdict is Verdict.MISSING:
            case("ops", entry.key, "failure", "missing from the current LUT")
        elif entry.change is not None and entry.change.drifted:
            case("ops", entry.key, "failure", ratio_line(entry))
        elif entry.verdict is Verdict.NEW:
            case("ops", entry.key, "skipped", "missing from the baseline")
        else:
            case("ops", entry.key)
    ElementTree.SubElement(suite, "system-out").text = _xml(as_text(report))
    for name, count in tally.items():
        suite.set(name, str(count))
    suite.set("time", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, "unicode")


def _xml(text: str) -> str:
    return _NOT_XML.sub("�", text)


# Markdown


def as_markdown(report: DriftReport) -> str:
    """The report for a GitHub job summary."""
    lines = [f"### latbench drift: {verdict_line(report).removeprefix('drift: ')}", ""]
    if report.comparable:
        lines += [f"{_code(report.current.target)}, {_code(report.current.space)}", ""]
    lines += [f"- baseline: {_code(identity(report.baseline))}"]
    lines += [f"- current: {_code(identity(report.current))}", ""]
    if report.changes:
        columns = ("also different", "baseline", "current", "what it means")
        rows = [
            (change.what, _code(change.baseline), _code(change.current), change.explanation)
            for change in report.changes
        ]
        lines += _markdown_table(columns, rows)
    if report.overall is not None:
        lines += [f"Overall change: {overall_line(report)}", ""]
        lines += [line for remark in remarks_on(report) for line in (remark, "")]
        lines += [op_heading(report), ""]
        ops = [(_code(key), *rest) for key, *rest in op_rows(report)]
        lines += _markdown_table(OP_COLUMNS, ops)
        if missing := report.of(Verdict.MISSING):
            names = ", ".join(named(missing))
            lines += [f"{count_of(len(missing), 'op')} missing from the current LUT: {names}", ""]
        lines += _markdown_table(NETWORK_COLUMNS, network_rows(report))
    return "\n".join(lines).rstrip()


def _markdown_table(columns: Iterable[str], rows: Sequence[Iterable[str]]) -> list[str]:
    """A table and an empty line after it; nothing if there are no rows."""
    if not rows:
        return []
    names = list(columns)
    lines = [names, ["---"] * len(names), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _code(text: str) -> str:
    """Text of a LUT as a code span, in which Markdown has no meaning."""
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', '/').split())}`"


# GitHub's workflow commands


def as_annotations(report: DriftReport) -> str:
    """The report as GitHub workflow commands, one per line.

    Slower and missing are errors, faster is a warning, other differences are a notice.
    """
    differences: dict[bool, list[str]] = {True: [], False: []}
    for change in report.changes:
        line = f"{change.what}: {change.baseline} -> {change.current}: {change.explanation}"
        differences[change.blocks].append(line)
    lines = []
    if differences[True]:
        lines.append(_command("error", "cannot compare", "\n".join(differences[True])))
    if differences[False]:
        lines.append(_command("notice", "also different", "\n".join(differences[False])))
    if report.level_drifted:
        lines.append(_command(*_kind(report.level, "everything"), overall_line(report)))
    for verdict in (Verdict.SLOWER, Verdict.FASTER):
        if moved := [one for one in report.networks if one.change.verdict is verdict]:
            message = "\n".join(f"{network.name} {ratio_line(network)}" for network in moved)
            lines.append(_command(*_kind(moved[0].change, "networks"), message))
        found = report.of(verdict)
        for entry in found[:_ANNOTATED]:
            assert entry.change is not None
            lines.append(_command(*_kind(entry.change, entry.key), ratio_line(entry)))
        if others := found[_ANNOTATED:]:
            message = "\n".join(f"{entry.key} {ratio_line(entry)}" for entry in others)
            kind, title = _kind(others[0].change, f"{count_of(len(others), 'more op')}")
            lines.append(_command(kind, title, message))
    if missing := report.of(Verdict.MISSING):
        title = f"{count_of(len(missing), 'op')} missing"
        lines.append(_command("error", title, "\n".join(named(missing))))
    lines.append(_command("notice", "verdict", verdict_line(report)))
    return "\n".join(lines)


def _kind(change: Ratio | None, what: str) -> tuple[str, str]:
    """The workflow command and the title for something that drifted."""
    assert change is not None
    return "error" if change.verdict is Verdict.SLOWER else "warning", f"{what} {change.verdict}"


def _command(kind: str, title: str, message: str) -> str:
    """A workflow command, its property and its message escaped as GitHub's runner expects."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title = f"latbench drift, {title}".replace("%", "%25").replace("\r", "%0D")
    title = title.replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{escaped}"
