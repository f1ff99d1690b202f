"""The search: w and θ in turn, epoch by epoch, until θ says which network to build.

Every epoch trains the supernet's weights w on one part of the training images, then θ on the other
(Wu et al., CVPR 2019, section 3.3). The same seed gives the same θ, whether or not the run was
interrupted and resumed, on the same machine with the same number of threads.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.checkpoint import load_checkpoint, save_checkpoint
from fbnet_search.data import ImageData, Split, batch_count, batches, open_data
from fbnet_search.derive import derive_architecture, require_reachable
from fbnet_search.events import EventLog
from fbnet_search.latency import LatencyModel, latency_model
from fbnet_search.loss import paper_loss, target_loss
from fbnet_search.recipe import OnProgress, Progress, Recipe
from fbnet_search.relaxation import gumbel_softmax, temperature_at
from fbnet_search.supernet import Supernet, probabilities
from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut, Prediction, predict_latency
from latbench.space import Architecture


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and where it is."""

    architecture: Architecture
    prediction: Prediction
    target_ms: float | None
    expected_ms: float
    lut_sha256: str
    provenance: str
    lut_target: str
    data: dict[str, str | int]
    recipe: Recipe
    seed: int
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """What `architecture.json` holds; `Architecture.from_dict` reads it."""
        return self.architecture.to_dict() | {
            "predicted_ms": self.prediction.ms,
            "predicted_low": self.prediction.low,
            "predicted_high": self.prediction.high,
            "target_ms": self.target_ms,
            "expected_ms": self.expected_ms,
            "lut_sha256": self.lut_sha256,
            "lut_target": self.lut_target,
            "provenance": self.provenance,
            "seed": self.seed,
            "data": self.data,
            "recipe": self.recipe.to_dict(),
            "macs": self.architecture.macs,
            "params": self.architecture.params,
        }


def search(
    lut: Lut | str | Path,
    data: str | ImageData,
    out: str | Path,
    *,
    epochs: int | None = None,
    seed: int = 0,
    target_ms: float | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    progress: OnProgress | None = None,
) -> SearchResult:
    """Search the LUT's space and write what is found to the folder `out`.

    Args:
        lut: a LUT or its file.
        data: `digits`, `imagefolder:PATH`, or data at the space's input size. If it has another
            number of classes than the space, the supernet's classifier has the data's and the
            predicted latency is that of the space's.
        out: gets `architecture.json` (at the end), `events.jsonl`, `tensorboard/` and, after
            every epoch, `checkpoint.pt`. An earlier search there is overwritten.
        epochs: instead of the recipe's; its schedules stretch with it.
        target_ms: what the found network's predicted latency may be at most, milliseconds.
            Without it the paper's loss trades accuracy for latency.
        recipe: instead of the one that suits the data (`Recipe.for_data`).
        resume: go on from `out`'s checkpoint, which must be of the same search.
        progress: called after every step.

    Raises:
        LutRefused, MissingOps: the LUT cannot be read, or lacks ops.
        UnknownName, BadRequest: data, recipe or checkpoint make no sense; no network is as fast as
            `target_ms` (the message names the fastest).
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    if not isinstance(lut, Lut):
        lut = Lut.load(lut)
    if target_ms is not None and not (math.isfinite(target_ms) and target_ms > 0):
        raise BadRequest(f"a target of {target_ms:g} ms makes no sense")
    name = data if isinstance(data, str) else data.name
    recipe = recipe or Recipe.for_data(name)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    latency = latency_model(lut)
    if target_ms is not None:
        require_reachable(target_ms, latency)
    images = open_data(data, lut.search_space.input_size) if isinstance(data, str) else data
    with threads(recipe.threads):
        run = _Search(lut, latency, images, recipe, seed, target_ms, Path(out))
        return run.run(resume, progress)


class _Search:
    """One search with its state: supernet, optimizers, generator, and the epoch it is at."""

    def __init__(
        self,
        lut: Lut,
        latency: LatencyModel,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        target_ms: float | None,
        out: Path,
    ) -> None:
        self.lut, self.latency, self.data, self.recipe = lut, latency, data, recipe
        self.seed, self.target_ms, self.out = seed, target_ms, out
        self.epoch = 0
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(lut.search_space, len(data.classes))
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weight_part, self.theta_part = _two_parts(data.train, recipe.weight_share, seed)
        self.weight_optimizer = torch.optim.SGD(
            self.supernet.weights(),
            lr=recipe.weight_rate,
            momentum=recipe.weight_momentum,
            weight_decay=recipe.weight_decay,
        )
        self.theta_optimizer = torch.optim.Adam(
            [self.supernet.theta], lr=recipe.theta_rate, weight_decay=recipe.theta_decay
        )
        self.weight_steps = batch_count(len(self.weight_part), recipe.batch)
        self.theta_steps = batch_count(len(self.theta_part), recipe.batch)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be of this search."""
        return {
            "lut_sha256": self.lut.content_sha256,
            "data": self.data.name,
            "training images": len(self.data.train),
            "classes": list(self.data.classes),
            "seed": self.seed,
            "target_ms": self.target_ms,
            "recipe": self.recipe.to_dict(),
        }

    def run(self, resume: bool, progress: OnProgress | None) -> SearchResult:
        checkpoint = self.out / "checkpoint.pt"
        if resume:
            self._restore(load_checkpoint(checkpoint, self.identity), checkpoint)
        log = EventLog(self.out, resume_after=self.epoch if resume else None)
        try:
            log.write(
                "resume" if resume else "start",
                epoch=self.epoch,
                target_ms=self.target_ms,
                lut_sha256=self.lut.content_sha256,
                seed=self.seed,
                recipe=self.recipe.to_dict(),
                data=self.data.to_dict(),
                fastest_ms=self.latency.fastest_ms,
                slowest_ms=self.latency.slowest_ms,
            )
            while self.epoch < self.recipe.epochs:
                self._one_epoch(log, progress)
                save_checkpoint(checkpoint, self._state())
            result = self._result()
            content = json.dumps(result.to_dict(), indent=1) + "\n"
            write_atomically(self.out / "architecture.json", content)
            log.write(
                "end",
                layers=result.architecture.notation,
                predicted_ms=result.prediction.ms,
                expected_ms=result.expected_ms,
            )
        finally:
            log.close()
        return result

    # One epoch

    def _one_epoch(self, log: EventLog, progress: OnProgress | None) -> None:
        started = time.perf_counter()
        recipe, number = self.recipe, self.epoch
        temperature = temperature_at(number, recipe.temperature, recipe.temperature_decay)
        searching = number >= recipe.warmup_epochs
        steps = self._report_steps(progress, searching)
        weight_loss, weight_accuracy = self._train_weights(temperature, steps)
        told: dict[str, Any] = {"w_loss": weight_loss, "w_accuracy": weight_accuracy}
        if searching:
            loss, cross_entropy, accuracy = self._train_theta(temperature, steps)
            told |= {
                "theta_loss": loss,
                "theta_cross_entropy": cross_entropy,
                "theta_accuracy": accuracy,
            }
        _require_finite(told, self.supernet.theta)
        chances = probabilities(self.supernet.theta)
        told["expected_ms"] = float(self.latency.of(chances))
        told["entropy"] = float(torch.special.entr(chances).sum(1).mean())
        told["temperature"] = temperature
        self.epoch += 1
        log.scalars(self.epoch, told)
        likeliest = derive_architecture(self.supernet.theta, self.latency, self.lut, self.target_ms)
        log.write(
            "epoch",
            epoch=self.epoch,
            phase="search" if searching else "warm-up",
            seconds=time.perf_counter() - started,
            layers=likeliest.notation,
            predicted_ms=predict_latency(self.lut, likeliest).ms,
            **told,
        )

    def _train_weights(self, temperature: float, steps: Iterator[None]) -> tuple[float, float]:
        """Train w for one epoch; returns mean loss and accuracy."""
        totals = _Means()
        first = self.epoch * self.weight_steps
        total = self.recipe.epochs * self.weight_steps
        self.supernet.train()
        for number, (images, labels) in enumerate(self._batches(self.weight_part)):
            for group in self.weight_optimizer.param_groups:
                group["lr"] = cosine(self.recipe.weight_rate, first + number, total)
            with torch.no_grad():
                mix = gumbel_softmax(self.supernet.theta, temperature, self.generator)
            logits = self.supernet(images, mix, self.recipe.paths)
            loss = functional.cross_entropy(logits, labels)
            self.weight_optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.weight_optimizer.step()
            totals.add(len(labels), loss, correct(logits, labels))
            next(steps)
        loss_mean, accuracy = totals.means()
        return loss_mean, accuracy

    def _train_theta(self, temperature: float, steps: Iterator[None]) -> tuple[float, float, float]:
        """Train θ for one epoch; returns mean loss, mean cross-entropy and accuracy."""
        totals = _Means()
        self.supernet.train()
        with self.supernet.frozen_weights():
            for images, labels in self._batches(self.theta_part):
                mix = gumbel_softmax(self.supernet.theta, temperature, self.generator)
                logits = self.supernet(images, mix, self.recipe.paths)
                cross_entropy = functional.cross_entropy(logits, labels)
                loss = self._search_loss(cross_entropy, mix)
                self.theta_optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.theta_optimizer.step()
                totals.add(len(labels), loss, cross_entropy, correct(logits, labels))
                next(steps)
        loss_mean, cross_entropy_mean, accuracy = totals.means()
        return loss_mean, cross_entropy_mean, accuracy

    def _search_loss(self, cross_entropy: Tensor, mix: Tensor) -> Tensor:
        if self.target_ms is None:
            latency = self.latency.of(mix)
            return paper_loss(cross_entropy, latency, self.recipe.alpha, self.recipe.beta)
        # A budget is for the network that θ will give, so what meets it is the expectation over
        # softmax(θ); that over m is drawn to the middle of the space while the temperature is high.
        latency = self.latency.of(torch.softmax(self.supernet.theta, dim=-1))
        return target_loss(cross_entropy, latency, self.target_ms, self.recipe.target_strength)

    def _batches(self, part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = part[torch.randperm(len(part), generator=self.generator)]
        return batches(
            self.data.train,
            shuffled,
            self.recipe.batch,
            generator=self.generator,
            flips=self.data.flips,
        )

    def _report_steps(self, progress: OnProgress | None, searching: bool) -> Iterator[None]:
        """Each `next` reports one step more of the whole search as done."""
        recipe, number = self.recipe, self.epoch
        per_epoch = [
            self.weight_steps + (self.theta_steps if epoch >= recipe.warmup_epochs else 0)
            for epoch in range(recipe.epochs)
        ]
        phase = "search" if searching else "warm-up"
        doing = f"epoch {number + 1} of {recipe.epochs}, {phase}"
        for done in range(sum(per_epoch[:number]) + 1, sum(per_epoch[: number + 1]) + 1):
            if progress is not None:
                progress(Progress(done, sum(per_epoch), doing))
            yield

    # State and result

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "epoch": self.epoch,
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "theta_optimizer": self.theta_optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _restore(self, state: dict[str, Any], path: Path) -> None:
        try:
            self.supernet.load_state_dict(state["supernet"])
            self.weight_optimizer.load_state_dict(state["weight_optimizer"])
            self.theta_optimizer.load_state_dict(state["theta_optimizer"])
            self.generator.set_state(state["generator"])
            self.epoch = int(state["epoch"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise LatbenchError(
                f"{path} does not hold the state of this search: {error}",
                hint="start anew, without --resume",
            ) from None

    def _result(self) -> SearchResult:
        theta = self.supernet.theta
        architecture = derive_architecture(theta, self.latency, self.lut, self.target_ms)
        return SearchResult(
            architecture=architecture,
            prediction=predict_latency(self.lut, architecture),
            target_ms=self.target_ms,
            expected_ms=float(self.latency.of(probabilities(theta))),
            lut_sha256=self.lut.content_sha256,
            provenance=self.lut.provenance,
            lut_target=str(self.lut.target),
            data=self.data.to_dict(),
            recipe=self.recipe,
            seed=self.seed,
            out=self.out,
        )


# Shared with `fbnet_search.retrain`


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within this context PyTorch computes with `count` threads; None leaves the number alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cosine(rate: float, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`, falling from `rate` to 0 along half a cosine."""
    return rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of images whose largest logit is their label's, a scalar."""
    return (logits.argmax(1) == labels).float().mean()


class _Means:
    """Means of scalars over batches of different sizes."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[float] = []

    def add(self, count: int, *values: Tensor) -> None:
        sums = self._sums or [0.0] * len(values)
        self._sums = [s + count * float(v.detach()) for s, v in zip(sums, values, strict=True)]
        self._count += count

    def means(self) -> list[float]:
        return [total / self._count for total in self._sums]


def _two_parts(train: Split, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the images that train w, and of those that train θ; disjoint."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    count = min(max(round(len(train) * share), 2), len(train) - 2)
    return order[:count], order[count:]


def _require_finite(values: dict[str, Any], theta: nn.Parameter) -> None:
    if not (all(map(math.isfinite, values.values())) and bool(theta.isfinite().all())):
        raise LatbenchError(
            "the search diverged: a loss is no longer a finite number",
            hint="search with a Recipe of a smaller weight_rate",
        )
