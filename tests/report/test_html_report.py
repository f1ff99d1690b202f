"""The HTML report, as text and in headless Chromium."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latbench.errors import BadRequest
from latbench.lut import Lut
from latbench.report.html import report_html, report_sections
from tests.report.chromium import Chromium, find_chromium
from tests.report.html_examples import (
    HOSTILE,
    LUTS,
    SLOWER,
    later_lut,
    write_front,
    write_journal,
    write_search,
    write_validation,
)

VENDOR = Path(__file__).parents[2] / "latbench" / "report" / "html" / "assets" / "vendor"
MOST_BYTES = 3_000_000
SECTIONS = (
    "overview", "entries", "roofline", "comparison", "networks", "drift", "conditions", "search",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything there is to show."""
    folder = tmp_path_factory.mktemp("report")
    base = Lut.load(LUTS / "host-amd-epyc.json")
    luts = {"base": base, "later": later_lut(base)}
    sections = report_sections(
        luts,
        journal=write_journal(folder / "run.sqlite", base),
        search_folder=write_search(folder / "search", base),
        validation=json.loads(write_validation(folder / "each.json", base).read_text()),
    )
    assert tuple(one.name for one in sections) == SECTIONS
    path = folder / "report.html"
    path.write_text(report_html("a title", sections), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    path = find_chromium()
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with Chromium(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desktop(browser: Chromium, page: Path) -> Chromium:
    """The report at its desktop width, not loaded anew for tests that only look at it."""
    here = browser.evaluate("[location.href, innerWidth]")
    if here != [page.absolute().as_uri(), 1200]:
        browser.open(page)
    return browser


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two entries."""
    base = Lut.load(LUTS / "host-amd-epyc.json")
    entries = dict(sorted(base.entries.items())[40:42])
    part = base.model_copy(update={"entries": entries, "correction": None, "conditions": {}})
    sections = report_sections({"part": part})
    assert [one.name for one in sections] == ["overview", "entries", "roofline"]
    path = tmp_path_factory.mktemp("small") / "part.html"
    path.write_text(report_html("part", sections), encoding="utf-8")
    return path


def test_the_whole_report_is_small_and_alone(text: str) -> None:
    assert len(text.encode()) < MOST_BYTES
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # D3 names its home page
    assert not re.search(r'(src|href)="(?!#|data:,")', own)
    assert "http://" not in own
    assert "https://" not in own


def test_the_policy_allows_nothing_but_what_it_names(text: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert all(source.startswith("'sha256-") for source in rules["script-src"].split())
    assert not re.search(
        r"<[^>]* (style|on\w+)=", re.sub(r"<script.*?</script>", "", text, flags=re.S)
    )


def test_the_libraries_are_those_that_the_readme_names() -> None:
    listed = re.findall(
        r"^\| `(\S+)` .*`([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.M
    )
    assert {name for name, _ in listed} == {path.name for path in VENDOR.glob("*.js")}
    for name, digest in listed:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest


def test_tables_say_what_charts_show(text: str) -> None:
    tables = re.findall(r"<table>.*?</table>", text, re.S)
    assert text.count('class="chart"') == text.count("<details>") == text.count("<figure>")
    drift = next(one for one in tables if "before ms" in one)
    assert re.search(r"<caption>drift: .*1 op slower", drift)
    row = re.search(f"<tr><th scope=row>{SLOWER}</th>.*?</tr>", drift)
    assert row is not None
    assert "slower" in row[0]
    assert "+100" in row[0] or "+99" in row[0] or "+101" in row[0]
    tainted = next(one for one in tables if "tainted spans" in one)
    assert "10.0 s to 19.5 s" in tainted
    assert ">10</td>" in tainted
    validated = next(one for one in tables if "5 networks, predicted and measured" in one)
    assert validated.count("<td>no</td>") == 1
    front = next(one for one in tables if "epochs by latency and accuracy" in one)
    assert front.count("<td>yes</td>") == 4  # the slower, the more accurate


def test_a_search_for_several_targets_shows_each(tmp_path: Path) -> None:
    base = Lut.load(LUTS / "host-amd-epyc.json")
    *_, search = report_sections({"base": base}, search_folder=write_front(tmp_path, base))
    headings = [figure.heading for figure in search.figures]
    assert headings[0] == "Networks found"
    assert "Latency, target 6ms" in headings
    assert "Latency, target 12.5ms" in headings
    assert "The network found for 12.5ms, block by block" in headings
    assert search.text.count("Found ") == 2
    latency = search.figures[headings.index("Latency, target 12.5ms")].chart
    assert latency is not None
    assert {point["y"] for point in latency.data["points"] if point["s"] == 3} == {12.5}


def test_luts_that_cannot_be_compared_say_why() -> None:
    base = Lut.load(LUTS / "host-amd-epyc.json")
    other = base.model_copy(update={"conditions": {**base.conditions, "description": "a Ryzen"}})
    sections = {one.name: one for one in report_sections({"a": base, "b": other})}
    (figure,) = sections["drift"].figures
    assert figure.chart is None
    assert figure.table.caption.startswith("cannot compare")
    assert any("a Ryzen" in row for row in figure.table.rows)


def test_a_part_of_a_lut_is_drawn_with_its_gaps(browser: Chromium, small: Path) -> None:
    browser.open(small)
    assert browser.evaluate("document.querySelectorAll('.chart svg').length") == 3
    assert browser.complaints == []


@pytest.mark.parametrize("value", [True, "9.0", [9.0]])
@pytest.mark.parametrize("name", ["architecture.json", "events.jsonl"])
def test_a_search_whose_numbers_are_none_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    base = Lut.load(LUTS / "host-amd-epyc.json")
    path = write_search(tmp_path, base) / name
    text = path.read_text()
    damaged = re.sub(
        r'"predicted_ms": [\d.]+', f'"predicted_ms": {json.dumps(value)}', text, count=1
    )
    assert damaged != text
    path.write_text(damaged)
    with pytest.raises(BadRequest, match=rf"{name}.*predicted_ms must be a number, got"):
        report_sections({"base": base}, search_folder=tmp_path)


def test_a_modelled_lut_is_named_as_one() -> None:
    overview, *_ = report_sections({"iphonex": Lut.load(LUTS / "iphonex.json")})
    assert "iphonex is a modelled LUT; replace it with: latbench profile" in overview.warning


def test_every_chart_is_drawn_and_nothing_is_fetched(desktop: Chromium, page: Path) -> None:
    charts = desktop.evaluate(
        "[...document.querySelectorAll('.chart')].map(box => [...box.children].map(svg =>"
        " [svg.tagName, svg.getAttribute('role'), svg.getAttribute('aria-label')]))"
    )
    assert len(charts) > 15
    assert all(len(one) == 1 and one[0][:2] == ["svg", "img"] and one[0][2] for one in charts)
    assert desktop.complaints == []
    assert desktop.requests == [page.absolute().as_uri()]


def test_what_a_lut_says_is_text(desktop: Chromium) -> None:
    assert desktop.evaluate("document.title") == "a title"
    assert HOSTILE in desktop.evaluate("document.querySelector('#conditions').innerText")


def test_pointing_at_a_cell_tells_its_interval(desktop: Chromium) -> None:
    x, y = desktop.evaluate(
        "(() => { const cell = document.querySelector('#entries g[data-mark=cell] rect');"
        " cell.scrollIntoView({block: 'center'}); const box = cell.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    desktop.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    shown = desktop.evaluate("document.querySelector('#entries svg').textContent")
    assert "ir_k3_e1_g1_s1_i16_o16_h112_w112" in shown
    assert "95 %" in shown


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(desktop: Chromium, dark: bool) -> None:
    desktop.prefer(dark=dark)
    lightness = """(name, on) => {
      const probe = document.querySelector(name);
      const value = getComputedStyle(probe)[on].match(/[\\d.]+/g).slice(0, 3).map(Number);
      const [r, g, b] = value.map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; }"""
    back = desktop.evaluate(f"({lightness})('body', 'backgroundColor')")
    assert (back < 0.2) is dark
    for name in ("p", "a[href]", "summary", ".legend", ".plot"):
        front = desktop.evaluate(f"({lightness})('{name}', 'color')")
        low, high = sorted((front, back))
        assert (high + 0.05) / (low + 0.05) > 4.5, name  # WCAG 2, level AA


def test_the_keyboard_reaches_links_tables_and_details(browser: Chromium, page: Path) -> None:
    browser.open(page)  # anew: where Tab begins is where a test before this one scrolled to
    reached = []
    for _ in range(16):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        reached.append(
            browser.evaluate("document.activeElement.className || document.activeElement.tagName")
        )
    assert reached[0] == "skip"
    assert {"A", "scroll", "SUMMARY"} <= set(reached)


def test_the_policy_is_in_force(browser: Chromium, small: Path) -> None:
    browser.open(small)
    browser.evaluate(
        "(() => { const script = document.createElement('script');"
        " script.textContent = 'document.title = \"pwned\"'; document.body.append(script); })()"
    )
    assert browser.evaluate("document.title") == "part"
    assert any("Content Security Policy" in one for one in browser.complaints)


def test_a_phone_needs_no_sideways_scrolling(browser: Chromium, page: Path) -> None:
    browser.open(page, width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    widest = "Math.max(...[...document.querySelectorAll('.chart svg')].map(one => one.clientWidth))"
    assert browser.evaluate(widest) <= 390
    assert browser.complaints == []
