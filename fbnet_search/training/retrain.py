"""Train a found architecture from scratch, test it, and write it for every runtime and tool."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.choose.finalists import latencies_on
from fbnet_search.data.batches import batch_count, batches
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData
from fbnet_search.result import folders_in
from fbnet_search.run.checkpoint import Checkpoints, save_tensors
from fbnet_search.run.distributed import Peers
from fbnet_search.run.epochs import Run
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import Pass, correct, cosine, require_sane, set_rate, threads
from fbnet_search.run.recipe import OnProgress, Progress, TrainRecipe
from fbnet_search.supernet.depthwise import trained
from fbnet_search.supernet.network import start_as_identity
from fbnet_search.training.card import latencies_found, model_card
from fbnet_search.training.result import TrainResult
from fbnet_search.training.standalone import standalone_source
from fbnet_search.training.timm_arch import timm_file
from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut
from latbench.runtime.registry import HOST_RUNTIMES, descriptor
from latbench.space import Architecture, read_architecture
from latbench.space.blocks import build_network
from latbench.target import Precision

_TEST_BATCH = 256
_SAMPLES = 32  # images that an export is checked with


def train(
    architecture: Architecture | str | Path,
    data: str | ImageData,
    out: str | Path,
    *,
    recipe: TrainRecipe | str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    luts: Sequence[Lut] = (),
    export: bool = True,
    resume: bool = False,
    checkpoint_s: float = 600.0,
    progress: OnProgress | None = None,
) -> TrainResult:
    """Train an architecture from scratch on `data`'s training images, and test it on the others.

    Args:
        architecture: an architecture, its file, or the folder of the search that found it.
        data: `digits`, `imagefolder:PATH`, or data at the architecture's input size; the
            classifier has the data's number of classes.
        out: gets `weights.pth` (a state dict), `network.py` (needs PyTorch only), `network.tflite`,
            `network.onnx`, `network.pt` (TorchScript), `network.timm.json` if timm has words for
            it, `MODEL_CARD.md`, `training.json`, and in `training/` events and checkpoints;
            `architecture.json` too unless it holds the same architecture already.
        recipe: its name or file (`TrainRecipe.named`); by default the one that suits the data.
        epochs: instead of the recipe's.
        luts: of targets whose devices are at hand: predict and measure the latency there. Without
            any, the card tells what the search told.
        export: whether to write the network for the three runtimes.
        resume: go on from `out`'s checkpoint, which must be of the same training.
        checkpoint_s: seconds between checkpoints; there is one after every epoch besides.
        progress: called after every step.

    Raises:
        UnknownName, BadRequest: architecture, data, recipe or checkpoint make no sense.
        MissingOps: a LUT lacks ops of the architecture.
        ExportFailed: an artifact does not compute what PyTorch computes.
        LatbenchError: the training diverged again and again.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    found: dict[str, Any] = {}
    if not isinstance(architecture, Architecture):
        architecture, found = read_found(Path(architecture))
    for lut in luts:
        lut.require(architecture.ops, str(architecture))
    name = data if isinstance(data, str) else data.name
    if not isinstance(recipe, TrainRecipe):
        recipe = TrainRecipe.for_data(name) if recipe is None else TrainRecipe.named(recipe)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    images = open_data(data, architecture.space.input_size) if isinstance(data, str) else data
    out, started = Path(out), time.perf_counter()
    with threads(recipe.threads):
        training = _Training(architecture, images, recipe, seed, out)
        loss, accuracy = training.run(resume, checkpoint_s, progress)
        network = training.network
        test_accuracy = evaluate(network, images)
    save_tensors(out / "weights.pth", network.state_dict())
    _keep_architecture(architecture, out / "architecture.json")
    deployed = with_classes(architecture, len(images.classes))
    write_atomically(out / "network.py", standalone_source(deployed, images.classes))
    artifacts = {}
    if export:
        numbers = torch.arange(min(_SAMPLES, len(images.test)))
        samples, _ = next(batches(images.test, numbers, _SAMPLES))
        artifacts = export_formats(network, deployed, out, samples)
    latencies = [
        one for lut in luts for one in latencies_on(lut, [architecture])
    ] or latencies_found(found)
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
        latencies=tuple(latencies),
    )
    write_atomically(out / "training.json", json.dumps(result.to_dict(), indent=1) + "\n")
    files = [
        ("weights.pth", "the weights, a PyTorch state dict"),
        ("network.py", 'the network, for PyTorch alone: `network("weights.pth")`'),
        *((path.name, f"for {runtime}, fp32") for runtime, path in artifacts.items()),
        _timm(deployed, out / "network.timm.json"),
    ]
    write_atomically(out / "MODEL_CARD.md", model_card(result, files, found))
    return result


def _timm(architecture: Architecture, path: Path) -> tuple[str, str]:
    """Write timm's words for the network; returns the file, and what the card says of it."""
    try:
        write_atomically(path, timm_file(architecture))
    except BadRequest as error:
        path.unlink(missing_ok=True)
        return path.name, f"not written: {error.message} {'; '.join(error.details)}"
    return path.name, "block strings and head for timm's EfficientNet"


def read_found(path: Path) -> tuple[Architecture, dict[str, Any]]:
    """Read the architecture of a search's folder, or of an architecture.json; and all it holds.

    Raises:
        BadRequest: there is none, or the file holds none.
    """
    file = path / "architecture.json" if path.is_dir() else path
    if not file.exists():
        several = [str(folder) for folder in folders_in(path / "front.json")]
        raise BadRequest(
            f"there is no architecture at {file}",
            hint="it holds one for each of several targets: give " + " or ".join(several)
            if several
            else "find one with: fbnet-search --lut FILE --data digits --out DIR",
        )
    if file.suffix != ".json":
        raise BadRequest(f"{file} is not an architecture.json")
    architecture = read_architecture(str(file))
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return architecture, content


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
    for runtime in HOST_RUNTIMES:
        path = out / f"network{descriptor(runtime).suffix}"
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


class _Training(Run):
    """One training with its state; `means` are loss and accuracy of the last whole epoch."""

    def __init__(
        self,
        architecture: Architecture,
        data: ImageData,
        recipe: TrainRecipe,
        seed: int,
        out: Path,
    ) -> None:
        self.data, self.recipe, self.folder = data, recipe, out / "training"
        self.network = _initialised(architecture, len(data.classes), seed)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.rate,
            momentum=recipe.momentum,
            weight_decay=recipe.decay,
            nesterov=True,
        )
        self.steps = batch_count(len(data.train), recipe.batch)
        self.means = [math.nan, math.nan]
        identity = {
            "architecture": architecture.to_dict(),
            "data": data.name,
            "training images": len(data.train),
            "classes": list(data.classes),
            "seed": seed,
            "recipe": recipe.to_dict(),
        }
        super().__init__(
            "a training",
            Checkpoints(self.folder / "checkpoint.pt", "a training", identity),
            self.network,
            {"w": self.optimizer},
            torch.Generator().manual_seed(seed),
            Peers(0, 1, torch.device("cpu")),
        )

    def run(
        self, resume: bool, checkpoint_s: float, progress: OnProgress | None
    ) -> tuple[float, float]:
        """Train; returns the last epoch's mean loss and accuracy on (augmented) training images."""
        if resume:
            self.resume()
        else:
            self.begin()
        log = EventLog(self.folder, resume_after=self.epoch if resume else None)
        try:
            self.epochs(self.recipe.epochs, log, checkpoint_s, progress)
        finally:
            log.close()
        loss, accuracy = self.means
        return loss, accuracy

    def one_epoch(self, log: EventLog) -> None:
        self.network.train()
        if self.current is None:
            self.current = Pass.shuffled(torch.arange(len(self.data.train)), self.generator)
        for images, labels in self.current.batches(
            self.data, self.recipe.batch, self.recipe.crop_area
        ):
            self.current.tell(len(labels), *self._step(images, labels, self.current.done))
            self.step_done()
        intake = self.current.intake
        self.means, self.current = self.current.means(), None
        self.epoch += 1
        told = dict(zip(("loss", "accuracy"), self.means, strict=True))
        log.write("epoch", epoch=self.epoch, input=intake.to_dict(), **told)
        log.scalars(self.epoch, told)

    def progress(self) -> Progress:
        assert self.current is not None
        done = self.epoch * self.steps + self.current.done
        waits = self.current.intake.told
        doing = f"training, epoch {self.epoch + 1} of {self.recipe.epochs}{waits}"
        return Progress(done, self.recipe.epochs * self.steps, doing)

    def own_state(self) -> dict[str, Any]:
        return {"means": self.means}

    def restore_own(self, state: dict[str, Any]) -> None:
        self.means = state["means"]

    def _step(self, images: Tensor, labels: Tensor, number: int) -> list[Tensor]:
        recipe, step = self.recipe, self.epoch * self.steps + number
        rising = max(recipe.warmup_epochs * self.steps, 1)
        rate = cosine(recipe.rate, step, recipe.epochs * self.steps)
        set_rate(self.optimizer, rate * min(1.0, (step + 1) / rising) * self.caution)
        logits = trained(self.network, images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        when = f"step {number + 1} of epoch {self.epoch + 1}"
        require_sane(loss, len(self.data.classes), when)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return [loss, correct(logits, labels)]


def _keep_architecture(architecture: Architecture, path: Path) -> None:
    """Write architecture.json, unless the one that is there (a search's) says the same."""
    try:
        if read_architecture(str(path)) == architecture:
            return
    except LatbenchError:  # none there, or something else
        pass
    write_atomically(path, json.dumps(architecture.to_dict(), indent=1) + "\n")
