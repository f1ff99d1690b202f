"""latbench build-lut: make a LUT of what was profiled."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import json_option, output_path
from latbench.cli.output import described, emit_facts, emit_json, interval, milliseconds

if TYPE_CHECKING:
    from latbench.lut import Lut


@click.command(name="build-lut")
@click.argument(
    "journal", type=click.Path(path_type=Path, dir_okay=False, exists=False), required=False
)
@click.option(
    "--out",
    type=output_path,
    shell_complete=complete_files,
    metavar="FILE",
    help="Where the LUT goes.  [default: luts/<target>.json]",
)
@click.option("--partial", is_flag=True, help="Accept a run that lacks ops of its space.")
@json_option
def command(journal: Path | None, out: Path | None, partial: bool, as_json: bool) -> None:
    """Build a LUT from JOURNAL, by default from what was last profiled."""
    from latbench.workflows.build_lut import build_lut, lut_stem

    lut = build_lut(journal, partial=partial)
    path = out or Path("luts") / f"{lut_stem(lut)}.json"
    lut.save(path)
    if as_json:
        emit_json({"path": str(path), "entries": len(lut), "content_sha256": lut.content_sha256})
        return
    facts = [
        ("lut", path),
        ("target", lut.target),
        ("space", lut.search_space),
        ("entries", len(lut)),
        ("trials", f"{lut.method['trials']}, {lut.conditions['tainted_trials']} tainted"),
        ("wide", _wide(lut)),
    ]
    if lut.sentinel is not None:
        level = f"{milliseconds(lut.sentinel.ms)} ms {interval(lut.sentinel.ci95)}"
        facts.append(("sentinel", f"{level}, drift {lut.sentinel.drift:.1%}"))
    if lut.correction is not None:
        facts.append(("correction", described(lut.correction)))
    facts.append(("sha256", lut.content_sha256))
    emit_facts(facts)


def _wide(lut: "Lut") -> str:
    """How many entries are unsure."""
    from latbench.lut.examine import WIDE, examine

    wide = sum("wide" in one.flags for one in examine(lut))
    if not wide:
        return f"none: half of every 95 % interval is within {WIDE:.0%} of its entry"
    return f"{wide} entries, by more than {WIDE:.0%} either way; see latbench show"
