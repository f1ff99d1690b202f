"""latbench measure: time one model file or architecture on a device."""

from collections.abc import Iterator
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
from latbench.cli.output import (
    arithmetic_facts,
    count_of,
    emit_facts,
    emit_json,
    interval,
    milliseconds,
    percent,
    predicted_latency,
    slowdown_line,
    tell_fallbacks,
)
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
    help="Also predict the latency from this LUT, and measure the device's slowdown since its run.",
)
@click.option(
    "--input-shape",
    type=shape,
    metavar="SHAPE",
    help="Shape of the input, like 1x3x224x224, if the file does not state it.",
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

    MODEL is a model file of any origin; its suffix names the runtime. ARCH is a published name (fbnet_b), a
    notation, or an architecture.json; it is exported with untrained weights.
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
        if lut is not None:
            for warning in measurement.warnings:
                again = f"{lut.command} --fresh"
                click.echo(f"warning: {warning}. Measure the LUT again with: {again}", err=True)
        tell_fallbacks(measurement.delegated)


def _read_architecture(text: str, lut: "Lut | None", chosen: dict[str, Any]) -> "Architecture":
    from latbench.space import read_architecture
    from latbench.space.shipped import DEFAULT_SPACE

    if lut is not None:
        if any(chosen.values()) and read_space(**chosen) != lut.search_space:
            raise LutRefused(
                f"the LUT is for {lut.search_space}, not for {read_space(**chosen)}",
                hint="leave out the options of the space: the LUT holds it",
            )
        return read_architecture(text, lut.search_space)
    if text.endswith(".json"):
        return read_architecture(text)
    shape = {name: chosen[name] for name in ("input_size", "width")}
    others = {name: value for name, value in chosen.items() if name not in shape}
    others["space_name"] = others["space_name"] not in (None, DEFAULT_SPACE)
    if not any(others.values()):
        return read_architecture(text, **shape)
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
        facts["anchored_ms"] = measurement.ms / measurement.slowdown
        facts["warnings"] = list(measurement.warnings)
    return facts


def _print(measurement: "Measurement") -> None:
    emit_facts(_facts(measurement))


def _facts(measurement: "Measurement") -> Iterator[tuple[str, Any]]:
    yield "model", measurement.name
    yield "target", measurement.target
    yield from arithmetic_facts(measurement.target)
    samples = count_of(measurement.samples, "sample")
    rounds = count_of(measurement.rounds, "round")
    yield (
        "measured",
        (
            f"{milliseconds(measurement.ms)} ms, 95 % interval {interval(measurement.ci95)}, "
            f"{samples} in {rounds}"
        ),
    )
    predicted = measurement.predicted
    if predicted is not None:
        yield "predicted", predicted_latency(predicted)
    if measurement.anchor is not None:
        yield "slowdown", slowdown_line(measurement.anchor)
    if predicted is not None:
        difference = measurement.ms / measurement.slowdown / predicted.ms - 1
        yield (
            "difference",
            (
                f"{percent(difference, signed=True)} from the prediction, at the slowdown of the LUT's run"
            ),
        )
    if measurement.tainted:
        yield "tainted", f"{count_of(measurement.tainted, 'trial')}, repeated"
