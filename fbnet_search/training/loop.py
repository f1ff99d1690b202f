"""The training loop of one network: epochs of SGD, resumable at any step."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.data.batches import batch_count
from fbnet_search.data.images import ImageData
from fbnet_search.run.checkpoint import Checkpoints
from fbnet_search.run.distributed import Peers
from fbnet_search.run.epochs import Run
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import Pass, correct, cosine, require_sane, set_rate
from fbnet_search.run.recipe import OnProgress, Progress, TrainRecipe
from fbnet_search.supernet.depthwise import forward_for_training
from fbnet_search.supernet.network import start_as_identity
from latbench.space import Architecture
from latbench.space.blocks import build_network


class TrainingLoop(Run):
    """A network in training; `means` are loss and accuracy of the last finished epoch.

    Args:
        architecture: of the network; the classifier has an output for each class of the data.
        data: the images to train on, and their classes.
        recipe: of the training.
        seed: of all random numbers.
        folder: of the checkpoints and logs.
    """

    def __init__(
        self,
        architecture: Architecture,
        data: ImageData,
        recipe: TrainRecipe,
        seed: int,
        folder: Path,
    ) -> None:
        self.data, self.recipe, self.folder = data, recipe, folder
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
        identity: dict[str, Any] = {
            "architecture": architecture.to_dict(),
            "data": data.name,
            "training images": len(data.train),
            "classes": list(data.classes),
            "seed": seed,
            "recipe": recipe.to_dict(),
        }
        # Checkpoints of versions without this key are of images at the space's input size.
        if data.image_size != architecture.space.input_size:
            identity["image_size"] = data.image_size
        super().__init__(
            "a training",
            Checkpoints(folder / "checkpoint.pt", "a training", identity),
            self.network,
            {"w": self.optimizer},
            torch.Generator().manual_seed(seed),
            Peers(0, 1, torch.device("cpu")),
        )

    def run(
        self, resume: bool, checkpoint_s: float, progress: OnProgress | None
    ) -> tuple[float, float]:
        """Train; returns mean loss and accuracy of the last epoch on (augmented) training images.

        Raises:
            BadRequest, LatbenchError, OutputFailed: as `Run.resume` and `Run.run_epochs`.
        """
        if resume:
            self.resume()
        else:
            self.begin()
        log = EventLog(self.folder, resume_after=self.epoch if resume else None)
        try:
            self.run_epochs(self.recipe.epochs, log, checkpoint_s, progress)
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
            self.current.record(len(labels), *self._step(images, labels, self.current.done))
            self.step_done()
        input_stats = self.current.input_stats.to_dict()
        self.means, self.current = self.current.means(), None
        self.epoch += 1
        metrics = dict(zip(("loss", "accuracy"), self.means, strict=True))
        log.write("epoch", epoch=self.epoch, input=input_stats, **metrics)
        log.scalars(self.epoch, metrics)

    def progress(self) -> Progress:
        assert self.current is not None
        done = self.epoch * self.steps + self.current.done
        note = self.current.input_stats.bottleneck_note
        doing = f"training, epoch {self.epoch + 1} of {self.recipe.epochs}{note}"
        return Progress(done, self.recipe.epochs * self.steps, doing)

    def own_state(self) -> dict[str, Any]:
        return {"means": self.means}

    def restore_own(self, state: dict[str, Any]) -> None:
        self.means = state["means"]

    def _step(self, images: Tensor, labels: Tensor, number: int) -> list[Tensor]:
        recipe, step = self.recipe, self.epoch * self.steps + number
        warmup = max(recipe.warmup_epochs * self.steps, 1)
        rate = cosine(recipe.rate, step, recipe.epochs * self.steps)
        set_rate(self.optimizer, rate * min(1.0, (step + 1) / warmup) * self.lr_scale)
        logits = forward_for_training(self.network, images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        when = f"step {number + 1} of epoch {self.epoch + 1}"
        require_sane(loss, len(self.data.classes), when)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return [loss, correct(logits, labels)]


def _initialised(architecture: Architecture, classes: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, classes=classes)
    start_as_identity(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
