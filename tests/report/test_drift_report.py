"""The formats of drift reports, whatever text a LUT contains."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from latbench import Lut, SearchSpace
from latbench.cli.drift import FORMATS as OFFERED
from latbench.lut import Entry
from latbench.lut.drift import DriftReport, compare_luts
from latbench.lut.ratios import Verdict
from latbench.report.drift import FORMATS, render
from latbench.space.design import landmark_networks
from latbench.target import Precision, Runtime, Target
from tests.lut.test_drift import FBNET_KEYS, KEYS, draw
from tests.lut.test_lut import SPACE, make_lut

HOSTILE = (
    "a|b `c` <b>&amp; \"q\" 'r' ]]> %0A ::error::x\r\n\x00\x07\x1b[31mred\x1b[0m \ud800 \u2028 ü"
)


def clean() -> DriftReport:
    rng = np.random.default_rng(1)
    return compare_luts(draw(rng), draw(rng, level=1.01))


def drifted() -> DriftReport:
    """Many ops slower and faster, some missing, one new, everything slower, and many other differences."""
    rng = np.random.default_rng(2)
    changed = dict.fromkeys(KEYS[:14], 1.5) | dict.fromkeys(KEYS[20:32], 0.7)
    (new, *gone) = [key for key in KEYS[32:] if key not in FBNET_KEYS]
    before = draw(rng, keys={*KEYS} - {new}, **with_text("before"))
    after = draw(rng, changed, level=1.2, keys={*KEYS} - {*gone}, **with_text("after"))
    return compare_luts(before, after)


def faster() -> DriftReport:
    rng = np.random.default_rng(3)
    return compare_luts(draw(rng), draw(rng, dict.fromkeys(KEYS[:20], 0.8), level=0.8))


def with_text(text: str) -> dict[str, Any]:
    return {
        "tool": {"runtime_version": text, "measured_by_version": text},
        "method": {"runner": text, "abi": text, "settings": {text[:1]: 1, "ci": text}},
        "conditions": {"unit": text, "build": text, "governors": [text], "description": "one"},
    }


def incomparable() -> DriftReport:
    """Nothing is alike."""
    target = {"device": "host", "runtime": Runtime.ONNX, "precision": Precision.INT8}
    alike = {"description": "a", "emulated": False}
    other = make_lut(
        space=SearchSpace.named("fbnet", input_size=128).to_dict(),
        target=Target(**target, threads=2, accelerator="gpu"),
        provenance="imported",
        conditions={"description": "b", "emulated": True},
    )
    return compare_luts(make_lut(conditions=alike), other)


def hostile() -> DriftReport:
    """A hostile text wherever a LUT can contain text; it must have no effect."""
    rng = np.random.default_rng(4)
    target = Target(device=HOSTILE[:-5], runtime=Runtime.TFLITE, precision=Precision.FP32)
    before = draw(rng, target=target, **with_text(HOSTILE))
    slow = dict.fromkeys(KEYS[:9], 1.2)
    return compare_luts(before, draw(rng, slow, target=target, **with_text(HOSTILE + "!")))


def hostile_device() -> DriftReport:
    target = Target(device=HOSTILE, runtime=Runtime.TFLITE, precision=Precision.FP32)
    return compare_luts(make_lut(), make_lut(target=target))


def one_op() -> DriftReport:
    return compare_luts(*(make_lut(entries={KEYS[0]: exact(ms)}) for ms in (1.0, 2.0)))


def nothing_in_common() -> DriftReport:
    return compare_luts(*(make_lut(entries={key: exact(1.0)}) for key in KEYS[:2]))


def exact(ms: float) -> Entry:
    return Entry(ms=ms, ci95=(ms, ms), samples=0, rounds=0, spread=0.0, macs=0)


REPORTS: dict[str, Callable[[], DriftReport]] = {
    made.__name__: made
    for made in (
        clean, drifted, faster, incomparable, hostile, hostile_device, one_op, nothing_in_common,
    )
}  # fmt: skip


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> DriftReport:
    """Each kind of report."""
    return REPORTS[request.param]()


def test_the_reports_are_what_they_are_called() -> None:
    assert (clean().comparable, clean().drifted) == (True, False)
    assert (incomparable().comparable, incomparable().drifted) == (False, False)
    found = {verdict: len(drifted().of(verdict)) for verdict in Verdict}
    assert found[Verdict.SLOWER] > 6 < found[Verdict.FASTER]
    assert found[Verdict.MISSING] > 12
    assert found[Verdict.NEW] == 1
    level = drifted().overall
    assert level is not None
    assert level.drifted
    assert any(network.change.drifted for network in drifted().networks)
    assert not hostile_device().comparable
    assert hostile().drifted


def test_the_command_offers_every_format(report: DriftReport) -> None:
    assert tuple(FORMATS) == OFFERED
    for form in FORMATS:
        text = render(report, form)
        assert text
        assert not text.endswith("\n")


@pytest.mark.parametrize("form", FORMATS)
def test_text_of_a_lut_cannot_command_a_terminal_nor_break_the_output(form: str) -> None:
    for report in (hostile(), hostile_device()):
        text = render(report, form)
        assert text.encode()  # no lone surrogates
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "json"])
def test_nouns_agree_and_zero_has_no_sign(report: DriftReport, form: str) -> None:
    text = render(report, form)
    assert not re.search(r"[-+]0\.0%", text)
    assert not re.search(r"\b1 (more )?(ops|networks)\b", text)
    assert not re.search(r"\b(0|[2-9]|\d\d+) (more )?(op|network)\b", text)


# Text


def verdict_of(report: DriftReport) -> str:
    if not report.comparable:
        return "cannot compare: "
    return "drift: " if report.drifted else "no drift"


def test_text_fits_a_terminal(report: DriftReport) -> None:
    text = render(report, "text")
    assert max(map(len, text.splitlines())) <= 80


def test_the_verdict_is_the_last_line_of_text(report: DriftReport) -> None:
    assert render(report, "text").splitlines()[-1].startswith(verdict_of(report))


def test_what_else_is_different_comes_before_numbers(report: DriftReport) -> None:
    text = render(report, "text")
    if not report.changes:
        assert "Also different" not in text
    elif report.comparable:
        assert text.index("Also different") < text.index("Overall change: ")
    flat = " ".join(text.split())
    for change in report.changes:
        assert change.explanation in flat


def test_text_names_every_op_that_moved_and_counts_those_that_are_missing() -> None:
    report = drifted()
    text = render(report, "text")
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for one in (*report.of(Verdict.SLOWER), *report.of(Verdict.FASTER)):
        assert one.change is not None
        assert f"{one.change.ratio - 1:+.1%}" in lines[one.key]
    missing = len(report.of(Verdict.MISSING))
    assert f"{missing} ops missing from the current LUT:" in text
    assert f"and {missing - 12} more" in text


@pytest.mark.parametrize("factor", [1.6, 0.85, 25.0])
def test_the_widest_ops_of_the_default_space_fit_a_terminal(factor: float) -> None:
    space = SearchSpace.named("fbnet")
    before, after = (
        make_lut(
            space=space.to_dict(),
            entries={
                op.key: exact(12.3 * (factor if op.height == 112 and now else 1.0))
                for op in space.unique_ops
            },
        )
        for now in (False, True)
    )
    text = render(compare_luts(before, after), "text")
    assert "ir_k3_e1_g1_s1_i16_o16_h112_w112" in text
    assert max(map(len, text.splitlines())) <= 80


# JSON

PAGE = Path(__file__).parents[2] / "docs/drift.md"


def documented() -> dict[str, set[str]]:
    """Top-level key -> the keys within it, as the table under "JSON" in docs/drift.md has them."""
    table = PAGE.read_text(encoding="utf-8").split("## JSON", 1)[1]
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE):
        keys, within = (re.findall(r"`(\w+)`", cell) for cell in row.split(" | ", 1))
        found |= {key: set(within) for key in keys}
    return found


def test_json_has_the_keys_that_are_documented(report: DriftReport) -> None:
    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data, keys = json.loads(render(report, "json"), parse_constant=strict), documented()
    assert set(data) == set(keys)
    for name in ("changes", "entries", "networks"):
        assert all(set(one) == keys[name] for one in data[name])
    assert set(data["baseline"]) == set(data["current"]) == keys["baseline"]
    assert data["level"] is None or set(data["level"]) == keys["level"]


def test_json_says_what_the_report_says(report: DriftReport) -> None:
    data = json.loads(render(report, "json"))
    assert (data["comparable"], data["drifted"]) == (report.comparable, report.drifted)
    assert (data["level"] is None) == (not report.comparable)
    for row, one in zip(data["entries"], report.entries, strict=True):
        assert (row["key"], row["verdict"], row["q"]) == (one.key, one.verdict.value, one.q)
        assert (row["baseline_ms"], row["current_ms"]) == (one.baseline_ms, one.current_ms)
        assert row["ratio"] == (one.change.ratio if one.change else None)
    for name in ("slower", "faster", "missing", "new"):
        of_verdict = {one["key"] for one in data["entries"] if one["verdict"] == name}
        assert set(data[name]) == of_verdict
        assert len(data[name]) == len(of_verdict)
    changes = [(one["what"], one["baseline"], one["current"]) for one in data["changes"]]
    assert changes == [(one.what, one.baseline, one.current) for one in report.changes]
    assert data["baseline"]["content_sha256"] == report.baseline.content_sha256


# JUnit


def junit(report: DriftReport) -> ElementTree.Element:
    root = ElementTree.fromstring(render(report, "junit").encode())
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    return suite


def test_junit_parses_and_its_counts_are_right(report: DriftReport) -> None:
    suite = junit(report)
    cases = suite.findall("testcase")
    counts = {
        "tests": len(cases),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    assert bool(counts["failures"]) == report.drifted
    assert bool(counts["errors"]) == (not report.comparable)
    assert all(case.get("name") and case.get("classname") for case in cases)
    named = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(named)) == len(named)


def test_junit_has_a_case_for_everything_that_was_compared() -> None:
    report = drifted()
    suite = junit(report)
    outcome = {
        case.get("name"): next((child.tag for child in case), "passed")
        for case in suite.findall("testcase")
    }
    expected = {
        Verdict.SAME: "passed",
        Verdict.SLOWER: "failure",
        Verdict.FASTER: "failure",
        Verdict.MISSING: "failure",
        Verdict.NEW: "skipped",
    }
    for entry in report.entries:
        assert outcome[entry.key] == expected[entry.verdict]
    for network in report.networks:
        assert outcome[network.name] == expected[network.change.verdict]
    assert outcome["level"] == "failure"
    messages = [failure.get("message") or "" for failure in suite.iter("failure")]
    assert sum("slower, +" in message for message in messages) >= 14
    assert "drift: " in (suite.findtext("system-out") or "")


def test_junit_keeps_what_xml_can_hold_of_a_hostile_text() -> None:
    suite = junit(hostile())
    values = {one.get("name"): one.get("value") or "" for one in suite.iter("property")}
    kept = "".join(letter if letter.isprintable() else "�" for letter in HOSTILE)
    assert values["runtime version"].startswith(f"{kept} -> {kept}!: ")
    assert "]]>" in (suite.findtext("system-out") or "")
    (case,) = (one for one in junit(hostile_device()) if one.find("error") is not None)
    assert case.get("name") == "device"


# Markdown


def test_markdown_tables_have_as_many_cells_in_every_row(report: DriftReport) -> None:
    lines = render(report, "markdown").splitlines()
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    for table in filter(None, tables):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(cells) == 1, table
        assert all(line.endswith("|") for line in table)
        assert re.fullmatch(r"(\| --- )+\|", table[1])
    rows = sum(len(table) - 2 for table in tables if table)
    moved = len(report.of(Verdict.SLOWER)) + len(report.of(Verdict.FASTER))
    assert rows == len(report.changes) + moved + len(report.networks)


def test_markdown_of_hostile_text_is_inert() -> None:
    for report in (hostile(), hostile_device()):
        text = render(report, "markdown")
        outside = re.sub(r"`[^`\n]*`", "", text)
        assert "`" not in outside
        for harmful in ("<b>", "&amp;", "::error", "]]>", "31mred"):
            assert harmful in text  # it is shown
            assert harmful not in outside  # and means nothing


def test_markdown_starts_with_the_verdict(report: DriftReport) -> None:
    heading = render(report, "markdown").splitlines()[0]
    messages = verdict_of(report).removeprefix("drift: ")
    assert heading.startswith(f"### latbench drift: {messages}")


# GitHub's workflow commands

COMMAND = re.compile(r"::(error|warning|notice) title=([^:,]+)::(.*)")


def commands(report: DriftReport) -> list[tuple[str, str, str]]:
    """(kind, title, message) of every line, read as GitHub's runner reads them."""

    def plain(text: str) -> str:
        for escaped, meant in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ",")):
            text = text.replace(escaped, meant)
        return text.replace("%25", "%")

    found = []
    for line in re.split(r"\r\n|\r|\n", render(report, "github")):
        match = COMMAND.fullmatch(line) if "\u2028" not in line else COMMAND.match(line)
        assert match, line
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", match[2] + match[3]), line
        found.append((match[1], plain(match[2]), plain(match[3])))
    return found


def test_annotations_are_as_many_as_github_shows(report: DriftReport) -> None:
    found = commands(report)
    for kind in ("error", "warning", "notice"):
        assert sum(one == kind for one, _, _ in found) <= 10
    assert all(title.startswith("latbench drift, ") for _, title, _ in found)
    failed = report.of(Verdict.SLOWER) + report.of(Verdict.MISSING)
    if failed or not report.comparable:
        assert any(kind == "error" for kind, _, _ in found)
    assert found[-1][:2] == ("notice", "latbench drift, verdict")
    assert found[-1][2].startswith(verdict_of(report))


def test_annotations_tell_of_everything_that_drifted() -> None:
    report = drifted()
    found = commands(report)
    for verdict, kind in ((Verdict.SLOWER, "error"), (Verdict.FASTER, "warning")):
        messages = "\n".join(f"{title} {message}" for one, title, message in found if one == kind)
        for entry in report.of(verdict):
            assert entry.key in messages
    titles = [title for _, title, _ in found]
    assert "latbench drift, everything slower" in titles
    assert any(title.endswith("missing") for title in titles)
    other = {
        kind: [t for k, t, _ in commands(faster()) if k == kind] for kind in ("error", "warning")
    }
    assert other["error"] == []
    assert "latbench drift, everything faster" in other["warning"]


def test_what_cannot_be_compared_is_one_error() -> None:
    errors = [message for kind, _, message in commands(incomparable()) if kind == "error"]
    (message,) = errors
    for change in incomparable().changes:
        assert change.explanation in message


def test_slower_and_faster_networks_are_annotated_separately() -> None:
    """A slower network must not be among the warnings because the first network is faster."""
    rng = np.random.default_rng(5)
    ops = [{op.key for op in network.ops} for network in landmark_networks(SPACE).values()]
    changed = dict.fromkeys(ops[0] - ops[1] - ops[2], 0.3) | dict.fromkeys(ops[2] - ops[0], 2.0)
    report = compare_luts(draw(rng), draw(rng, changed))
    verdicts = {network.name: network.change.verdict for network in report.networks}
    assert verdicts["fbnet_a"] is Verdict.FASTER
    assert verdicts["fbnet_c"] is Verdict.SLOWER
    messages = {
        kind: "\n".join(m for k, t, m in commands(report) if k == kind and "networks" in t)
        for kind in ("error", "warning")
    }
    assert "fbnet_c" in messages["error"]
    assert "fbnet_c" not in messages["warning"]
    assert "fbnet_a" in messages["warning"]


def test_a_lut_that_was_read_from_a_file_renders_the_same() -> None:
    rng = np.random.default_rng(6)
    before, after = draw(rng), draw(rng, {KEYS[7]: 1.2})
    read = compare_luts(
        *(Lut.from_dict(json.loads(json.dumps(x.to_dict()))) for x in (before, after))
    )
    for form in FORMATS:
        assert render(read, form) == render(compare_luts(before, after), form)
