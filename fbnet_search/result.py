"""The result of a search, with everything that it depends on."""

import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from fbnet_search.choose.finalists import Finalist
from fbnet_search.latencies import Measured, TargetLatency
from fbnet_search.run.recipe import Recipe
from latbench._version import __version__
from latbench.lut import Prediction
from latbench.space import Architecture

_LIBRARIES = ("torch", "numpy", "scipy")


@dataclass(frozen=True)
class Limit:
    """A limit besides latency, and the found network's value."""

    limit: float
    spent: float


@dataclass(frozen=True)
class SearchResult:
    """The network that a search found.

    Latencies are in milliseconds at batch 1: `latencies` are those of the network on the targets of all
    LUTs, in the order of the LUTs; `expected_ms` is the expectation over softmax(θ). With verification,
    `finalists` are the timed networks, and `architecture` is one of them. `image_size`, pixels, is that of
    the training images; latencies are for the input of the architecture's space.
    """

    architecture: Architecture
    latencies: tuple[TargetLatency, ...]
    target_ms: float | None
    expected_ms: float
    data: dict[str, str | int]
    image_size: int
    recipe: Recipe
    seed: int
    out: Path
    limits: dict[str, Limit] = field(default_factory=dict)
    finalists: tuple[Finalist, ...] = ()

    @property
    def prediction(self) -> Prediction:
        """The predicted latency on the slowest target."""
        return max((one.predicted for one in self.latencies), key=lambda one: one.ms)

    @property
    def measured(self) -> Measured | None:
        """The largest measured latency; None if none was measured."""
        timed = (one.measured for one in self.latencies if one.measured is not None)
        return max(timed, key=lambda one: one.ms, default=None)

    @property
    def least_ms(self) -> float:
        """The lower bound of the predicted latency, which is dropped if no network reaches it."""
        return (self.target_ms or 0.0) * self.recipe.target_share

    @property
    def crosses_target(self) -> bool:
        """Whether a 95 % interval, measured or else predicted, reaches above the target, or is unknown."""
        highs = [one.best_known.high for one in self.latencies]
        return self.target_ms is not None and any(
            high is None or high > self.target_ms for high in highs
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `architecture.json`; `Architecture.from_dict` reads it."""
        predicted, measured = self.prediction, self.measured
        return self.architecture.to_dict() | {
            "predicted_ms": predicted.ms,
            "predicted_low": predicted.low,
            "predicted_high": predicted.high,
            "measured_ms": measured and measured.ms,
            "latencies": [one.to_dict() for one in self.latencies],
            "target_ms": self.target_ms,
            "crosses_target": self.crosses_target,
            "expected_ms": self.expected_ms,
            "finalists": [one.to_dict() for one in self.finalists],
            "limits": {
                kind: {"limit": one.limit, "spent": one.spent} for kind, one in self.limits.items()
            },
            "seed": self.seed,
            "data": self.data,
            "image_size": self.image_size,
            "recipe": self.recipe.to_dict(),
            "versions": versions(),
            "macs": self.architecture.macs,
            "params": self.architecture.params,
        }


def versions() -> dict[str, str]:
    """The versions of everything that the arithmetic of a search depends on."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"latbench": __version__, "python": platform.python_version(), **libraries}
