"""latbench space show: layers, candidates and unique ops of a search space."""

from typing import Any

import click

from latbench.cli.options import json_option, read_space, space_options
from latbench.cli.output import emit_facts, emit_json, emit_table


@click.group(name="space")
def command() -> None:
    """Show search spaces."""


@command.command()
@space_options
@click.option("--ops", "list_ops", is_flag=True, help="Also list every unique op.")
@json_option
def show(list_ops: bool, as_json: bool, **chosen: Any) -> None:
    """Show the layers, candidates and unique ops of a search space."""
    from latbench.space import CANDIDATES

    space = read_space(**chosen)
    if as_json:
        emit_json(
            {
                "space": space.to_dict(),
                "layers": [
                    {
                        "stage": layer.stage,
                        "index": layer.index,
                        "in_channels": layer.in_channels,
                        "out_channels": layer.out_channels,
                        "stride": layer.stride,
                        "input": layer.size,
                    }
                    for layer in space.layers
                ],
                "candidates": [str(candidate) for candidate in CANDIDATES],
                "unique_blocks": len(space.unique_blocks),
                "heads": list(space.heads),
                "ops": [
                    {"key": op.key, "kind": op.kind, "macs": op.macs, "params": op.params}
                    for op in space.unique_ops
                ],
            }
        )
        return
    emit_table(
        ("stage>", "layer>", "in>", "out>", "stride>", "input>"),
        [
            (at.stage + 1, n, at.in_channels, at.out_channels, at.stride, f"{at.size}x{at.size}")
            for n, at in enumerate(space.layers, 1)
        ],
        title=str(space),
    )
    emit_facts(
        [
            ("layers", len(space.layers)),
            ("candidates", f"{len(CANDIDATES)}: {' '.join(map(str, CANDIDATES))}"),
            ("heads", " ".join(map(str, space.heads))),
            ("unique blocks", len(space.unique_blocks)),
            ("unique ops", len(space.unique_ops)),
            ("networks", f"{len(CANDIDATES)}^{len(space.layers)}"),
        ]
    )
    if list_ops:
        emit_table(
            ("op", "macs>", "params>"),
            [(op.key, f"{op.macs:,}", f"{op.params:,}") for op in space.unique_ops],
        )
