"""What a search found, where it is, and everything that it follows from."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from fbnet_search.recipe import Recipe
from fbnet_search.verify import Verified
from latbench import __version__
from latbench.lut import Lut, Prediction
from latbench.space import Architecture

_LIBRARIES = ("torch", "numpy", "scipy")


@dataclass(frozen=True)
class Limit:
    """One limit besides latency: what may be spent, and what the found network spends."""

    limit: float
    spent: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and where it is.

    Latencies are in milliseconds at batch 1; `expected_ms` is the expectation over softmax(θ). With
    `--verify`, `finalists` are the networks that were timed, and `architecture` is one of them.
    `prediction` is the first LUT's, `others` are those of further LUTs, by target.
    """

    architecture: Architecture
    prediction: Prediction
    target_ms: float | None
    expected_ms: float
    lut_sha256: str
    provenance: str
    lut_target: str
    lut_created: str
    data: dict[str, str | int]
    recipe: Recipe
    seed: int
    out: Path
    limits: dict[str, Limit] = field(default_factory=dict)
    finalists: tuple[Verified, ...] = ()
    others: dict[str, Prediction] = field(default_factory=dict)

    @property
    def least_ms(self) -> float:
        """What the prediction is at least, unless no network is between that and the target."""
        return (self.target_ms or 0.0) * self.recipe.target_share

    @property
    def crosses_target(self) -> bool:
        """Whether the 95 % interval of the prediction reaches above the target."""
        highest = max(one.high for one in (self.prediction, *self.others.values()))
        return self.target_ms is not None and highest > self.target_ms

    @property
    def slowest_ms(self) -> float:
        """The latency predicted for the target on which the network takes the longest."""
        return max(one.ms for one in (self.prediction, *self.others.values()))

    @property
    def verified(self) -> Verified | None:
        """What was measured of `architecture`, if it was."""
        timed = (one for one in self.finalists if one.architecture == self.architecture)
        return next(timed, None)

    def to_dict(self) -> dict[str, Any]:
        """What `architecture.json` holds; `Architecture.from_dict` reads it."""
        return self.architecture.to_dict() | {
            "predicted_ms": self.prediction.ms,
            "predicted_low": self.prediction.low,
            "predicted_high": self.prediction.high,
            "others": {
                target: {
                    "predicted_ms": one.ms,
                    "predicted_low": one.low,
                    "predicted_high": one.high,
                }
                for target, one in self.others.items()
            },
            "target_ms": self.target_ms,
            "crosses_target": self.crosses_target,
            "expected_ms": self.expected_ms,
            "measured_ms": None if self.verified is None else self.verified.measured,
            "finalists": [one.to_dict() for one in self.finalists],
            "limits": {
                kind: {"limit": one.limit, "spent": one.spent} for kind, one in self.limits.items()
            },
            "lut_sha256": self.lut_sha256,
            "lut_target": self.lut_target,
            "lut_created": self.lut_created,
            "provenance": self.provenance,
            "seed": self.seed,
            "data": self.data,
            "recipe": self.recipe.to_dict(),
            "versions": versions(),
            "macs": self.architecture.macs,
            "params": self.architecture.params,
        }


def front_of(results: Sequence[SearchResult]) -> list[dict[str, Any]]:
    """What `front.json` holds: the networks of several targets, as a table to plot.

    What a network is worth is told by training it (`fbnet-train` on its folder).
    """
    return [
        {
            "target_ms": one.target_ms,
            "predicted_ms": one.prediction.ms,
            "slowest_ms": one.slowest_ms,
            "macs": one.architecture.macs,
            "params": one.architecture.params,
            "layers": one.architecture.notation,
            "folder": one.out.name,
        }
        for one in results
    ]


def lut_facts(lut: Lut) -> dict[str, str]:
    """What a result says of the LUT it follows from."""
    return {
        "lut_sha256": lut.content_sha256,
        "provenance": lut.provenance,
        "lut_target": str(lut.target),
        "lut_created": lut.created.isoformat(),
    }


def versions() -> dict[str, str]:
    """The versions of everything whose arithmetic a search depends on."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"latbench": __version__, "python": platform.python_version(), **libraries}
