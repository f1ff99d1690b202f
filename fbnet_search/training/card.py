"""The model card of a trained network: what it is, how good, how fast, and what it follows from."""

from collections.abc import Mapping, Sequence
from typing import Any

from fbnet_search.choose.finalists import Measured, TargetLatency
from fbnet_search.result import versions
from fbnet_search.training.result import TrainResult
from latbench.lut import Prediction


def latencies_found(found: Mapping[str, Any]) -> list[TargetLatency]:
    """What a search's architecture.json says of the latency on its targets, if it says anything."""
    try:
        return [TargetLatency.from_dict(one) for one in found.get("latencies", ())]
    except (KeyError, TypeError, AttributeError):  # of an architecture that no search found
        return []


def model_card(
    result: TrainResult, files: Sequence[tuple[str, str]], found: Mapping[str, Any]
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
    rows = [f"| {one.target} | {_ms(one.predicted)} | {_measured(one)} |" for one in latencies]
    return [
        f"Milliseconds at batch 1 with {classes} classes; 95 % intervals in brackets; measured at the "
        "level of the LUT's run.",
        "",
        "| target | predicted | measured |",
        "| --- | --- | --- |",
        *rows,
        "",
        *(
            f"- predicted from the LUT of {one.target}: {one.provenance}, {one.lut_created}, "
            f"`content_sha256` {one.lut_sha256}"
            for one in latencies
        ),
    ]


def _measured(one: TargetLatency) -> str:
    if one.measured is not None:
        return _ms(one.measured)
    why = " ".join(one.unmeasured.replace("|", "\\|").split())
    return f"not measured: {why}" if why else "not measured"


def _ms(one: Prediction | Measured) -> str:
    return f"{one.ms:.4g} [{one.low:.4g}, {one.high:.4g}]"


def _provenance(found: Mapping[str, Any]) -> list[str]:
    searched = latencies_found(found)
    if not searched and "seed" not in found:
        return ["- the architecture was given, not searched for"]
    wanted = found.get("target_ms")
    budget = "the paper's loss, no target" if wanted is None else f"a target of {wanted:g} ms"
    return [
        f"- found by fbnet-search with {budget}, seed {found['seed']}, on {found['data']['name']}",
        *(
            f"- searched with the LUT of {one.target}: {one.provenance}, "
            f"`content_sha256` {one.lut_sha256}"
            for one in searched
        ),
        f"- searched by {_versions(found.get('versions', {}))}",
        f"- recipe: {', '.join(f'{name} {value}' for name, value in found['recipe'].items())}",
    ]


def _versions(known: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "versions not told"
