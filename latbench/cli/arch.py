"""latbench arch show: layers, MACs and parameters of an architecture."""

from typing import Any

import click

from latbench.cli.completion import complete_architectures
from latbench.cli.options import input_size as input_size_type
from latbench.cli.options import json_option
from latbench.cli.output import emit_facts, emit_json, emit_table


@click.group(name="arch")
def command() -> None:
    """Show architectures."""


@command.command()
@click.argument("architecture_text", metavar="NAME|NOTATION", shell_complete=complete_architectures)
@click.option(
    "--release",
    metavar="YEAR",
    help="Release of published networks that have several: sets layers, e1 blocks and the counting of MACs, "
    "like 2019.  [default: the last]",
)
@click.option(
    "--head",
    type=click.IntRange(1),
    metavar="CHANNELS",
    help="Width of the head.  [default: the published one]",
)
@click.option(
    "--input",
    "input_size",
    type=input_size_type,
    metavar="PIXELS|HxW",
    help="Input height and width.  [default: the published one]",
)
@click.option(
    "--width",
    type=float,
    metavar="FACTOR",
    help="Channel multiplier.  [default: the published one]",
)
@json_option
def show(
    architecture_text: str,
    release: str | None,
    head: int | None,
    input_size: Any,
    width: float | None,
    as_json: bool,
) -> None:
    """Show the layers, MACs and parameters of an architecture.

    Give the name of a published network (fbnet_b), a notation ("k3e1|k3e6 skip …"), or an
    architecture.json.
    """
    from latbench.space.architecture import read_architecture, release_named
    from latbench.space.shipped import DEFAULT_SPACE, published_networks, space_file

    found = published_networks().get(architecture_text)
    file = space_file(DEFAULT_SPACE) if found is None else found.file
    release = release or file.release
    architecture = read_architecture(
        architecture_text, release=release, head=head, input_size=input_size, width=width
    )
    rule = release_named(release, file)
    macs = architecture.macs_by(rule)
    params = architecture.params if rule.counts_weights else architecture.parameters
    network = published_networks().get(architecture.name or "")
    transcription = network is not None and network.network.transcription
    if as_json:
        emit_json(
            architecture.to_dict()
            | {
                "release": release,
                "macs": macs,
                "params": params,
                "weights": architecture.params,
                "transcription": transcription,
                "ops": [op.key for op in architecture.ops],
            }
        )
        return
    emit_table(
        ("layer>", "choice", "op", "macs>"),
        [
            (n, choice, op.key if op else "identity", f"{op.macs:,}" if op else "0")
            for n, (choice, op) in enumerate(
                zip(architecture.choices, architecture.layer_ops, strict=True), 1
            )
        ],
        title=f"{architecture} · {architecture.space}",
    )
    by_release = f" (by the counting rule of the {release} release)" if release else ""
    emit_facts(
        [
            ("notation", architecture.notation),
            ("head", architecture.head),
            ("macs", f"{macs:,}{by_release}"),
            (
                "params",
                f"{params:,}{'' if params > architecture.params else ' (weights; no bias, no BN)'}",
            ),
        ]
    )
    if transcription:
        click.echo("note: a third party read these layers off a figure; there is no official file")
