"""latbench estimate: a modelled LUT of a device that was not measured."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.options import (
    json_option,
    output_path,
    read_space,
    space_options,
    target_options,
)
from latbench.cli.output import emit_facts, emit_json, emit_table
from latbench.wording import count_of

if TYPE_CHECKING:
    from latbench.target import Precision, Runtime


@click.command(name="estimate")
@target_options
@space_options
@click.option(
    "--out",
    type=output_path,
    metavar="FILE",
    help="LUT file.  [default: luts/<target>.json]",
)
@json_option
def command(
    device_name: str,
    runtime: "Runtime | None",
    precision: "Precision | None",
    threads: int | None,
    cores: tuple[int, ...] | None,
    out: Path | None,
    as_json: bool,
    **space: Any,
) -> None:
    """Estimate a LUT from published latencies of whole networks.

    For a first search before you have the device: single entries may be wrong by tens of per cent, as
    their intervals show. The LUT's provenance is `modelled`.
    """
    from latbench.device.catalogue import find_device
    from latbench.errors import BadRequest
    from latbench.lut import Lut
    from latbench.lut.provenance import provenance_note
    from latbench.workflows.estimate import estimate

    lut = estimate(
        device_name,
        read_space(**space),
        runtime=runtime,
        precision=precision,
        threads=threads,
        cores=cores,
    )
    usual = find_device(lut.target.device).defaults
    stem = lut.target.file_stem(usual.runtime, usual.precision)
    path = out or Path("luts") / f"{stem}.json"
    if out is None and path.exists() and Lut.load(path).provenance == "measured":
        raise BadRequest(
            f"{path} is a measured LUT and would be replaced",
            hint=f"write to another file: {lut.command.replace('profile', 'estimate', 1)} --out FILE",
        )
    lut.save(path)
    click.echo(provenance_note(lut, str(path)), err=True)
    if as_json:
        emit_json(
            {
                "path": str(path),
                "entries": len(lut),
                "provenance": lut.provenance,
                "content_sha256": lut.content_sha256,
                "method": lut.method,
            }
        )
        return
    emit_table(
        ("network", "published>", "modelled>", "fitted", "engine"),
        [_row(one) for one in lut.method["published"]],
    )
    emit_facts([("lut", path), ("target", lut.target), *_facts(lut.method)])


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A published figure and the model's value for it."""
    if "ratio" in one:
        name = f"{one['network']} / {one['versus']}"
        return (name, f"{one['ratio']:g} x", f"{one['modelled_ratio']:.2f} x", "yes", "")
    threads = f", {count_of(one['threads'], 'thread')}" if "threads" in one else ""
    return (
        one["network"],
        f"{one['ms']:g} ms",
        f"{one['modelled_ms']:.1f} ms",
        "yes" if one["fitted"] else "no",
        f"{one['engine']}{threads}",
    )


def _facts(method: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    dense, depthwise = method["dense_efficiency"], method["depthwise_efficiency"]
    yield "dense", f"{method['dense_gmacs']:.1f} GMAC/s, {dense:.0%} of peak"
    yield "depthwise", f"{method['depthwise_gmacs']:.1f} GMAC/s, {depthwise:.0%} of peak"
    yield "memory", f"{method['bandwidth_gbps']:.1f} GB/s"
    for what in method["unknown"]:
        yield "unknown", what
