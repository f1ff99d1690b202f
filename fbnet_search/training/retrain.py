"""Train a found architecture from scratch, test it, and write it for every runtime and tool."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from fbnet_search.data.batches import batches
from fbnet_search.data.datasets import default_image_size, open_or_check
from fbnet_search.data.images import ImageData
from fbnet_search.latencies import latencies_on
from fbnet_search.run.passes import correct, threads
from fbnet_search.run.recipe import OnProgress, TrainRecipe
from fbnet_search.training.card import model_card
from fbnet_search.training.files import deployed, write_formats, write_network, write_timm
from fbnet_search.training.found import Found, read_found
from fbnet_search.training.loop import TrainingLoop
from fbnet_search.training.result import TrainResult
from latbench.files import write_atomically
from latbench.lut import Lut
from latbench.space import Architecture

_TEST_BATCH = 256


def train(
    architecture: Architecture | str | Path,
    data: str | ImageData,
    out: str | Path,
    *,
    recipe: TrainRecipe | str | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    luts: Sequence[Lut] = (),
    export: bool = True,
    resume: bool = False,
    checkpoint_s: float = 600.0,
    progress: OnProgress | None = None,
) -> TrainResult:
    """Train an architecture from scratch on the training images of `data`, and test it on the others.

    Args:
        architecture: an architecture, its file, or the folder of the search that found it.
        data: `digits`, `imagefolder:PATH`, `webdataset:PATH`, or open data; the classifier has an output
            for each of its classes.
        out: gets `weights.pth` (a state dict), `network.py` (needs PyTorch only), `network.tflite`,
            `network.onnx`, `network.pt` (TorchScript), `network.timm.json` if timm can express the network,
            `MODEL_CARD.md`, `training.json`, and in `training/` events and checkpoints;
            `architecture.json` too unless it holds the same architecture already.
        recipe: a recipe, its name or its file; by default the one for the data (`TrainRecipe.for_data`).
        epochs: replaces the recipe's; the schedule stretches with it.
        image_size: height and width of the images, and of the exported networks' input, pixels. By default
            the search's if it was of the same data; else the space's input, at most 64 for `digits`.
        luts: of targets whose devices are reachable: predict and measure the latency there. Without any,
            the model card has the latencies of the search.
        export: whether to write the network for the runtimes.
        resume: continue from the checkpoint in `out`, which must be of the same training.
        checkpoint_s: seconds between checkpoints; one more follows every epoch.
        progress: called after every step.

    Raises:
        UnknownName, BadRequest: architecture, data, image size, recipe or checkpoint are invalid.
        MissingOps: a LUT lacks ops of the architecture.
        ExportFailed: an artifact's outputs differ from PyTorch's.
        LatbenchError: the training diverged repeatedly.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    out, started = Path(out), time.perf_counter()
    found = (
        Found(architecture)
        if isinstance(architecture, Architecture)
        else read_found(Path(architecture))
    )
    for lut in luts:
        lut.require(found.architecture.ops, str(found.architecture))
    name = data if isinstance(data, str) else data.name
    if not isinstance(recipe, TrainRecipe):
        recipe = TrainRecipe.for_data(name) if recipe is None else TrainRecipe.named(recipe)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    images = _images(data, image_size, found)
    with threads(recipe.threads):
        loop = TrainingLoop(found.architecture, images, recipe, seed, out / "training")
        loss, accuracy = loop.run(resume, checkpoint_s, progress)
        network = loop.network
        test_accuracy = evaluate(network, images)
    write_network(network, found.architecture, images, out)
    artifacts = write_formats(network, found.architecture, images, out) if export else {}
    measured = [one for lut in luts for one in latencies_on(lut, [found.architecture])]
    result = TrainResult(
        architecture=found.architecture,
        test_accuracy=test_accuracy,
        train_accuracy=accuracy,
        train_loss=loss,
        seconds=time.perf_counter() - started,
        data=images.to_dict(),
        image_size=images.image_size,
        recipe=recipe,
        seed=seed,
        out=out,
        artifacts=artifacts,
        latencies=tuple(measured or found.latencies),
    )
    write_atomically(out / "training.json", json.dumps(result.to_dict(), indent=1) + "\n")
    _write_card(result, found, deployed(found.architecture, images))
    return result


def training_size(data: str, found: Found) -> int:
    """The image size for a data set where none is given, pixels: the search's if it was of these data."""
    space = found.architecture.space
    searched = found.image_size if data == found.data else None
    return searched or default_image_size(data, space.input_size, space.definition.input.multiple)


def _images(data: str | ImageData, image_size: int | None, found: Found) -> ImageData:
    space = found.architecture.space
    if image_size is None and isinstance(data, str):
        image_size = training_size(data, found)
    return open_or_check(data, image_size, space.input_size, space.definition.input.multiple)


def _write_card(result: TrainResult, found: Found, network: Architecture) -> None:
    files = [
        ("weights.pth", "the weights, a PyTorch state dict"),
        ("network.py", 'the network, for PyTorch alone: `network("weights.pth")`'),
        *((path.name, f"for {runtime}, fp32") for runtime, path in result.artifacts.items()),
        ("network.timm.json", write_timm(network, result.out / "network.timm.json")),
    ]
    write_atomically(result.out / "MODEL_CARD.md", model_card(result, files, found))


@torch.no_grad()
def evaluate(network: nn.Module, data: ImageData) -> float:
    """Return the accuracy, 0 to 1, of `network` on the test images; leaves it in eval mode."""
    network.eval()
    right = 0.0
    for images, labels in batches(data.test, torch.arange(len(data.test)), _TEST_BATCH):
        right += float(correct(network(images), labels)) * len(labels)
    return right / len(data.test)
