"""The model card of a trained network: what it is, how good, how fast, and what it follows from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fbnet_search.result import versions
from latbench.api import measure_latency
from latbench.lut import Lut
from latbench.space import Architecture

if TYPE_CHECKING:
    from fbnet_search.retrain import TrainResult


@dataclass(frozen=True)
class TargetLatency:
    """A network's latency on one target, milliseconds at batch 1, with 95 % intervals.

    What was not measured is None. `measured` is at the level of the LUT's run.
    """

    target: str
    predicted: float
    predicted_interval: tuple[float, float]
    measured: float | None = None
    measured_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The latency as JSON data."""
        return {
            "target": self.target,
            "predicted_ms": self.predicted,
            "predicted_interval": list(self.predicted_interval),
            "measured_ms": self.measured,
            "measured_interval": self.measured_interval and list(self.measured_interval),
        }


def latency_on(lut: Lut, architecture: Architecture) -> TargetLatency:
    """Predict the latency of `architecture` on the LUT's target, and time it there.

    Raises:
        MissingOps: the LUT lacks ops of it.
        DeviceUnavailable, RunnerFailed, ExportFailed: see `latbench.api.measure_latency`.
    """
    measured = measure_latency(architecture, lut.target.device, lut=lut)
    prediction = measured.predicted
    assert prediction is not None
    level = measured.anchor or 1.0
    low, high = measured.ci95
    return TargetLatency(
        str(lut.target),
        prediction.ms,
        (prediction.low, prediction.high),
        measured.anchored_ms,
        (low / level, high / level),
    )


def latency_found(found: Mapping[str, Any]) -> list[TargetLatency]:
    """What a search's architecture.json says of the latency on its target, if it says anything."""
    try:
        timed = [one for one in found["finalists"] if one["layers"] == found["layers"]]
        told = TargetLatency(
            found["lut_target"],
            found["predicted_ms"],
            (found["predicted_low"], found["predicted_high"]),
            timed[0]["measured_ms"] if timed else None,
            (timed[0]["measured_low"], timed[0]["measured_high"]) if timed else None,
        )
    except (KeyError, TypeError, IndexError):  # of an architecture that no search found
        return []
    return [told]


def model_card(
    result: "TrainResult", files: Sequence[tuple[str, str]], found: Mapping[str, Any]
) -> str:
    """Return the card in Markdown.

    Args:
        files: each file's name and what it is.
        found: what the search's architecture.json holds; empty if there was none.
    """
    architecture, data = result.architecture, result.data
    space = architecture.space
    lines = [
        f"# FBNet for {data['name']}",
        "",
        f"`{architecture.notation}`, head {architecture.head}, in the space {space}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| accuracy | {result.test_accuracy:.1%} of {data['test_images']} test images, "
        f"{data['classes']} classes |",
        f"| size | {architecture.macs / 1e6:.4g} M MACs, {architecture.params / 1e6:.4g} M weights |",
        f"| input | {space.input_size}x{space.input_size} RGB, pixel / 127.5 - 1 |",
        f"| training | {data['train_images']} images, {result.recipe.epochs} epochs, "
        f"seed {result.seed} |",
        "",
        "## Latency",
        "",
        *_latencies(result.latencies, space.classes),
        "",
        "## Files",
        "",
        *(f"- `{name}`: {what}" for name, what in files),
        "",
        "## Where it comes from",
        "",
        *_provenance(found),
        f"- trained with {_versions(versions())}",
        "",
    ]
    return "\n".join(lines)


def _latencies(latencies: Sequence[TargetLatency], classes: int) -> list[str]:
    if not latencies:
        return ["Not known: no LUT was given (`fbnet-train --lut LUT` predicts and measures it)."]
    rows = [
        f"| {one.target} | {_ms(one.predicted, one.predicted_interval)} "
        f"| {_ms(one.measured, one.measured_interval)} |"
        for one in latencies
    ]
    return [
        f"Milliseconds at batch 1 with {classes} classes; 95 % intervals in brackets; measured at the "
        "level of the LUT's run.",
        "",
        "| target | predicted | measured |",
        "| --- | --- | --- |",
        *rows,
    ]


def _ms(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "not measured"
    return f"{value:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"


def _provenance(found: Mapping[str, Any]) -> list[str]:
    if "lut_sha256" not in found:
        return ["- the architecture was given, not searched for"]
    wanted = found.get("target_ms")
    budget = "the paper's loss, no target" if wanted is None else f"a target of {wanted:g} ms"
    return [
        f"- found by fbnet-search with {budget}, seed {found['seed']}, on {found['data']['name']}",
        f"- LUT of {found['lut_target']}, {found['provenance']}, "
        f"`content_sha256` {found['lut_sha256']}",
        f"- searched with {_versions(found.get('versions', {}))}",
        f"- recipe: {', '.join(f'{name} {value}' for name, value in found['recipe'].items())}",
    ]


def _versions(known: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "versions not told"
