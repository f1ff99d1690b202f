"""latbench show: a LUT's entries."""

import itertools
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import json_option, lut_file
from latbench.cli.output import described, emit_facts, emit_json, emit_table, milliseconds

if TYPE_CHECKING:
    from latbench.lut import Lut


@click.command(name="show")
@click.argument("lut", type=lut_file, shell_complete=complete_files)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one op a line.")
def command(lut: "Lut", as_json: bool, as_csv: bool) -> None:
    """Show the entries of LUT, and what speaks against them.

    "x roofline" is how many times longer an op takes than its arithmetic and memory traffic would
    at the best rates that any entry of LUT reaches.
    """
    from latbench.lut.examine import examine, roofline_of

    if as_json:
        emit_json(lut.to_dict())
        return
    if as_csv:
        click.echo(lut.to_frame().to_csv(lineterminator="\n"), nl=False)
        return
    examined = examine(lut)
    emit_table(
        ("op", "ms>", "95 %>", "x roofline>", "mind"),
        [
            (
                one.key,
                milliseconds(one.entry.ms),
                f"±{one.entry.relative_half_width:.1%}",
                f"{one.over_roofline:.1f}",
                ", ".join(one.flags),
            )
            for one in examined
        ],
    )
    rates = roofline_of(lut)
    counts = Counter(flag.split(" ")[0] for one in examined for flag in one.flags)
    facts = [
        ("target", lut.target),
        ("space", lut.search_space),
        ("provenance", lut.provenance),
        ("created", lut.created.isoformat(timespec="seconds")),
        ("entries", len(lut)),
        *zip(itertools.chain(["mind"], itertools.repeat("")), _folded(counts), strict=False),
        (
            "roofline",
            f"{rates.macs_per_ms / 1e6:.1f} GMAC/s and {rates.bytes_per_ms / 1e6:.1f} GB/s, "
            "the best seen here",
        ),
    ]
    if lut.correction is not None:
        facts.append(("correction", described(lut.correction)))
    if lut.validation is not None:
        facts.append(
            (
                "validated",
                f"on {lut.validation['networks']:.0f} other networks: "
                f"{lut.validation['mape']:.2f} % mean error, {lut.validation['worst']:.2f} % worst",
            )
        )
    emit_facts(facts)


def _folded(counts: Counter[str]) -> list[str]:
    """How often each flag was raised, in lines that fit a terminal."""
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return textwrap.wrap(told, 64) or ["nothing"]
