"""`fbnet-train`: parse, call, print."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbnet_search.cli.options import (
    data_option,
    epochs_option,
    image_size_option,
    json_option,
    out_option,
    recipe_option,
    resume_option,
    seed_option,
)
from fbnet_search.cli.progress import interruptible, note, progress_bar
from latbench._version import __version__
from latbench.cli.completion import complete_files
from latbench.cli.group import ReportingCommand
from latbench.cli.options import lut_file
from latbench.cli.output import emit_facts, emit_json, milliseconds

if TYPE_CHECKING:
    from fbnet_search.training.result import TrainResult


@click.command(cls=ReportingCommand)
@click.argument("found", type=click.Path(path_type=Path), metavar="DIR|ARCHITECTURE.JSON")
@data_option("the search's")
@out_option("the folder of the search")
@recipe_option
@epochs_option
@image_size_option("the search's for the same data; else the space's input, at most 64 for digits")
@seed_option
@click.option(
    "--lut",
    "luts",
    multiple=True,
    metavar="FILE",
    shell_complete=complete_files,
    help="Predict and measure the latency on this LUT's target; give several for more targets.",
)
@resume_option
@json_option
@click.version_option(__version__)
def train_main(
    found: Path,
    data: str | None,
    out: Path | None,
    recipe: str | None,
    epochs: int | None,
    image_size: int | None,
    seed: int,
    luts: tuple[str, ...],
    resume: bool,
    as_json: bool,
) -> None:
    """Train a found network from scratch, test it, and export it.

    \b
    fbnet-train runs/iphonex

    The argument is the output folder of a search, or an architecture.json. Writes weights.pth, network.py
    (needs PyTorch only), network.tflite, network.onnx, network.pt (TorchScript), MODEL_CARD.md and
    training.json.
    """
    folder = out or (found.parent if found.suffix == ".json" else found)
    with interruptible(folder / "training", resume):
        from fbnet_search.data.datasets import EMBEDDED
        from fbnet_search.training.found import read_found
        from fbnet_search.training.retrain import train, training_size

        read = read_found(found)
        images = data or read.data or EMBEDDED
        space = read.architecture.space
        if data is None:
            note(f"training on {images}; use your own images with --data imagefolder:PATH")
        if out is None:
            note(f"writing to {folder}; choose another folder with --out DIR")
        size = training_size(images, read)
        if image_size is None and size != space.input_size:
            note(
                f"training and exporting for images of {size}x{size}, while latencies are for "
                f"{space.input_size}x{space.input_size}; choose another size with --image-size PIXELS"
            )
        with progress_bar("training") as progress:
            result = train(
                found,
                images,
                folder,
                recipe=recipe,
                epochs=epochs,
                image_size=image_size,
                seed=seed,
                luts=[lut_file(path) for path in luts],
                resume=resume,
                progress=progress,
            )
    if as_json:
        emit_json(result.to_dict() | {"out": str(folder)})
    else:
        emit_facts(_facts(result))


def _facts(result: "TrainResult") -> Iterator[tuple[str, str]]:
    space, epochs = result.architecture.space, result.recipe.epochs
    yield "trained", result.architecture.notation
    yield (
        "accuracy",
        f"{result.test_accuracy:.1%} of {result.data['test_images']} test images "
        f"({result.train_accuracy:.1%} of the augmented training images)",
    )
    yield "took", f"{result.seconds:.0f} s, {epochs} epoch{'' if epochs == 1 else 's'}"
    for one in result.latencies:
        measured = "not measured"
        if one.measured is not None:
            measured = f"{milliseconds(one.measured.ms)} ms measured"
        yield (
            "latency",
            f"{milliseconds(one.predicted.ms)} ms predicted, {measured} on {one.target}",
        )
    if result.image_size != space.input_size:
        yield (
            "images",
            f"{result.image_size}x{result.image_size}, also in the exported files; latency is for "
            f"{space.input_size}x{space.input_size}",
        )
    yield "files", f"{result.out}: MODEL_CARD.md, training.json, weights.pth, network.py"
    yield from ((runtime, str(path)) for runtime, path in result.artifacts.items())
