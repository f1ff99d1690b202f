"""A drift report for continuous integration: JUnit's XML, Markdown, and GitHub's annotations."""

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
    level_line,
    named,
    network_rows,
    number_of,
    op_heading,
    op_rows,
    ratio_line,
    remarks_on,
    verdict_line,
)

#: GitHub shows at most ten annotations of each kind a step; so many ops have one of their own.
_ANNOTATED = 6

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# JUnit


def as_junit(report: DriftReport) -> str:
    """The report as JUnit's XML: what drifted fails, what cannot be compared is an error."""
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
            told = f"{change.baseline} -> {change.current}: {change.explanation}"
            case("comparable", _xml(change.what), "error", told)
    if report.level is not None:
        failed = "failure" if report.level.drifted else None
        case("level", "level", failed, level_line(report))
    for network in report.networks:
        failed = "failure" if network.change.drifted else None
        case("networks", network.name, failed, ratio_line(network))
    for entry in report.entries:
        if entry.verdict is Verdict.MISSING:
            case("ops", entry.key, "failure", "the current LUT lacks it")
        elif entry.change is not None and entry.change.drifted:
            case("ops", entry.key, "failure", ratio_line(entry))
        elif entry.verdict is Verdict.NEW:
            case("ops", entry.key, "skipped", "the baseline lacks it")
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
    """The report for a job's summary on GitHub."""
    lines = [f"### latbench drift: {verdict_line(report).removeprefix('drift: ')}", ""]
    if report.comparable:
        lines += [f"{_code(report.current.target)}, {_code(report.current.space)}", ""]
    lines += [f"- baseline: {_code(identity(report.baseline))}"]
    lines += [f"- current: {_code(identity(report.current))}", ""]
    if report.changes:
        columns = ("what else is different", "baseline", "current", "what it means")
        rows = [
            (change.what, _code(change.baseline), _code(change.current), change.explanation)
            for change in report.changes
        ]
        lines += _markdown_table(columns, rows)
    if report.level is not None:
        lines += [f"Level: {level_line(report)}", ""]
        lines += [line for remark in remarks_on(report) for line in (remark, "")]
        lines += [op_heading(report), ""]
        ops = [(_code(key), *rest) for key, *rest in op_rows(report)]
        lines += _markdown_table(OP_COLUMNS, ops)
        if missing := report.of(Verdict.MISSING):
            names = ", ".join(named(missing))
            lines += [f"The current LUT lacks {number_of(len(missing), 'op')}: {names}", ""]
        lines += _markdown_table(NETWORK_COLUMNS, network_rows(report))
    return "\n".join(lines).rstrip()


def _markdown_table(columns: Iterable[str], rows: Sequence[Iterable[str]]) -> list[str]:
    """A table, and the empty line after it; nothing where there are no rows."""
    if not rows:
        return []
    names = list(columns)
    lines = [names, ["---"] * len(names), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _code(text: str) -> str:
    """Text of a LUT as a code span, where nothing in it means anything."""
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', '/').split())}`"


# GitHub's workflow commands


def as_annotations(report: DriftReport) -> str:
    """The report as GitHub's workflow commands, one a line.

    What is slower or missing is an error, what is faster a warning, what else changed a notice.
    """
    differences: dict[bool, list[str]] = {True: [], False: []}
    for change in report.changes:
        line = f"{change.what}: {change.baseline} -> {change.current}: {change.explanation}"
        differences[change.blocks].append(line)
    lines = []
    if differences[True]:
        lines.append(_command("error", "cannot compare", "\n".join(differences[True])))
    if differences[False]:
        lines.append(_command("notice", "what else is different", "\n".join(differences[False])))
    if report.level is not None and report.level.drifted:
        lines.append(_command(*_kind(report.level, "everything"), level_line(report)))
    for verdict in (Verdict.SLOWER, Verdict.FASTER):
        if moved := [one for one in report.networks if one.change.verdict is verdict]:
            told = "\n".join(f"{network.name} {ratio_line(network)}" for network in moved)
            lines.append(_command(*_kind(moved[0].change, "networks"), told))
        found = report.of(verdict)
        for entry in found[:_ANNOTATED]:
            assert entry.change is not None
            lines.append(_command(*_kind(entry.change, entry.key), ratio_line(entry)))
        if others := found[_ANNOTATED:]:
            told = "\n".join(f"{entry.key} {ratio_line(entry)}" for entry in others)
            kind, title = _kind(others[0].change, f"{number_of(len(others), 'more op')}")
            lines.append(_command(kind, title, told))
    if missing := report.of(Verdict.MISSING):
        title = f"{number_of(len(missing), 'op')} missing"
        lines.append(_command("error", title, "\n".join(named(missing))))
    lines.append(_command("notice", "verdict", verdict_line(report)))
    return "\n".join(lines)


def _kind(change: Ratio | None, what: str) -> tuple[str, str]:
    """(command, title) for something that drifted."""
    assert change is not None
    return "error" if change.verdict is Verdict.SLOWER else "warning", f"{what} {change.verdict}"


def _command(kind: str, title: str, message: str) -> str:
    """A workflow command, its property and its message escaped as GitHub's runner reads them."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title = f"latbench drift, {title}".replace("%", "%25").replace("\r", "%0D")
    title = title.replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{escaped}"
