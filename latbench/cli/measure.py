"""latbench measure: time one model file or architecture on a device."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.options import (
    budget_option,
    interval_option,
    json_option,
    lut_file,
    read_space,
    shape,
    space_options,
)
from latbench.cli.output import emit_facts, emit_json, interval, milliseconds, tell_fallbacks
from latbench.cli.progress import reporter
from latbench.cli.target import target_request_options
from latbench.errors import LutRefused

if TYPE_CHECKING:
    from latbench.lut import Lut
    from latbench.space import Architecture
    from latbench.workflows.measure import Measurement
    from latbench.workflows.target import TargetRequest


@click.command(name="measure")
@click.argument("model", metavar="MODEL|ARCH")
@target_request_options()
@space_options
@click.option(
    "--lut",
    type=lut_file,
    metavar="FILE",
    help="Predict from this LUT too, and time its networks beside the model.",
)
@click.option(
    "--input-shape",
    type=shape,
    metavar="SHAPE",
    help="Shape of the input, like 1x3x224x224, where the file does not say.",
)
@interval_option("the model")
@budget_option("2m")
@json_option
def command(
    model: str,
    target: "TargetRequest",
    lut: "Lut | None",
    input_shape: tuple[int, ...] | None,
    allow_partial: bool,
    ci: float,
    budget: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Time one model on a device.

    MODEL is a model file of any origin, such as a .tflite, .onnx or .pt file; its suffix names the runtime.
    ARCH is a published name
    (fbnet_b), a notation, or an architecture.json; it is exported with untrained weights.
    """
    from latbench.runtime.registry import model_suffixes
    from latbench.workflows.measure import measure_latency

    workload: Path | Architecture
    if model.lower().endswith(model_suffixes()):
        workload = Path(model)
    else:
        workload = _read_architecture(model, lut, chosen)
    with reporter() as progress:
        measurement = measure_latency(
            workload,
            target,
            allow_partial=allow_partial,
            lut=lut,
            input_shape=input_shape,
            ci=ci,
            budget_s=budget,
            progress=progress,
        )
    if as_json:
        emit_json(_facts_for_machines(measurement))
    else:
        _print(measurement)
        tell_fallbacks(measurement.delegated)


def _read_architecture(text: str, lut: "Lut | None", chosen: dict[str, Any]) -> "Architecture":
    from latbench.space import MACRO_ARCHITECTURES, read_architecture

    if lut is not None:
        if any(chosen.values()) and read_space(**chosen) != lut.search_space:
            raise LutRefused(
                f"the LUT is of {lut.search_space}, not of {read_space(**chosen)}",
                hint="leave the space out: the LUT names it",
            )
        return read_architecture(text, lut.search_space)
    if text.endswith(".json"):
        return read_architecture(text)
    plain = chosen["space_name"] in (None, next(iter(MACRO_ARCHITECTURES)))
    if plain and chosen["classes"] is None and not chosen["drop_first_1x1"]:
        return read_architecture(text, input_size=chosen["input_size"], width=chosen["width"])
    return read_architecture(text, read_space(**chosen))


def _facts_for_machines(measurement: "Measurement") -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": measurement.name,
        "target": measurement.target.model_dump(mode="json"),
        "ms": measurement.ms,
        "ci95": list(measurement.ci95),
        "samples": measurement.samples,
        "rounds": measurement.rounds,
        "tainted": measurement.tainted,
        "delegated": [asdict(one) for one in measurement.delegated],
    }
    if measurement.predicted is not None:
        predicted = measurement.predicted
        facts["predicted"] = {"ms": predicted.ms, "low": predicted.low, "high": predicted.high}
        facts["anchor"] = measurement.anchor
        facts["anchored_ms"] = measurement.ms / measurement.level
    return facts


def _print(measurement: "Measurement") -> None:
    facts: list[tuple[str, Any]] = [
        ("model", measurement.name),
        ("target", measurement.target),
        ("measured", f"{milliseconds(measurement.ms)} ms, "
                     f"95 % interval {interval(measurement.ci95)}, "
                     f"{measurement.samples} samples in {measurement.rounds} rounds"),
    ]  # fmt: skip
    predicted = measurement.predicted
    if predicted is not None:
        bounds = interval((predicted.low, predicted.high))
        facts.append(("predicted", f"{milliseconds(predicted.ms)} ms, 95 % interval {bounds}"))
        difference = measurement.ms / measurement.level / predicted.ms - 1
        if measurement.anchor is not None:
            facts.append(
                (
                    "level",
                    f"the LUT's networks now take {measurement.anchor:.3f} times what they took",
                )
            )
        facts.append(("difference", f"{difference:+.1%} at the LUT's level"))
    if measurement.tainted:
        facts.append(("tainted", f"{measurement.tainted} trials were distrusted and taken again"))
    emit_facts(facts)
