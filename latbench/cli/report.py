"""latbench report: LUTs, a run and a search in one HTML file."""

import json
import math
from pathlib import Path
from typing import Any

import click

from latbench.cli.options import json_option, lut_file, output_path
from latbench.cli.output import emit_facts, emit_json
from latbench.errors import BadRequest, CannotRead


@click.command(name="report")
@click.argument("luts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="LUT...")
@click.option(
    "--out",
    type=output_path,
    metavar="FILE.html",
    help="Report file.  [default: the first LUT's name with .html, in the current folder]",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Journal that the first LUT was built from; adds its conditions over time.",
)
@click.option(
    "--search",
    "search_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder that fbnet-search --out wrote; adds the trajectory, Pareto front and networks found.",
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Output of latbench validate --json for the first LUT; adds its networks.",
)
@json_option
def command(
    luts: tuple[Path, ...],
    out: Path | None,
    journal: Path | None,
    search_folder: Path | None,
    validation: Path | None,
    as_json: bool,
) -> None:
    """Write an HTML report of one or more LUTs.

    The report is one file that loads nothing from anywhere. Further LUTs are compared with the first;
    where the target is the same, the report shows drift.
    """
    from latbench.files import write_atomically
    from latbench.report.html import report_html, report_sections

    names = _names(luts)
    path = out or Path(f"{luts[0].stem}.html")
    sections = report_sections(
        {name: lut_file(path) for name, path in zip(names, luts, strict=True)},
        journal=journal,
        search_folder=search_folder,
        validation=None if validation is None else _read(validation, luts[0]),
    )
    text = report_html(f"latbench: {', '.join(names)}", sections)
    write_atomically(path, text)
    size = len(text.encode())
    if as_json:
        emit_json({"path": str(path), "bytes": size, "sections": [one.name for one in sections]})
        return
    emit_facts(
        [
            ("report", path),
            ("size", f"{size / 1e6:.2f} MB"),
            ("sections", ", ".join(one.name for one in sections)),
        ]
    )


def _names(paths: tuple[Path, ...]) -> list[str]:
    """A short, unique name for each file."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise BadRequest(f"{twice} is given twice", hint="give each LUT once")
    return [str(path.with_suffix("")) for path in paths]


def _read(path: Path, lut: Path) -> dict[str, Any]:
    """The output of `latbench validate --json` for `lut`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except ValueError as error:
        raise BadRequest(f"{path} is not JSON: {error}") from None
    each = data.get("each") if isinstance(data, dict) else None
    if not (isinstance(each, list) and each and all(map(_is_validated, each))):
        raise BadRequest(
            f"{path} is not the output of latbench validate --json",
            hint=f"make it with: latbench validate {lut} --json > {path}",
        )
    return dict(data)


def _is_validated(one: Any) -> bool:
    """Whether `one` is a network of a validation, with numbers for numbers."""
    if not isinstance(one, dict) or not isinstance(one.get("layers"), str):
        return False
    numbers = [one.get(key) for key in ("predicted", "low", "high", "measured")]
    return all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        for number in numbers
    )
