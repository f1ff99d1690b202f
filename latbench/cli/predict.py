"""latbench predict: the latency of an architecture, from a LUT."""

from typing import TYPE_CHECKING

import click

from latbench.cli.completion import complete_architectures, complete_files
from latbench.cli.options import json_option, lut_file
from latbench.cli.output import emit_facts, emit_json, predicted_latency
from latbench.errors import BadRequest

if TYPE_CHECKING:
    from latbench.lut import Lut


@click.command(name="predict")
@click.argument("lut", type=lut_file, shell_complete=complete_files)
@click.argument("architecture_text", metavar="ARCH", shell_complete=complete_architectures)
@click.option(
    "--head",
    type=click.IntRange(1),
    metavar="CHANNELS",
    help="Width of the head.  [default: the published one, or the first of the space]",
)
@json_option
def command(lut: "Lut", architecture_text: str, head: int | None, as_json: bool) -> None:
    """Predict the latency of the network ARCH from LUT.

    ARCH is the name of a published network (fbnet_b), a notation ("k3e1|k3e6 skip …") or an
    architecture.json. Names and notations are built in the LUT's search space.
    """
    from latbench.lut import predict_latency
    from latbench.space import read_architecture

    heads = lut.search_space.heads
    if head not in (None, *heads):
        raise BadRequest(
            f"head must be {' or '.join(map(str, heads))} channels in this LUT, got {head}"
        )
    architecture = read_architecture(architecture_text, lut.search_space, head=head)
    prediction = predict_latency(lut, architecture)
    if as_json:
        emit_json(
            {
                "ms": prediction.ms,
                "low": prediction.low,
                "high": prediction.high,
                "architecture": architecture.to_dict(),
                "target": lut.target.model_dump(mode="json"),
                "provenance": lut.provenance,
                "lut_sha256": lut.content_sha256,
            }
        )
        return
    emit_facts(
        [
            ("architecture", architecture),
            ("space", architecture.space),
            ("target", f"{lut.target} ({lut.provenance})"),
            ("predicted", predicted_latency(prediction)),
        ]
    )
