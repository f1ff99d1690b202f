"""latbench arch show: layers, MACs and parameters of an architecture."""

import click

from latbench.cli.completion import complete_architectures
from latbench.cli.options import json_option
from latbench.cli.output import emit_facts, emit_json, emit_table


@click.group(name="arch")
def command() -> None:
    """Show architectures."""


@command.command()
@click.argument("architecture_text", metavar="NAME|NOTATION", shell_complete=complete_architectures)
@click.option(
    "--release",
    default="2020",
    show_default=True,
    help="2019 or 2020: which layers, e1 blocks and way of counting.",
)
@click.option("--head", type=click.IntRange(1), metavar="CHANNELS", help="Width of the head.")
@click.option("--input", "input_size", type=int, metavar="PIXELS", help="Input height and width.")
@click.option("--width", type=float, metavar="FACTOR", help="Channel multiplier.")
@json_option
def show(
    architecture_text: str,
    release: str,
    head: int | None,
    input_size: int | None,
    width: float | None,
    as_json: bool,
) -> None:
    """Print the layers, MACs and parameters of an architecture.

    It is a published name (fbnet_b), a notation ("k3e1|k3e6 skip …"), or an architecture.json.
    """
    from latbench.space.architecture import read_architecture, release_named
    from latbench.space.shipped import PUBLISHED

    architecture = read_architecture(
        architecture_text, release=release, head=head, input_size=input_size, width=width
    )
    macs, params = architecture.macs_by(release_named(release)), architecture.params
    network = PUBLISHED.get(architecture.name or "")
    transcription = network is not None and network.transcription
    if as_json:
        emit_json(
            architecture.to_dict()
            | {
                "release": release,
                "macs": macs,
                "params": params,
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
    emit_facts(
        [
            ("notation", architecture.notation),
            ("head", architecture.head),
            ("macs", f"{macs:,} (counted as the {release} release)"),
            ("params", f"{params:,} (weights; no bias, no BN)"),
        ]
    )
    if transcription:
        click.echo("Layers are a third party's transcription of a figure, no official file.")
