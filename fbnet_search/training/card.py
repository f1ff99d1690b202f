"""The model card of a trained network: size, accuracy, latency, files and provenance."""

from collections.abc import Mapping, Sequence

from fbnet_search.latencies import Measured, TargetLatency
from fbnet_search.result import versions
from fbnet_search.training.found import Found
from fbnet_search.training.result import TrainResult
from latbench.lut import Prediction


def model_card(result: TrainResult, files: Sequence[tuple[str, str]], found: Found) -> str:
    """Return the card in Markdown.

    Args:
        files: the name and the description of each file.
        found: the architecture with what its search said of it.
    """
    architecture, data = result.architecture, result.data
    space, size = architecture.space, result.image_size
    lines = [
        f"# FBNet for {data['name']}",
        "",
        f"`{architecture.notation}`, head {architecture.head}, in the space {space}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| accuracy | {result.test_accuracy:.1%} of {data['test_images']} test images, "
        f"{data['classes']} classes |",
        f"| size | {architecture.macs / 1e6:.4g} M MACs at {space.input_size}x{space.input_size}, "
        f"{architecture.params / 1e6:.4g} M weights |",
        f"| input | {size}x{size} RGB, pixel / 127.5 - 1 |",
        f"| training | {data['train_images']} images, {counted(result.recipe.epochs, 'epoch')}, "
        f"seed {result.seed} |",
        "",
        "## Latency",
        "",
        *_latencies(result),
        "",
        "## Files",
        "",
        *(f"- `{name}`: {what}" for name, what in files),
        "",
        "## Provenance",
        "",
        *_provenance(found),
        f"- trained with {_versions(versions())}",
        "",
    ]
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """'1 epoch', '2 epochs'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _latencies(result: TrainResult) -> list[str]:
    latencies, space = result.latencies, result.architecture.space
    if not latencies:
        return ["Not known: no LUT was given (`fbnet-train --lut LUT` predicts and measures it)."]
    rows = [f"| {one.target} | {_ms(one.predicted)} | {_measured(one)} |" for one in latencies]
    lines = [
        f"Milliseconds at batch 1 with {space.classes} class{'' if space.classes == 1 else 'es'} "
        f"and images of {space.input_size}x{space.input_size}; 95 % intervals in brackets; measurements "
        "are normalised to the LUT's run.",
    ]
    if result.image_size != space.input_size:
        lines.append(
            f"The files here take images of {result.image_size}x{result.image_size}, so they are faster."
        )
    return [
        *lines,
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
    if one.low is None or one.high is None:
        return f"{one.ms:.4g} (uncertainty unknown)"
    return f"{one.ms:.4g} [{one.low:.4g}, {one.high:.4g}]"


def _provenance(found: Found) -> list[str]:
    content = found.content
    if not found.latencies and "seed" not in content:
        return ["- the architecture was given, not searched for"]
    target_ms = content.get("target_ms")
    loss = "the paper's loss, no target" if target_ms is None else f"a target of {target_ms:g} ms"
    size = f" at {found.image_size}x{found.image_size}" if found.image_size else ""
    return [
        f"- found by fbnet-search with {loss}, seed {content['seed']}, on {found.data}{size}",
        *(
            f"- searched with the LUT of {one.target}: {one.provenance}, "
            f"`content_sha256` {one.lut_sha256}"
            for one in found.latencies
        ),
        f"- searched by {_versions(content.get('versions', {}))}",
        f"- recipe: {', '.join(f'{name} {value}' for name, value in content['recipe'].items())}",
    ]


def _versions(known: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "unknown versions"
