"""CSV: one op a line, by its latbench key, in milliseconds.

`key` and `ms` are required. `ci95_low`, `ci95_high`, `samples`, `rounds`, `std` and `var` are read where they
are; other columns are not.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from latbench.lut.table import BadTable, Place, Row, TableFormat
from latbench.space.opspec import OpSpec

_COLUMNS = ("key", "ms", "ci95_low", "ci95_high", "samples", "rounds")


class CsvTable(TableFormat):
    """Keys of ops and milliseconds."""

    name: ClassVar[str] = "csv"
    looks: ClassVar[re.Pattern[str]] = re.compile(r"\A\ufeff?(?=[^\n]*\bkey\b)[^\n{}]*\bms\b")

    def read(self, text: str) -> dict[str, Row]:
        """See `TableFormat.read`."""
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
        columns = reader.fieldnames or ()
        if lacking := [name for name in ("key", "ms") if name not in columns]:
            raise BadTable([f"line 1: it has no column {' or '.join(lacking)}"])
        rows: dict[str, Row] = {}
        problems = []
        try:
            for cells in reader:
                key, where = (cells["key"] or "").strip(), f"line {reader.line_num}"
                if key in rows:
                    problems.append(f"{where}: {key} occurs twice")
                try:
                    rows[key] = _row({name: text for name, text in cells.items() if text})
                except (KeyError, ValueError):
                    problems.append(f"{where}: {key or 'a row without a key'} has no valid numbers")
        except csv.Error as error:
            problems.append(f"line {reader.line_num}: {error}")
        if problems:
            raise BadTable(problems)
        return rows

    def write(self, rows: Mapping[str, Row]) -> str:
        """See `TableFormat.write`."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, row in rows.items():
            writer.writerow(
                [name, row.ms, *(row.interval or ("", "")), row.count or "", row.rounds or ""]
            )
        return out.getvalue()

    def place(self, op: OpSpec, ops: Sequence[OpSpec]) -> Place:
        """The row of the op's own key."""
        return Place(op.key)


def _row(cells: Mapping[str, str]) -> Row:
    deviation = float(cells["std"]) if "std" in cells else None
    if deviation is None and "var" in cells:
        deviation = max(0.0, float(cells["var"])) ** 0.5
    bounds = None
    if "ci95_low" in cells and "ci95_high" in cells:
        bounds = float(cells["ci95_low"]), float(cells["ci95_high"])
    return Row(
        float(cells["ms"]),
        int(cells.get("samples", 0)),
        deviation,
        bounds,
        int(cells.get("rounds", 0)),
    )
