"""latbench import: make a LUT of a table that another project made."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.completion import (
    complete_devices,
    complete_files,
    complete_precisions,
    complete_runtimes,
)
from latbench.cli.options import (
    json_option,
    one_of,
    output_path,
    precision_name,
    read_space,
    runtime_name,
    space_options,
    table_format_name,
)
from latbench.cli.output import emit_facts, emit_json
from latbench.errors import BadRequest, UnknownName
from latbench.runtime.formats import Precision, Runtime
from latbench.wording import count_of

if TYPE_CHECKING:
    from latbench.lut import Lut

#: How many ops without a row are listed.
_LISTED = 12


#: The formats, by the names of their files: importing them takes long for `--help`.
FORMATS = sorted(
    path.stem.replace("_", "-")
    for path in (Path(__file__).parents[1] / "lut" / "formats").glob("[!_]*.py")
)


@click.command(name="import")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=complete_files)
@click.option(
    "--format",
    "format_name",
    type=table_format_name,
    required=True,
    metavar="NAME",
    help=f"Format of FILE: {one_of(FORMATS)}.",
)
@click.option(
    "--device",
    "device_name",
    required=True,
    metavar="NAME",
    shell_complete=complete_devices,
    help="Device that was measured; latbench devices lists those of the catalogue.",
)
@click.option(
    "--runtime",
    type=runtime_name,
    required=True,
    metavar="NAME",
    shell_complete=complete_runtimes,
    help=f"Runtime that was measured: {one_of(list(Runtime))}.",
)
@click.option(
    "--precision",
    type=precision_name,
    default=Precision.FP32.value,
    show_default=True,
    metavar="NAME",
    shell_complete=complete_precisions,
    help=f"Precision that was measured: {one_of(list(Precision))}.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Number of inference threads that was measured.",
)
@space_options
@click.option(
    "--out",
    type=output_path,
    metavar="FILE",
    help="LUT file.  [default: luts/<target>-imported.json]",
)
@json_option
def command(
    file: Path,
    format_name: str,
    device_name: str,
    runtime: Runtime,
    precision: Precision,
    threads: int,
    out: Path | None,
    as_json: bool,
    **space: Any,
) -> None:
    """Make a LUT of FILE, a table of latencies in milliseconds that another project made.

    Ops of the space without a row are listed, and rows of no op are counted. The LUT's provenance
    is `imported`: how uncertain its predictions are is unknown.
    """
    from latbench.lut.imported import import_table
    from latbench.target import Target

    if space["space_name"] is None:
        raise BadRequest(
            "import needs the space that the table is of: --space NAME or FILE",
            hint="list the shipped ones with: latbench space list",
        )
    target = Target(
        device=_known_device(device_name), runtime=runtime, precision=precision, threads=threads
    )
    lut = import_table(file, format_name, read_space(**space), target)
    path = out or Path("luts") / f"{target.file_stem(runtime, precision)}-imported.json"
    lut.save(path)
    if as_json:
        emit_json(
            {
                "path": str(path),
                "entries": len(lut),
                "ops": len(lut.search_space.unique_ops),
                "provenance": lut.provenance,
                "content_sha256": lut.content_sha256,
                **lut.method,
            }
        )
        return
    emit_facts(_facts(lut, path))


def _known_device(name: str) -> str:
    """The catalogue's name of a device; any other name is kept, and a line on stderr says so."""
    from latbench.device.catalogue import find_device

    try:
        return find_device(name).name
    except UnknownName as error:
        if not name.isprintable() or not name.strip():
            raise
        click.echo(f"note: {name} is not in the catalogue of devices; {error.hint}", err=True)
        return name


def _facts(lut: "Lut", path: Path) -> Iterator[tuple[str, Any]]:
    source, missing = lut.method["source"], lut.method["missing"]
    yield "lut", path
    yield "target", lut.target
    yield "space", lut.search_space
    yield "source", f"{source['file']}, {source['format']}, sha256 {source['sha256'][:16]}…"
    yield (
        "entries",
        f"{len(lut)} of the {count_of(len(lut.search_space.unique_ops), 'op')} of the space",
    )
    for number, (key, why) in enumerate(list(missing.items())[:_LISTED]):
        yield "" if number else "missing", f"{key}: {why}"
    if len(missing) > _LISTED:
        yield "", f"… and {len(missing) - _LISTED} more"
    if source["unused"]:
        named = ", ".join(source["unused_rows"][:3])
        yield "unused", f"{count_of(source['unused'], 'row')} of {source['rows']}, such as {named}"
    for number, what in enumerate(lut.method["lacks"]):
        yield "" if number else "unknown", what
    if missing:
        yield "next", f"measure the missing ops too: {lut.command}"
