"""Tables of latencies in other formats: their rows, and what a format must know.

Files are data: a pickle can run code when it is read, so none is ever loaded.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from latbench.errors import BadRequest, CannotRead, LutRefused, UnknownName
from latbench.quantiles import student_quantile
from latbench.space.opspec import OpSpec

#: How many mistakes of a file an error lists.
_LISTED = 8
#: What `--space`, `--device` and `--runtime` need: nobody but the user knows where a table is from.
_UNKNOWN = "--space SPACE --device DEVICE --runtime RUNTIME"
#: How pickles begin: with a protocol from 2 on; before it, with a mark or a collection that is numbered.
_PICKLE = re.compile(rb"\x80[\x02-\x09]|\(?[dl]p\d+\n|c[\w.]+\n\w+\n|\(?[}\])]?q[\x00-\x08]")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        ms: the latency, milliseconds.
        count: the number of samples; 0 if the table does not say.
        deviation: the standard deviation of single samples, milliseconds; None if the table does not say.
        bounds: a 95 % interval that the table states, milliseconds.
        rounds: the number of rounds; 0 if the table does not say.
    """

    ms: float
    count: int = 0
    deviation: float | None = None
    bounds: tuple[float, float] | None = None
    rounds: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The stated 95 % interval, or Student's of the mean; None where neither is known.

        Samples of one sitting are alike, so Student's interval is narrower than the differences between runs.
        """
        if self.bounds is not None:
            return self.bounds
        if self.deviation is None or self.count < 2:
            return None
        half = student_quantile(self.count - 1) * self.deviation / math.sqrt(self.count)
        return None if half >= self.ms else (self.ms - half, self.ms + half)


class CannotHold(Exception):
    """A format has no row for an op; the message says what of the op it cannot say."""


@dataclass(frozen=True)
class Place:
    """Where a table holds an op.

    Attributes:
        name: the name of the row, as the format writes it.
        others: other names that mean the same, which are read too.
        part: where one row holds several ops together, the op's part of it relative to theirs.
    """

    name: str
    others: tuple[str, ...] = ()
    part: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the row, the preferred one first."""
        return self.name, *self.others


class TableFormat(ABC):
    """One format. A subclass says its name and its rows, and enters itself."""

    #: The word of `--format`: the name of its file.
    name: ClassVar[str]
    #: What the beginning of such a file matches.
    looks: ClassVar[re.Pattern[str]]
    #: Whether tables of this format are written, too.
    writes: ClassVar[bool] = True
    #: What rows do not say of their op, so that the space decides it.
    silent_on: ClassVar[tuple[str, ...]] = ()
    #: How to convert a pickle of such a table, if tables are published as pickles.
    from_pickle: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            TABLE_FORMATS[cls.name] = cls()

    @abstractmethod
    def read(self, text: str) -> dict[str, Row]:
        """The rows of a file by name.

        Raises:
            BadTable: what is wrong with it.
        """

    @abstractmethod
    def write(self, rows: Mapping[str, Row]) -> str:
        """The file with these rows."""

    @abstractmethod
    def place(self, op: OpSpec, ops: Sequence[OpSpec]) -> Place:
        """Where a table holds `op`, which is one of `ops`, those of the space.

        Raises:
            CannotHold: nowhere.
        """


#: Every format by name; formats enter themselves.
TABLE_FORMATS: dict[str, TableFormat] = {}


class BadTable(Exception):
    """A file is no table of its format; `problems` are lines of text."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def table_format(name: str) -> TableFormat:
    """The format of that name.

    Raises:
        UnknownName: there is none.
    """
    _all_formats()
    if name not in TABLE_FORMATS:
        raise UnknownName("format", name, sorted(TABLE_FORMATS))
    return TABLE_FORMATS[name]


def table_formats() -> list[TableFormat]:
    """Every format, by name."""
    _all_formats()
    return [TABLE_FORMATS[name] for name in sorted(TABLE_FORMATS)]


def read_table(path: Path, table: TableFormat) -> tuple[dict[str, Row], bytes]:
    """The rows of the file at `path`, and its content.

    Raises:
        CannotRead: it cannot be read.
        LutRefused: it is a pickle.
        BadRequest: it is no table of this format; its mistakes are listed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CannotRead.because(path, error) from None
    if _is_pickle(path, content):
        raise _pickle_refused(path, table)
    try:
        rows = table.read(content.decode("utf-8"))
        problems = [_problem(name, row) for name, row in rows.items() if _problem(name, row)]
        if not rows:
            problems = ["it has no rows"]
        if problems:
            raise BadTable(problems)
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not a table: it is not UTF-8 text") from None
    except BadTable as bad:
        more = len(bad.problems) - _LISTED
        details = [*bad.problems[:_LISTED], *([f"… and {more} more"] if more > 0 else [])]
        other = foreign_format(content.decode("utf-8"))
        hint = f"correct it; its fields are in docs/tables.md, under {table.name}"
        if other is not None and other is not table:
            hint = f"it looks like {other.name}; type: {import_command(path, other.name)}"
        raise BadRequest(
            f"{path} is not a table of the format {table.name}:", details=details, hint=hint
        ) from None
    return rows, content


def _problem(name: str, row: Row) -> str:
    """What is wrong with the numbers of a row; "" if nothing is."""
    shown = name if len(name) <= 90 else f"{name[:90]}…"
    numbers = [row.ms, *(row.bounds or ()), *([] if row.deviation is None else [row.deviation])]
    if not all(map(math.isfinite, numbers)):
        return f"{shown}: every number must be finite"
    if row.ms <= 0:
        return f"{shown}: the latency must be above 0, got {row.ms:g}"
    if row.count < 0 or row.rounds < 0 or (row.deviation or 0) < 0:
        return f"{shown}: counts and deviations must not be below 0"
    if row.bounds is not None and not 0 < row.bounds[0] <= row.ms <= row.bounds[1]:
        return f"{shown}: the interval must enclose the latency"
    return ""


def foreign_format(text: str) -> TableFormat | None:
    """The format that the beginning of `text` has; None if it is none of them."""
    _all_formats()
    beginning = text[:100_000]
    return next((one for one in TABLE_FORMATS.values() if one.looks.search(beginning)), None)


def foreign_file(path: Path, content: bytes) -> LutRefused | None:
    """The refusal of a file that is given where a LUT is wanted; None unless it is known for what it is."""
    if _is_pickle(path, content):
        return _pickle_refused(path, None)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found = foreign_format(text)
    if found is not None:
        return LutRefused(
            f"{path} is not a LUT: it is a table of the format {found.name}",
            hint=f"make a LUT of it with: {import_command(path, found.name)}",
        )
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        return None
    table = path.with_suffix(".csv")
    return LutRefused(
        f"{path} is not a LUT: it is {kind}",
        details=[
            f"a LUT is JSON; tables of the formats {', '.join(TABLE_FORMATS)} can be imported"
        ],
        hint="write it as CSV with the columns key and ms (docs/tables.md), then: "
        f"{import_command(table, 'csv')}",
    )


_KINDS = {".txt": "plain text", ".yaml": "YAML", ".yml": "YAML", ".csv": "CSV", ".tsv": "text"}


def import_command(path: Path, name: str) -> str:
    """The command that imports `path`."""
    return f"latbench import {path} --format {name} {_UNKNOWN}"


def _is_pickle(path: Path, content: bytes) -> bool:
    named = path.suffix.lower() in (".pickle", ".pkl")
    return named or _PICKLE.match(content) is not None


def _pickle_refused(path: Path, table: TableFormat | None) -> LutRefused:
    _all_formats()
    formats: Sequence[TableFormat] = [table] if table else list(TABLE_FORMATS.values())
    recipes = [one for one in formats if one.from_pickle]
    name = table.name if table else recipes[0].name if recipes else "csv"
    details = [f"{one.name}: {one.from_pickle}" for one in recipes]
    return LutRefused(
        f"{path} is a pickle, which can run code: it is never loaded",
        details=[*details, "convert it to JSON yourself, where you trust who made it"],
        hint=f"then: {import_command(path.with_suffix('.json'), name)}",
    )


def _all_formats() -> None:
    import latbench.lut.formats  # noqa: F401  the formats enter themselves
