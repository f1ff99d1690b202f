"""latbench build-lut: build a LUT from a profile."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import json_option, output_path
from latbench.cli.output import (
    described,
    emit_facts,
    emit_json,
    faster_run_for_machines,
    interval,
    milliseconds,
)
from latbench.wording import count_of, percent

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
    help="File to write.  [default: luts/<target>.json]",
)
@click.option("--partial", is_flag=True, help="Accept a run that lacks ops of its space.")
@json_option
def command(journal: Path | None, out: Path | None, partial: bool, as_json: bool) -> None:
    """Build a LUT from JOURNAL, by default from that of the last profile."""
    from latbench.lut.faster_run import FasterRun
    from latbench.workflows.build_lut import build_lut, lut_stem, run_command

    lut = build_lut(journal, partial=partial)
    path = out or Path("luts") / f"{lut_stem(lut)}.json"
    lut.save(path)
    faster = FasterRun.of(lut)
    if as_json:
        emit_json(
            {
                "path": str(path),
                "entries": len(lut),
                "content_sha256": lut.content_sha256,
                "faster_run": faster_run_for_machines(faster),
            }
        )
        return
    facts = [
        ("lut", path),
        ("target", lut.target),
        ("space", lut.search_space),
        ("entries", len(lut)),
        ("trials", lut.method["trials"]),
        *_flagged(lut, path, lambda: run_command(journal)),
    ]
    if lut.sentinel is not None:
        latency = f"{milliseconds(lut.sentinel.ms)} ms {interval(lut.sentinel.ci95)}"
        facts.append(("sentinel", f"{latency}, drift {percent(lut.sentinel.drift)}"))
    if lut.correction is not None:
        facts.append(("correction", described(lut.correction)))
    if faster is not None:
        facts.append(("faster run", f"{faster}; later: {run_command(journal)} --fresh"))
    facts.append(("sha256", lut.content_sha256))
    emit_facts(facts)


def _flagged(lut: "Lut", path: Path, measure_again: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """The numbers of entries with wide intervals, and with more tainted than trusted trials."""
    from latbench.lut.flags import WIDE, flagged_entries

    names = Counter(name for one in flagged_entries(lut) for name in one.names)
    if wide := names["wide"]:
        yield (
            "wide",
            f"{_entries(wide)} above ±{percent(WIDE, 0)}; see latbench show {path} --only wide",
        )
    else:
        yield "wide", f"none: half of every 95 % interval is within {percent(WIDE, 0)} of its entry"
    if tainted := names["tainted"] + names["distrusted"]:
        yield (
            "tainted",
            (
                f"{_entries(tainted)} with more tainted trials than trusted; "
                f"on a quiet machine: {measure_again()} --fresh"
            ),
        )


def _entries(count: int) -> str:
    return count_of(count, "entry", "entries")
