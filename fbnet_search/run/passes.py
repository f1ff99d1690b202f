"""Passes over the training images that can stop at any step, and what their steps share.

A `Pass` holds its order and its position, so a checkpoint can be taken after any step and a resumed pass
continues identically. A step whose loss shows divergence raises `Diverged`; `fbnet_search.run.epochs`
then goes back to the last checkpoint and continues at smaller learning rates.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fbnet_search.data.batches import Augmentation, InputStats, batches, read_ahead
from fbnet_search.data.images import ImageData, Split
from latbench.errors import LatbenchError

#: A cross-entropy this many times that of guessing means that the training diverged.
_DIVERGED = 20.0


class Diverged(LatbenchError):
    """A value is not finite, or a loss is out of range; the message says which."""


class Pass:
    """One pass over the images with the numbers `order`, and its position.

    `done` counts finished batches, over whose images the means of the metrics are kept. `seed` is that of
    the augmentation; `input_stats` covers the time since the pass was begun or resumed.
    """

    def __init__(self, order: Tensor, seed: int) -> None:
        self.order, self.seed, self.done = order, seed, 0
        self.input_stats = InputStats()
        self._count, self._sums = 0, list[float]()

    @classmethod
    def shuffled(cls, part: Tensor, generator: torch.Generator) -> "Pass":
        """A pass over `part` with order and seed drawn from `generator`."""
        order = part[torch.randperm(len(part), generator=generator)]
        return cls(order, int(torch.randint(2**62, (1,), generator=generator)))

    def batches(
        self,
        data: ImageData,
        size: int,
        crop_area: float,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the remaining batches, augmented; see `fbnet_search.data.batches`."""
        self.input_stats = InputStats()
        left = batches(
            data.train, self.order, size, seed=self.seed, start=self.done, part=part,
            augmentation=Augmentation(crop_area, data.flips),
        )  # fmt: skip
        return read_ahead(left, self.input_stats, pinned)

    def record(self, images: int, *values: Tensor) -> None:
        """Count a finished batch of that many images, with its metrics, scalars."""
        sums = self._sums or [0.0] * len(values)
        self._sums = [s + images * float(v.detach()) for s, v in zip(sums, values, strict=True)]
        self._count += images
        self.done += 1

    def means(self) -> list[float]:
        """The mean of each metric over the images so far."""
        return [total / self._count for total in self._sums]

    def state(self) -> dict[str, Any]:
        """The state that `restored` takes."""
        return {
            "order": self.order,
            "seed": self.seed,
            "done": self.done,
            "count": self._count,
            "sums": self._sums,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Pass":
        """The pass whose `state` this is."""
        one = cls(state["order"], state["seed"])
        one.done, one._count, one._sums = state["done"], state["count"], list(state["sums"])
        return one


def require_sane(cross_entropy: Tensor, classes: int, when: str) -> None:
    """Check a step's cross-entropy, a scalar.

    Raises:
        Diverged: it is not finite, or more than 20 times that of guessing among `classes`, log(classes).
    """
    value = float(cross_entropy.detach())
    if not value <= _DIVERGED * math.log(classes):
        raise Diverged(f"the cross-entropy became {value:.4g} in {when}")


def require_finite(tensors: dict[str, Tensor], when: str) -> None:
    """Check that all values in `tensors` are finite.

    Raises:
        Diverged: a value is not; the message names its tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(f"{name} has values that are not finite after {when}")


def two_parts(train: Split, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of the images that train w, a `share`, and of those that train θ; disjoint."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    count = min(max(round(len(train) * share), 2), len(train) - 2)
    return order[:count], order[count:]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads within this context; 0 leaves the number unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cosine(rate: float, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps` under cosine decay from `rate` to 0."""
    return rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the accuracy, a scalar from 0 to 1."""
    return (logits.argmax(1) == labels).float().mean()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the optimizer's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
