"""latbench show: a LUT's entries."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import json_option, lut_file, table_format_name
from latbench.cli.output import described, emit_facts, emit_json, emit_table, milliseconds
from latbench.errors import BadRequest
from latbench.wording import count_of, percent

if TYPE_CHECKING:
    from latbench.lut import Lut
    from latbench.lut.flags import FlaggedEntry

#: --sort KEY -> the value to sort by. Keys sort upwards, numbers downwards: the most remarkable entry first.
SORTS: dict[str, Callable[["FlaggedEntry"], Any]] = {
    "key": lambda one: one.key,
    "ms": lambda one: -one.entry.ms,
    "interval": lambda one: -(one.entry.relative_half_width or 0.0),
    "roofline": lambda one: -one.over_roofline,
    "macs": lambda one: -one.entry.macs,
    "tainted": lambda one: -one.entry.tainted,
}

# As `latbench.lut.flags.FLAGS`, which is not imported for `--help`.
FLAG_NAMES = (
    *("wide", "tainted", "faster", "modelled", "imported", "distrusted", "unresolved"),
    *("few-rounds", "bimodal", "step", "trend", "autocorrelated"),
    *("heating", "coarse-timer", "divided", "unsteady"),
)


@click.command(name="show")
@click.argument("lut", type=lut_file, shell_complete=complete_files)
@click.option(
    "--sort",
    "sort_key",
    type=click.Choice(tuple(SORTS)),
    default="key",
    show_default=True,
    help="Order of the entries: by key, or the largest first by ms, by the relative width of the interval, "
    "by the distance to the roofline, by MACs or by tainted trials.",
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="Show the first N entries only.")
@click.option(
    "--only",
    type=click.Choice(("flagged", *FLAG_NAMES)),
    multiple=True,
    metavar="FLAG",
    help="Show only entries with this flag, or with any flag: flagged. Repeat it for several flags: "
    f"{', '.join(FLAG_NAMES)}.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one op per line.")
@click.option(
    "--format",
    "format_name",
    type=table_format_name,
    metavar="NAME",
    help="Print all entries as a table that other projects read; see latbench import --help.",
)
def command(
    lut: "Lut",
    sort_key: str,
    top: int | None,
    only: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    format_name: str | None,
) -> None:
    """Show the entries of LUT and their flags, which are reasons for doubt.

    "x roofline" is the ratio of an op's latency to the time its arithmetic and memory traffic would
    take at the best rates of any entry in LUT.

    With --sort, --top or --only, --json prints these entries as a list, with their flags, instead
    of the whole LUT.
    """
    from latbench.lut.flags import flagged_entries

    if format_name is not None:
        _print_table(lut, format_name, chosen=bool(only or top or as_json or as_csv))
        return
    every = flagged_entries(lut)
    shown = _chosen(every, sort_key, top, only)
    if as_csv:
        frame = lut.to_frame().loc[[one.key for one in shown]]
        click.echo(frame.to_csv(lineterminator="\n"), nl=False)
        return
    if as_json:
        whole = sort_key == "key" and top is None and not only
        emit_json(lut.to_dict() if whole else [_as_json(one) for one in shown])
        return
    if shown:
        emit_table(
            ("op", "ms>", "95 %>", "x roofline>", "flags"),
            [
                (
                    one.key,
                    milliseconds(one.entry.ms),
                    _width(one.entry.relative_half_width),
                    f"{one.over_roofline:.1f}",
                    ", ".join(one.flags),
                )
                for one in shown
            ],
        )
    count = f"{len(shown)} of {len(every)} shown" if len(shown) < len(every) else len(every)
    emit_facts(_facts(lut, every, count))


def _print_table(lut: "Lut", format_name: str, chosen: bool) -> None:
    """Print all entries as a table; what it cannot hold is told on stderr."""
    from latbench.lut.imported import export_table

    if chosen:
        raise BadRequest("--format prints all entries: leave out --top, --only, --json and --csv")
    written = export_table(lut, format_name)
    click.echo(written.text, nl=False)
    for why, count in Counter(written.left_out.values()).items():
        click.echo(f"left out: {count_of(count, 'entry', 'entries')}: {why}", err=True)
    if lut.correction is not None:
        click.echo(
            f"left out: the correction of sums: {described(lut.correction)}; rows are entries",
            err=True,
        )


def _chosen(
    every: Sequence["FlaggedEntry"], sort_key: str, top: int | None, only: tuple[str, ...]
) -> list["FlaggedEntry"]:
    """The entries with one of the flags, in order, at most `top` of them."""
    names = set(only)
    with_flag = [
        one
        for one in every
        if not names or names & set(one.names) or ("flagged" in names and one.flags)
    ]
    return sorted(with_flag, key=SORTS[sort_key])[:top]


def _width(share: float | None) -> str:
    return "unknown" if share is None else f"±{percent(share)}"


def _as_json(one: "FlaggedEntry") -> dict[str, Any]:
    shown = {"key": one.key, "flags": one.flags, "over_roofline": one.over_roofline}
    return one.entry.model_dump(mode="json") | shown


def _facts(
    lut: "Lut", every: Sequence["FlaggedEntry"], count: str | int
) -> Iterator[tuple[str, Any]]:
    from latbench.lut.faster_run import FasterRun
    from latbench.lut.flags import best_rates

    rates = best_rates(lut)
    flags = Counter(name for one in every for name in one.names)
    yield "target", lut.target
    yield "space", lut.search_space
    yield "provenance", lut.provenance
    yield "created", lut.created.isoformat(timespec="seconds")
    yield "entries", count
    yield from zip(itertools.chain(["flags"], itertools.repeat("")), _folded(flags), strict=False)
    yield (
        "roofline",
        f"{rates.macs_per_ms / 1e6:.1f} GMAC/s, {rates.bytes_per_ms / 1e6:.1f} GB/s: "
        "the best rates in this LUT",
    )
    if (faster := FasterRun.of(lut)) is not None:
        yield "faster run", f"{faster}; later: {lut.command} --fresh"
    if lut.correction is not None:
        yield "correction", described(lut.correction)
    if lut.validation is not None:
        figures = lut.validation
        networks = count_of(round(figures["networks"]), "other network")
        yield (
            "validated",
            f"on {networks}: {figures['mape']:.2f} % mean error, {figures['worst']:.2f} % worst",
        )


def _folded(flags: Counter[str]) -> list[str]:
    """How many entries have each flag, in lines that fit a terminal."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(flags.items()))
    return textwrap.wrap(counts, 64) or ["none"]
