"""LUTs from tables of other formats, and tables from LUTs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from latbench._version import __version__
from latbench.errors import BadRequest
from latbench.lut.schema import Entry, Lut
from latbench.lut.table import CannotHold, Place, Row, TableFormat, read_table, table_format
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.search_space import SearchSpace
from latbench.target import Target
from latbench.wording import count_of

#: How many unused rows a LUT names.
_NAMED = 12


@dataclass(frozen=True)
class Written:
    """A table as text, and why ops have no row in it: key -> reason."""

    text: str
    rows: int
    left_out: dict[str, str]


def import_table(path: str | Path, name: str, space: SearchSpace, target: Target) -> Lut:
    """Return the LUT of a table in another format, of provenance `imported`.

    `Lut.method` says where it is from (`source`: file, SHA-256, format, numbers of rows and of unused ones),
    what it lacks, and which ops of the space have no entry, with the reason of each (`missing`).

    Args:
        path: the table; latencies in milliseconds.
        name: the format, one of `latbench.lut.table.TABLE_FORMATS`.
        space: what the table is of.
        target: where its latencies were measured.

    Raises:
        UnknownName: no such format.
        CannotRead, LutRefused: the file cannot be read, or is a pickle.
        BadRequest: it is not of this format, has impossible numbers, or a row twice; or no row is of an op of
            `space`.
    """
    path, table = Path(path), table_format(name)
    rows, content = read_table(path, table)
    ops = space.unique_ops
    places, missing = _places(table, ops)
    entries, used = {}, set()
    for op in ops:
        if op.key in missing:
            continue
        place = places[op.key]
        found = next((one for one in place.names if one in rows), None)
        if found is None:
            missing[op.key] = f"no row {place.name}"
            continue
        used.add(found)
        entries[op.key] = _entry(op, rows[found], _share(op, places))
    if not entries:
        raise BadRequest(
            f"no row of {path} is of an op of {space}",
            details=[
                f"its first row is {next(iter(rows))}",
                *(f"{key}: {why}" for key, why in list(missing.items())[:3]),
            ],
            hint="give the space and input that the table was made for: --space NAME|FILE --input HxW",
        )
    unused = [row for row in rows if row not in used]
    return Lut(
        target=target,
        space=space.to_dict(),
        provenance="imported",
        created=datetime.now(UTC).replace(microsecond=0),
        tool={"name": "latbench", "version": __version__},
        method={
            "source": {
                "file": path.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "format": table.name,
                "rows": len(rows),
                "unused": len(unused),
                "unused_rows": unused[:_NAMED],
            },
            "lacks": list(_lacks(entries, table)),
            "missing": missing,
        },
        entries=entries,
    )


def export_table(lut: Lut, name: str) -> Written:
    """Return the entries of `lut` as a table of another format, milliseconds.

    Rows are entries; a correction has no place in any format.

    Raises:
        UnknownName: no such format.
        BadRequest: the format is only read, or can hold none of the entries.
    """
    table = table_format(name)
    if not table.writes:
        raise BadRequest(
            f"the format {name} is read only", hint="write another, such as --format csv"
        )
    ops = [parse_key(key) for key in sorted(lut.entries)]
    places, left_out = _places(table, ops)
    rows: dict[str, Row] = {}
    for op in ops:
        if op.key in left_out:
            continue
        place, row = places[op.key], _row(lut[op])
        if place.name in rows:
            row = Row(rows[place.name].ms + row.ms, min(rows[place.name].count, row.count))
        rows[place.name] = row
    if not rows:
        reasons = dict.fromkeys(left_out.values())
        raise BadRequest(
            f"the format {name} can hold no entry of this LUT: {', '.join(reasons)}",
            hint="write another, such as --format csv",
        )
    return Written(table.write(rows), len(rows), left_out)


def _places(table: TableFormat, ops: Sequence[OpSpec]) -> tuple[dict[str, Place], dict[str, str]]:
    """The places of ops by key; and of those without one, why."""
    places: dict[str, Place] = {}
    without: dict[str, str] = {}
    by_name: dict[str, list[str]] = {}
    for op in ops:
        try:
            place = table.place(op, ops)
        except CannotHold as reason:
            without[op.key] = f"{table.name} cannot say {reason}"
            continue
        places[op.key] = place
        by_name.setdefault(place.name, []).append(op.key)
    for name, keys in by_name.items():
        if len(keys) > 1 and any(places[key].part is None for key in keys):
            for key in keys:
                without[key] = f"{table.name} has one row for it and others: {name}"
                del places[key]
    return places, without


def _share(op: OpSpec, places: dict[str, Place]) -> float:
    """The part of its row that an op has."""
    own = places[op.key]
    if own.part is None:
        return 1.0
    parts = (one.part or 0.0 for one in places.values() if one.name == own.name)
    return own.part / sum(parts)


def _entry(op: OpSpec, row: Row, share: float) -> Entry:
    whole = share == 1.0
    return Entry(
        ms=share * row.ms,
        ci95=row.interval if whole else None,
        samples=row.count,
        rounds=row.rounds,
        spread=(row.deviation or 0.0) / row.ms if whole else 0.0,
        macs=op.macs,
    )


def _row(entry: Entry) -> Row:
    deviation = entry.spread * entry.ms if entry.spread else None
    return Row(entry.ms, entry.samples, deviation, entry.ci95, entry.rounds)


def _lacks(entries: dict[str, Entry], table: TableFormat) -> list[str]:
    """What the LUT does not know, in words."""
    lacks = []
    every = list(entries.values())
    if without := sum(one.ci95 is None for one in every):
        lacks.append(f"the intervals of {count_of(without, 'entry', 'entries')}")
    if not all(one.rounds for one in every):
        lacks.append("rounds, so what changes between and within runs")
    lacks.append("whole networks to calibrate with, so how entries add up")
    return [*lacks, *table.silent_on]
