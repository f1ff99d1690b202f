"""latbench show: a LUT's entries."""

from typing import TYPE_CHECKING

import click

from latbench.cli.options import json_option, lut_file
from latbench.cli.output import emit_facts, emit_json, emit_table, interval, milliseconds

if TYPE_CHECKING:
    from latbench.lut import Lut


@click.command(name="show")
@click.argument("lut", type=lut_file)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one op a line.")
def command(lut: "Lut", as_json: bool, as_csv: bool) -> None:
    """Show the entries of LUT."""
    if as_json:
        emit_json(lut.to_dict())
        return
    if as_csv:
        click.echo(lut.to_frame().to_csv(lineterminator="\n"), nl=False)
        return
    emit_table(
        ("op", "ms>", "95 % interval>", "samples>", "tainted>"),
        [
            (key, milliseconds(entry.ms), interval(entry.ci95), entry.samples, entry.tainted or "")
            for key, entry in sorted(lut.entries.items())
        ],
    )
    emit_facts(
        [
            ("target", lut.target),
            ("space", lut.search_space),
            ("provenance", lut.provenance),
            ("created", lut.created.isoformat(timespec="seconds")),
            ("entries", len(lut)),
        ]
    )
