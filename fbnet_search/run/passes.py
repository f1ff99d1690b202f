"""What a search and a training have in common: passes over images that can stop at any step.

A `Pass` knows its order and how far it has come, so that a checkpoint can be taken after any step and
what follows is what would have followed. A step whose loss says that it led nowhere raises `Diverged`;
whoever runs the passes goes back to the last checkpoint and on at smaller rates.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fbnet_search.data.batches import Augmentation, Intake, batches, read_ahead
from fbnet_search.data.images import ImageData, Split
from latbench.errors import LatbenchError

#: A cross-entropy this many times that of guessing is of no network that still learns.
_ABSURD = 20.0


class Diverged(LatbenchError):
    """A number that must be finite is not, or a loss has left all reason; the message says which."""


class Pass:
    """One pass over the images with the numbers `order`, as far as it has come.

    `done` counts its batches; means of what their steps tell are kept over the images. `seed` is of
    the augmentation, and `intake` says how fast images came since the pass was begun or resumed.
    """

    def __init__(self, order: Tensor, seed: int) -> None:
        self.order, self.seed, self.done = order, seed, 0
        self.intake = Intake()
        self._count, self._sums = 0, list[float]()

    @classmethod
    def shuffled(cls, part: Tensor, generator: torch.Generator) -> "Pass":
        """A pass over `part` in an order, and with a seed, drawn from `generator`."""
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
        """Yield the augmented batches that are left; see `fbnet_search.data.batches`."""
        self.intake = Intake()
        left = batches(
            data.train, self.order, size, seed=self.seed, start=self.done, part=part,
            augmentation=Augmentation(crop_area, data.flips),
        )  # fmt: skip
        return read_ahead(left, self.intake, pinned)

    def tell(self, images: int, *values: Tensor) -> None:
        """A batch of so many images is done, and gave these scalars."""
        sums = self._sums or [0.0] * len(values)
        self._sums = [s + images * float(v.detach()) for s, v in zip(sums, values, strict=True)]
        self._count += images
        self.done += 1

    def means(self) -> list[float]:
        """The mean of each scalar over the images so far."""
        return [total / self._count for total in self._sums]

    def state(self) -> dict[str, Any]:
        """What `restored` reads back."""
        return {
            "order": self.order,
            "seed": self.seed,
            "done": self.done,
            "count": self._count,
            "sums": self._sums,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Pass":
        """The pass that gave `state`."""
        one = cls(state["order"], state["seed"])
        one.done, one._count, one._sums = state["done"], state["count"], list(state["sums"])
        return one


def require_sane(cross_entropy: Tensor, classes: int, when: str) -> None:
    """Make sure that a step's cross-entropy, a scalar, is one that training can go on from.

    Raises:
        Diverged: it is not finite, or 20 times that of guessing among `classes`.
    """
    value = float(cross_entropy.detach())
    if not value <= _ABSURD * math.log(classes):
        raise Diverged(f"the cross-entropy became {value:.4g} in {when}")


def require_finite(tensors: dict[str, Tensor], when: str) -> None:
    """Make sure that no number in `tensors` is infinite or none at all.

    Raises:
        Diverged: one is; the message names its tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(f"{name} holds numbers that are not finite after {when}")


def two_parts(train: Split, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the images that train w, and of those that train θ; disjoint."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    count = min(max(round(len(train) * share), 2), len(train) - 2)
    return order[:count], order[count:]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within this context PyTorch computes with `count` threads; 0 leaves the number alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
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


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the optimizer's next step be of this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
