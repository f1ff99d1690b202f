"""The page of a report: sections of figures, each a chart with a table of the same content.

One file contains everything. Its Content-Security-Policy forbids all requests, and all scripts and styles
except those whose hashes it lists; the contents of LUTs and journals are text, never markup or code.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any, Literal

from latbench._version import __version__

Kind = Literal["heatmap", "scatter", "forest", "time", "slope", "bars"]

_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "report.js")

#: The <style> that Observable Plot 0.6.17 adds to every chart of class `plot`.
PLOT_STYLES = """:where(.plot) {
  --plot-background: white;
  display: block;
  height: auto;
  height: intrinsic;
  max-width: 100%;
}
:where(.plot text),
:where(.plot tspan) {
  white-space: pre;
}"""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row is its heading. Names of right-aligned columns end in '>'."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart for `report.js`: its kind, its data (JSON), and its description in one sentence.

    `legend` names the series by number; series without a name are left out of the legend.
    """

    kind: Kind
    label: str
    data: dict[str, Any]
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A chart and its table; a table without a chart is shown open."""

    heading: str
    table: Table
    chart: Chart | None = None
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Figures under a heading; `name` is the anchor, `warning` is highlighted."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    text: str = ""
    warning: str = ""


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the HTML document."""
    charts = [one.chart for part in sections for one in part.figures if one.chart is not None]
    style, scripts = _asset("report.css"), [_asset(name) for name in _SCRIPTS]
    data = [{"kind": one.kind, "label": one.label, **one.data} for one in charts]
    numbers = iter(range(len(charts)))
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections)
    body = "\n".join(_section(one, numbers) for one in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="latbench {__version__}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header><h1>{escape(title)}</h1>
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main id="main">
{body}
</main>
<footer><p>Made by latbench {__version__}. Drawn with Observable Plot and D3 (ISC licence,
Copyright Observable, Inc. and Mike Bostock).</p></footer>
<script type="application/json" id="data">{_inert(data)}</script>
{"".join(f"<script>{one}</script>" for one in scripts)}
</body>
</html>
"""


def _policy(style: str, scripts: Sequence[str]) -> str:
    code = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {code}; style-src {_hash(style)} {_hash(PLOT_STYLES)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.cache
def _asset(name: str) -> str:
    path = resources.files("latbench.report.html") / "assets" / name
    text = path.read_text(encoding="utf-8")
    assert "</script" not in text
    assert "</style" not in text
    return text


def _inert(data: Any) -> str:
    """JSON without characters that an HTML parser could take for a tag or a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(section: Section, numbers: Iterator[int]) -> str:
    parts = [f'<section id="{section.name}" aria-labelledby="{section.name}-title">']
    parts.append(f'<h2 id="{section.name}-title">{escape(section.title)}</h2>')
    if section.warning:
        parts.append(f'<p class="warning" role="note">{escape(section.warning)}</p>')
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    parts += [_figure(one, numbers) for one in section.figures]
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure, numbers: Iterator[int]) -> str:
    heading = f"<h3>{escape(figure.heading)}</h3>" if figure.heading else ""
    note = f"<p>{escape(figure.note)}</p>" if figure.note else ""
    table = _table(figure.table)
    if figure.chart is None:
        return f"{heading}{note}{table}"
    swatches = "".join(
        f'<li><span class="swatch s{number}" aria-hidden="true"></span>{escape(name)}</li>'
        for number, name in enumerate(figure.chart.legend)
        if name
    )
    legend = f'<ul class="legend">{swatches}</ul>' if swatches else ""
    return (
        f"<figure>{heading}{note}{legend}"
        f'<div class="chart" data-chart="{next(numbers)}"></div>'
        f"<details><summary>As a table: {escape(figure.table.caption)}</summary>{table}</details>"
        "</figure>"
    )


def _table(table: Table) -> str:
    right = {n for n, name in enumerate(table.columns) if name.endswith(">")}
    names = [escape(name.removesuffix(">")) for name in table.columns]

    def cell(number: int, text: str) -> str:
        tag = "th scope=row" if number == 0 else "td"
        number_class = ' class="n"' if number in right else ""
        return f"<{tag}{number_class}>{escape(text)}</{tag[:2]}>"

    head = "".join(
        f"<th scope=col{' class=n' if n in right else ''}>{name}</th>"
        for n, name in enumerate(names)
    )
    rows = "".join(
        f"<tr>{''.join(cell(n, text) for n, text in enumerate(row))}</tr>" for row in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}">'
        f"<table><caption>{escape(table.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
