"""latbench space: list, show and check search spaces."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import json_option, read_space, space_options
from latbench.cli.output import count_of, emit_facts, emit_json, emit_table
from latbench.errors import BadRequest

if TYPE_CHECKING:
    from latbench.space import SearchSpace


@click.group(name="space")
def command() -> None:
    """List, show and check search spaces."""


@command.command(name="list")
@json_option
def list_spaces(as_json: bool) -> None:
    """List the shipped search spaces."""
    from latbench.space import SearchSpace
    from latbench.space.shipped import space_names

    # A published network alone is a file too, whose layers have one candidate.
    named = map(SearchSpace.named, space_names())
    spaces = [space for space in named if space.network_count > 1]
    if as_json:
        emit_json(
            [
                {
                    "name": space.name,
                    "input": [space.input_height, space.input_width],
                    "channels": space.input_channels,
                    "classes": space.classes,
                    "layers": len(space.layers),
                    "candidates": [str(candidate) for candidate in space.candidates],
                    "unique_blocks": len(space.unique_blocks),
                    "unique_ops": len(space.unique_ops),
                }
                for space in spaces
            ]
        )
        return
    emit_table(
        ("space", "input>", "layers>", "candidates>", "blocks>", "ops>"),
        [
            (
                space.name,
                space.size,
                len(space.layers),
                len(space.candidates),
                len(space.unique_blocks),
                len(space.unique_ops),
            )
            for space in spaces
        ],
    )


@command.command()
@space_options
@click.option("--ops", "list_ops", is_flag=True, help="Also list every unique op.")
@json_option
def show(list_ops: bool, as_json: bool, **chosen: Any) -> None:
    """Show the layers, candidates and unique ops of a search space."""
    space = read_space(**chosen)
    if as_json:
        emit_json(_facts_for_machines(space))
        return
    tokens = [" ".join(map(str, layer.candidates)) for layer in space.layers]
    offered = [
        f"{number}: {' or '.join(map(str, stage.channels))}"
        for number, stage in enumerate(space.definition.stages, 1)
        if len(stage.channels) > 1
    ]
    differ = len(set(tokens)) > 1
    emit_table(
        (
            "stage>",
            "layer>",
            "in>",
            "out>",
            "stride>",
            "input>",
            *(["candidates"] if differ else []),
        ),
        [
            (
                *(at.stage + 1, n, at.in_channels, at.out_channels, at.stride),
                f"{at.height}x{at.width}",
                *([of_layer] if differ else []),
            )
            for n, (at, of_layer) in enumerate(zip(space.layers, tokens, strict=True), 1)
        ],
        title=str(space),
    )
    candidates = " ".join(map(str, space.candidates))
    emit_facts(
        [
            ("layers", len(space.layers)),
            ("candidates", f"{len(space.candidates)}: {candidates}"),
            *([("channels of stage", ", ".join(offered))] if offered else []),
            ("heads", " ".join(map(str, space.heads))),
            ("unique blocks", len(space.unique_blocks)),
            ("unique ops", len(space.unique_ops)),
            ("networks", _networks(space)),
        ]
    )
    if list_ops:
        emit_table(
            ("op", "macs>", "params>"),
            [(op.key, f"{op.macs:,}", f"{op.params:,}") for op in space.unique_ops],
        )


def _networks(space: "SearchSpace") -> str:
    """The number of networks, as a power where all layers have as many candidates."""
    counts = {len(layer.candidates) for layer in space.layers}
    if len(counts) == 1 and not space.has_channel_choices:
        return f"{counts.pop()}^{len(space.layers)}"
    return (
        f"{space.network_count:,}" if space.network_count < 10**9 else f"{space.network_count:.1e}"
    )


def _facts_for_machines(space: "SearchSpace") -> dict[str, Any]:
    return {
        "name": space.name,
        "space": space.to_dict(),
        "layers": [
            {
                "stage": layer.stage,
                "index": layer.index,
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "stride": layer.stride,
                "input": layer.height,
                "height": layer.height,
                "width": layer.width,
                "candidates": [str(candidate) for candidate in layer.candidates],
                "channels": list(space.definition.stages[layer.stage].channels),
            }
            for layer in space.layers
        ],
        "candidates": [str(candidate) for candidate in space.candidates],
        "unique_blocks": len(space.unique_blocks),
        "heads": list(space.heads),
        "ops": [
            {"key": op.key, "kind": op.kind, "macs": op.macs, "params": op.params}
            for op in space.unique_ops
        ],
    }


@command.command()
@click.argument("file", type=click.Path(path_type=Path), shell_complete=complete_files)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check the space file FILE; every mistake is explained, with its line.

    Exit code 0: it is a search space; 2: it has mistakes.
    """
    from latbench.space import SearchSpace
    from latbench.space.search_space import check_space_file

    found, mistakes = check_space_file(file)
    if as_json:
        emit_json({"file": str(file), "valid": found is not None, "mistakes": mistakes})
        if found is None:
            raise click.exceptions.Exit(BadRequest.exit_code)
        return
    if found is None:
        raise BadRequest(
            f"{file} has {count_of(len(mistakes), 'mistake')}:",
            details=mistakes,
            hint=f"correct them, then: latbench space check {file}",
        )
    space = SearchSpace.of(found.definition)
    click.echo(
        f"{file} is a search space: {count_of(len(space.layers), 'layer')}, "
        f"{count_of(len(space.candidates), 'candidate')}, {count_of(len(space.unique_ops), 'op')}; "
        f"profile it with: latbench profile --space {file}"
    )
