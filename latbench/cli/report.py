"""latbench report: LUTs, a run and a search as one HTML file."""

import json
from pathlib import Path
from typing import Any

import click

from latbench.cli.options import json_option, output_path
from latbench.cli.output import emit_facts, emit_json
from latbench.errors import BadRequest, CannotRead


@click.command(name="report")
@click.argument("luts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="LUT...")
@click.option(
    "--out",
    required=True,
    type=output_path,
    metavar="FILE.html",
    help="Where the report goes.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The journal of the first LUT's run: conditions over time.",
)
@click.option(
    "--search",
    "search_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What fbnet-search wrote: trajectory, Pareto front, the found network.",
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="What latbench validate --json printed of the first LUT.",
)
@json_option
def command(
    luts: tuple[Path, ...],
    out: Path,
    journal: Path | None,
    search_folder: Path | None,
    validation: Path | None,
    as_json: bool,
) -> None:
    """Show one or more LUTs in a browser: write them as one HTML file.

    The file needs no network and no other file. With several LUTs it compares them with the first, and
    shows drift where the target is the same.
    """
    from latbench.files import write_atomically
    from latbench.lut import Lut
    from latbench.report.html import report_html, report_sections

    names = _names(luts)
    sections = report_sections(
        {name: Lut.load(path) for name, path in zip(names, luts, strict=True)},
        journal=journal,
        search_folder=search_folder,
        validation=None if validation is None else _read(validation),
    )
    text = report_html(f"latbench: {', '.join(names)}", sections)
    write_atomically(out, text)
    size = len(text.encode())
    if as_json:
        emit_json({"path": str(out), "bytes": size, "sections": [one.name for one in sections]})
        return
    emit_facts(
        [
            ("report", out),
            ("size", f"{size / 1e6:.2f} MB"),
            ("shows", ", ".join(one.name for one in sections)),
        ]
    )


def _names(paths: tuple[Path, ...]) -> list[str]:
    """A short name for each file, no two alike."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    if len(set(paths)) < len(paths):
        raise BadRequest("a LUT is given twice", hint="give each file once")
    return [str(path.with_suffix("")) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    """What `latbench validate --json` printed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except ValueError as error:
        raise BadRequest(f"{path} is not JSON: {error}") from None
    each = data.get("each") if isinstance(data, dict) else None
    wanted = {"layers", "predicted", "low", "high", "measured"}
    if not (
        isinstance(each, list)
        and each
        and all(isinstance(one, dict) and wanted <= one.keys() for one in each)
    ):
        raise BadRequest(
            f"{path} does not hold what latbench validate prints",
            hint=f"make it with: latbench validate LUT --json > {path}",
        )
    return dict(data)
