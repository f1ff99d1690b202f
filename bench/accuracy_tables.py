"""Write the tables of README.md and docs/accuracy.md from the files in bench/results:
`python bench/accuracy_tables.py`.

A page names each table in a comment, `<!-- table: NAME -->`; what follows up to `<!-- end of table -->` is
written by this program, and a test compares. The names:

    short             what `bench/results/accuracy` has of each runtime and precision, worst machine included
    summary           that table's figures in sentences
    machines          a table for each file of `bench/results/accuracy`
    cost              what the profiles in these files cost
    FOLDER/FILE       the table in `bench/results/FOLDER/FILE.json`, for figures of other benches
"""

import itertools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.accuracy_results import FOLDER, Range, Results, Row, Summary, all_results
from latbench.files import write_atomically
from latbench.record import Record
from latbench.runtime.registry import descriptor
from latbench.target import Precision, Runtime
from latbench.wording import count_of

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "accuracy.md")

_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (written := rendered(text, page)) != text:
            write_atomically(page, written)
            print(f"wrote {page.relative_to(ROOT)}")


def rendered(text: str, page: Path, results: Mapping[Path, Results] | None = None) -> str:
    """The text of a page with its tables as the files in bench/results have them.

    Raises:
        ValueError: it names a table that there is not.
    """
    found = all_results() if results is None else results

    def written(match: re.Match[str]) -> str:
        name = match[2]
        if name in _TABLES:
            body = _TABLES[name](found, page)
        elif (path := FOLDER.parent / f"{name}.json").is_file():
            body = OtherTable.read(path).to_markdown(path, page)
        else:
            raise ValueError(f"{page.name} asks for a table {name!r} that there is not")
        return f"{match[1]}\n{body}\n\n{match[3]}"

    return _BLOCK.sub(written, text)


# Tables


class OtherTable(Record):
    """A table of another bench, cell by cell, and where it comes from."""

    source: str
    date: str
    command: str | None
    machine: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The table in a file; raises pydantic's error if it holds another."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def to_markdown(self, path: Path, page: Path) -> str:
        """The table and its origin."""
        command = f"`{self.command}`. " if self.command else ""
        origin = f"{self.machine}, {self.date}. {command}{self.source} ({_link(path, page)})."
        return f"{_table(self.columns, self.rows)}\n\n{_wrapped(origin)}"


def short_table(results: Mapping[Path, Results], page: Path) -> str:
    """For each runtime and precision the figures of this version, and an earlier one on its worst machine."""
    columns = ["", "mean error", "worst network", "in their interval"]
    columns += ["an earlier version on its worst machine"]
    pairs = [(one, row) for one in results.values() for row in one.rows]
    lines = []
    for runtime, precision in itertools.product(Runtime, Precision):
        of_both = [
            pair for pair in pairs if (pair[1].runtime, pair[1].precision) == (runtime, precision)
        ]
        if not of_both:
            continue
        now = [row for one, row in of_both if one.kind == "measured"]
        before = [pair for pair in of_both if pair[0].kind == "reported"]
        cells = [_over(now, "mape"), _over(now, "worst", 1), _over(now, "coverage", 0), ""]
        if before:
            one, row = max(before, key=lambda pair: _high(pair[1].summary.mape))
            threads = "" if row.threads == 1 else f", {row.threads} threads"
            cells[3] = f"{_over([row], 'mape')}, {_over([row], 'coverage', 0)} in their interval "
            cells[3] += f"({one.machine.cpu}{threads})"
        lines.append([f"{descriptor(runtime).title} {precision}", *cells])
    return _table(columns, lines)


def summary(results: Mapping[Path, Results], page: Path) -> str:
    """The figures of `short_table` in sentences."""
    lines = []
    for kind, name in (("measured", "This version"), ("reported", "Earlier versions")):
        chosen = {path: one for path, one in results.items() if one.kind == kind}
        rows = [row for one in chosen.values() for row in one.rows]
        if not rows:
            continue
        machines = {one.machine.title for one in chosen.values()}
        validations = sum(row.summary.validations for row in rows)
        lines.append(
            f"- **{name}** ({count_of(validations, 'validation')} on "
            f"{count_of(len(machines), 'machine')}): mean errors of {_over(rows, 'mape')}; "
            f"{_over(rows, 'coverage', 0)} of the measurements in their 95 % interval; rank "
            f"correlations (Spearman) of {_over(rows, 'spearman', 3, '')}."
        )
    return "\n".join(_wrapped(line, "  ") for line in lines)


def machine_tables(results: Mapping[Path, Results], page: Path) -> str:
    """A table for each file."""
    columns = ["", "validations", "level", "mean error", "worst", "within 3 %", "within 5 %"]
    columns += ["in their interval", "Spearman", "floor", "sentinel drift"]
    parts = []
    # Measured files first, the newest first.
    order = sorted(results.items(), key=lambda item: item[1].date, reverse=True)
    for path, one in sorted(order, key=lambda item: item[1].kind):
        lines = [
            [
                _name(row),
                _validations(row.summary),
                _text(row.summary.level, 1, signed=True),
                _text(row.summary.mape, 2),
                _text(row.summary.worst, 1),
                _text(row.summary.within_3, 0),
                _text(row.summary.within_5, 0),
                _text(row.summary.coverage, 0),
                _text(row.summary.spearman, 3, unit=""),
                _text(row.summary.floor, 2),
                _text(row.summary.sentinel, 0),
            ]
            for row in one.rows
        ]
        command = f"`{one.command}`. " if one.command else ""
        origin = f"latbench {one.latbench}. {command}{one.source[0].upper()}{one.source[1:]}"
        origin += f" ({_link(path, page)})."
        parts.append(
            f"**{one.machine.title}**, {one.date}:\n\n{_table(columns, lines)}\n\n{_wrapped(origin)}"
        )
    return "\n\n".join(parts)


def cost_table(results: Mapping[Path, Results], page: Path) -> str:
    """What the profiles in the files cost."""
    lines = [
        [
            f"{one.machine.title}, {one.date}",
            _name(row),
            _text(row.summary.wall_s, 0, unit=" s"),
            _text(row.summary.outside, 2, unit=""),
            _text(row.summary.sentinel, 0),
        ]
        for one in results.values()
        for row in one.rows
        if row.luts
    ]
    columns = ["", "", "a profile", "outside for 1 s inside", "sentinel drift"]
    return _table(columns, lines) if lines else "No file has profiles yet."


_TABLES: dict[str, Callable[[Mapping[Path, Results], Path], str]] = {
    "short": short_table,
    "summary": summary,
    "machines": machine_tables,
    "cost": cost_table,
}


# Cells


def _target(row: Row) -> str:
    threads = "" if row.threads == 1 else f", {row.threads} threads"
    return f"{descriptor(row.runtime).title} {row.precision}{threads}"


def _name(row: Row) -> str:
    return f"{_target(row)}, {row.circumstances}" if row.circumstances else _target(row)


def _validations(found: Summary) -> str:
    """'4', or '4, of which 1 refused, 2 with a warning'."""
    parts = [f"{found.refused} refused"] if found.refused else []
    parts += [f"{found.warned} with a warning"] if found.warned else []
    return f"{found.validations}" + (f", of which {', '.join(parts)}" if parts else "")


def _over(rows: Iterable[Row], figure: str, digits: int = 1, unit: str = " %") -> str:
    """The range of a figure over the validations of rows."""
    found = [
        (one, row.summary.validations - row.summary.refused)
        for row in rows
        if (one := getattr(row.summary, figure)) is not None
    ]
    if not found:
        return ""
    known = all(one.mean is not None for one, _ in found)
    mean = sum(one.mean * count for one, count in found) if known else 0.0
    whole = Range(
        low=min(one.low for one, _ in found),
        high=max(one.high for one, _ in found),
        mean=mean / sum(count for _, count in found) if known else None,
    )
    return _text(whole, digits, unit=unit)


def _high(found: Range | None) -> float:
    return found.high if found is not None else 0.0


def _text(found: Range | None, digits: int, *, unit: str = " %", signed: bool = False) -> str:
    """'0.9 % (0.6 to 1.3)', '0.6 to 1.3 %' if the mean is unknown; '0.6 %' if the ends read alike."""
    if found is None:
        return ""
    ends = [_figure(value, digits, signed=signed) for value in (found.low, found.high)]
    whole = " to ".join(dict.fromkeys(ends))
    if found.mean is None or ends[0] == ends[1]:
        return whole + unit
    return f"{_figure(found.mean, digits, signed=signed)}{unit} ({whole})"


def _figure(value: float, digits: int, *, signed: bool) -> str:
    rounded = round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, without columns that have no figure in any line."""
    shown = [n for n in range(len(columns)) if n == 0 or any(line[n] for line in lines)]
    rows = [[row[n] for n in shown] for row in (columns, ["---"] * len(columns), *lines)]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows)


def _link(path: Path, page: Path) -> str:
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)
    return f"[file]({up}{path.relative_to(ROOT).as_posix()})"


def _wrapped(text: str, indent: str = "") -> str:
    """Lines of at most 120 characters; inline code stays on one line."""
    words = re.findall(r"(?:`[^`]*`|\S)+", text)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= 120:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
