"""Train a found architecture from scratch, test it, and write it for every runtime."""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.checkpoint import save_checkpoint
from fbnet_search.data import ImageData, batch_count, batches, open_data
from fbnet_search.events import EventLog
from fbnet_search.recipe import OnProgress, Progress, TrainRecipe
from fbnet_search.supernet import start_as_identity
from fbnet_search.trainer import correct, cosine, threads
from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically
from latbench.space import Architecture, read_architecture
from latbench.space.blocks import build_network
from latbench.target import Precision, Runtime

_TEST_BATCH = 256
_SAMPLES = 32  # images that an export is checked with


@dataclass(frozen=True)
class TrainResult:
    """What a training gave. Accuracies are shares from 0 to 1; `artifacts` are by runtime."""

    architecture: Architecture
    test_accuracy: float
    train_accuracy: float
    train_loss: float
    seconds: float
    data: dict[str, str | int]
    recipe: TrainRecipe
    seed: int
    out: Path
    artifacts: dict[str, Path]

    def to_dict(self) -> dict[str, Any]:
        """What `training.json` holds."""
        return {
            "architecture": self.architecture.to_dict(),
            "test_accuracy": self.test_accuracy,
            "train_accuracy": self.train_accuracy,
            "train_loss": self.train_loss,
            "seconds": self.seconds,
            "data": self.data,
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "artifacts": {runtime: str(path) for runtime, path in self.artifacts.items()},
        }


def train(
    architecture: Architecture | str | Path,
    data: str | ImageData,
    out: str | Path,
    *,
    epochs: int | None = None,
    seed: int = 0,
    recipe: TrainRecipe | None = None,
    export: bool = True,
    progress: OnProgress | None = None,
) -> TrainResult:
    """Train an architecture from scratch on `data`'s training images, and test it on the others.

    Args:
        architecture: an architecture, its file, or the folder of the search that found it.
        data: `digits`, `imagefolder:PATH`, or data at the architecture's input size; the
            classifier has the data's number of classes.
        out: gets `weights.pth` (a state dict), `network.tflite`, `network.onnx`, `network.pt`
            (TorchScript), `training.json`, `training/events.jsonl` and `training/tensorboard/`,
            and `architecture.json` unless it holds the same architecture already.
        epochs: instead of the recipe's.
        recipe: instead of the one that suits the data (`TrainRecipe.for_data`).
        export: whether to write the network for the three runtimes.
        progress: called after every step.

    Raises:
        UnknownName, BadRequest: architecture, data or recipe make no sense.
        ExportFailed: an artifact does not compute what PyTorch computes.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    if not isinstance(architecture, Architecture):
        architecture = read_found(Path(architecture))
    name = data if isinstance(data, str) else data.name
    recipe = recipe or TrainRecipe.for_data(name)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    images = open_data(data, architecture.space.input_size) if isinstance(data, str) else data
    out, started = Path(out), time.perf_counter()
    with threads(recipe.threads):
        network = _initialised(architecture, len(images.classes), seed)
        log = EventLog(out / "training")
        try:
            loss, accuracy = _fit(network, images, recipe, seed, log, progress)
        finally:
            log.close()
        test_accuracy = evaluate(network, images)
    save_checkpoint(out / "weights.pth", network.state_dict())
    _keep_architecture(architecture, out / "architecture.json")
    artifacts = {}
    if export:
        numbers = torch.arange(min(_SAMPLES, len(images.test)))
        samples, _ = next(batches(images.test, numbers, _SAMPLES))
        deployed = with_classes(architecture, len(images.classes))
        artifacts = export_formats(network, deployed, out, samples)
    result = TrainResult(
        architecture=architecture,
        test_accuracy=test_accuracy,
        train_accuracy=accuracy,
        train_loss=loss,
        seconds=time.perf_counter() - started,
        data=images.to_dict(),
        recipe=recipe,
        seed=seed,
        out=out,
        artifacts=artifacts,
    )
    write_atomically(out / "training.json", json.dumps(result.to_dict(), indent=1) + "\n")
    return result


def read_found(path: Path) -> Architecture:
    """Read the architecture of a search's folder, or of an architecture.json.

    Raises:
        BadRequest: there is none, or the file holds none.
    """
    file = path / "architecture.json" if path.is_dir() else path
    if not file.exists():
        raise BadRequest(
            f"there is no architecture at {file}",
            hint="find one with: fbnet-search --lut FILE --data digits --out DIR",
        )
    if file.suffix != ".json":
        raise BadRequest(f"{file} is not an architecture.json")
    return read_architecture(str(file))


def with_classes(architecture: Architecture, classes: int) -> Architecture:
    """Return `architecture` with a classifier of as many classes, as data with others need it."""
    return replace(architecture, space=replace(architecture.space, classes=classes))


@torch.no_grad()
def evaluate(network: nn.Module, data: ImageData) -> float:
    """Return the share of the test images that `network` classifies right.

    Leaves it in eval mode.
    """
    network.eval()
    right = 0.0
    for images, labels in batches(data.test, torch.arange(len(data.test)), _TEST_BATCH):
        right += float(correct(network(images), labels)) * len(labels)
    return right / len(data.test)


def export_formats(
    network: nn.Module, architecture: Architecture, out: Path, samples: Tensor
) -> dict[str, Path]:
    """Write `network`, an `architecture`, as fp32 for every runtime; returns the files by runtime.

    Args:
        samples: real images (N, 3, S, S); each file must compute on them what PyTorch computes.

    Raises:
        ExportFailed: one does not.
        OutputFailed: one cannot be written.
    """
    from latbench.export import export_module

    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = [image[None] for image in samples.contiguous()]
    artifacts = {}
    for runtime in Runtime:
        path = out / f"network{runtime.suffix}"
        export_module(network, architecture, runtime, Precision.FP32, path, samples=images)
        artifacts[runtime.value] = path
    return artifacts


def _initialised(architecture: Architecture, classes: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, classes=classes)
    start_as_identity(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _fit(
    network: nn.Module,
    data: ImageData,
    recipe: TrainRecipe,
    seed: int,
    log: EventLog,
    progress: OnProgress | None,
) -> tuple[float, float]:
    """Train; returns the last epoch's mean loss and accuracy on (augmented) training images."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.decay,
        nesterov=True,
    )
    per_epoch = batch_count(len(data.train), recipe.batch)
    steps, rising = recipe.epochs * per_epoch, recipe.warmup_epochs * per_epoch
    step, loss_mean, accuracy = 0, math.nan, math.nan
    network.train()
    for epoch in range(1, recipe.epochs + 1):
        losses = right = 0.0
        order = torch.randperm(len(data.train), generator=generator)
        for images, labels in batches(
            data.train, order, recipe.batch, generator=generator, flips=data.flips
        ):
            rate = cosine(recipe.rate, step, steps) * min(1.0, (step + 1) / max(rising, 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = network(images)
            loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses += float(loss.detach()) * len(labels)
            right += float(correct(logits, labels)) * len(labels)
            step += 1
            if progress is not None:
                progress(Progress(step, steps, f"training, epoch {epoch} of {recipe.epochs}"))
        loss_mean, accuracy = losses / len(data.train), right / len(data.train)
        if not math.isfinite(loss_mean):
            raise LatbenchError(
                "the training diverged: the loss is no longer a finite number",
                hint="train with a TrainRecipe of a smaller rate",
            )
        told = {"loss": loss_mean, "accuracy": accuracy}
        log.write("epoch", epoch=epoch, **told)
        log.scalars(epoch, told)
    return loss_mean, accuracy


def _keep_architecture(architecture: Architecture, path: Path) -> None:
    """Write architecture.json, unless the one that is there (a search's) says the same."""
    try:
        if read_architecture(str(path)) == architecture:
            return
    except LatbenchError:  # none there, or something else
        pass
    write_atomically(path, json.dumps(architecture.to_dict(), indent=1) + "\n")
