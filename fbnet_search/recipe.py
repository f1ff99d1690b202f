"""The numbers of a search and of a training, as data.

`Recipe()` is the paper's (Wu et al., CVPR 2019, section 4.1); `Recipe.small()` is for small images
on a CPU, where a search is to end in about a minute. Both stretch to another number of epochs.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from latbench.errors import BadRequest


@dataclass(frozen=True)
class Progress:
    """How far a search or a training is: `done` of `total` steps, and what it is doing."""

    done: int
    total: int
    doing: str


#: Called after every step; it must return quickly.
OnProgress = Callable[[Progress], None]


def _require_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise BadRequest(f"{threads} threads compute nothing")


@dataclass(frozen=True)
class Recipe:
    """How a search goes.

    Every epoch trains w on `weight_share` of the training images and then θ on the others; the
    first `warmup_epochs` train only w. The temperature is `temperature` * exp(-`temperature_decay`
    * epoch). `paths` is how many candidates of a layer are computed in one step: None is all nine,
    as in the paper; n is the n with the largest Gumbel-softmax weights, in layers that can be the
    identity (see `Supernet`). `threads` is how many PyTorch computes with: None leaves it to
    PyTorch. Results depend on it, as sums are rounded in another order.

    Raises:
        BadRequest: a number makes no sense.
    """

    epochs: int = 90
    warmup_epochs: int = 10
    batch: int = 192
    weight_share: float = 0.8
    weight_rate: float = 0.1
    weight_momentum: float = 0.9
    weight_decay: float = 1e-4
    theta_rate: float = 0.01
    theta_decay: float = 5e-4
    temperature: float = 5.0
    temperature_decay: float = 0.045
    alpha: float = 0.2
    beta: float = 0.6
    target_strength: float = 1.0
    paths: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise BadRequest(
                f"{self.warmup_epochs} warm-up epochs of {self.epochs} leave none to search in"
            )
        _require_threads(self.threads)
        if self.batch < 2 or not 0 < self.weight_share < 1:
            raise BadRequest("a batch holds at least 2 images, and w and theta need some each")
        if self.paths is not None and not 2 <= self.paths <= 9:
            raise BadRequest(
                f"{self.paths} paths a layer do not make a search",
                hint="theta learns from comparing candidates: give 2 to 9",
            )

    @classmethod
    def small(cls) -> "Recipe":
        """The recipe for small images on a CPU: fewer epochs, larger θ-steps, two paths a layer.

        Two paths cost about a third of nine (ProxylessNAS, Cai et al., ICLR 2019, samples two for
        the same reason). They are noisier, hence the smaller rate for w, and a temperature that
        ends at 2.2 instead of 0.09. One thread: on tensors this small a second one gains a quarter
        on an idle machine and loses several times over on a busy one.
        """
        return cls(
            epochs=8,
            warmup_epochs=3,
            batch=64,
            weight_rate=0.03,
            theta_rate=0.2,
            temperature_decay=0.12,
            paths=2,
            threads=1,
        )

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        """The recipe that suits a data set by its name: `small` for digits, else the paper's."""
        return cls.small() if data == "digits" else cls()

    def stretched(self, epochs: int) -> "Recipe":
        """This recipe over another number of epochs: the same share of them warms up, and the
        temperature ends where it would have.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        if epochs < 1:
            raise BadRequest(f"a search of {epochs} epochs makes no sense")
        ratio = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=min(round(self.warmup_epochs * ratio), epochs - 1),
            temperature_decay=self.temperature_decay / ratio,
        )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class TrainRecipe:
    """How a found network is trained: SGD with a cosine schedule after `warmup_epochs` of rise.

    `threads` as in `Recipe`.

    Raises:
        BadRequest: a number makes no sense.
    """

    epochs: int = 120
    warmup_epochs: int = 2
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 4e-5
    label_smoothing: float = 0.1
    threads: int | None = None

    def __post_init__(self) -> None:
        _require_threads(self.threads)
        if self.epochs < 1 or self.batch < 2 or self.warmup_epochs < 0:
            raise BadRequest(f"{self.epochs} epochs in batches of {self.batch} make no training")

    @classmethod
    def small(cls) -> "TrainRecipe":
        """The recipe for small images on a CPU."""
        return cls(epochs=24, warmup_epochs=1, batch=64, threads=1)

    @classmethod
    def for_data(cls, data: str) -> "TrainRecipe":
        """The recipe that suits a data set by its name: `small` for digits."""
        return cls.small() if data == "digits" else cls()

    def stretched(self, epochs: int) -> "TrainRecipe":
        """This recipe over another number of epochs.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        return replace(self, epochs=epochs)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return asdict(self)
