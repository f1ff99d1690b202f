"""What a search found, where it is, and everything that it follows from."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from fbnet_search.choose.finalists import Finalist, Measured, TargetLatency
from fbnet_search.run.recipe import Recipe
from latbench._version import __version__
from latbench.files import write_atomically
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

    Latencies are in milliseconds at batch 1: `latencies` are those of the found network on the targets
    of all LUTs, in the LUTs' order, and `expected_ms` is the expectation over softmax(θ). With
    `--verify`, `finalists` are the networks that were timed, and `architecture` is one of them.
    """

    architecture: Architecture
    latencies: tuple[TargetLatency, ...]
    target_ms: float | None
    expected_ms: float
    data: dict[str, str | int]
    recipe: Recipe
    seed: int
    out: Path
    limits: dict[str, Limit] = field(default_factory=dict)
    finalists: tuple[Finalist, ...] = ()

    @property
    def prediction(self) -> Prediction:
        """What is predicted for the target on which the network takes the longest."""
        return max((one.predicted for one in self.latencies), key=lambda one: one.ms)

    @property
    def measured(self) -> Measured | None:
        """What was measured on the target on which that is the longest; None if nothing was."""
        timed = (one.measured for one in self.latencies if one.measured is not None)
        return max(timed, key=lambda one: one.ms, default=None)

    @property
    def least_ms(self) -> float:
        """What the prediction is at least, unless no network is between that and the target."""
        return (self.target_ms or 0.0) * self.recipe.target_share

    @property
    def crosses_target(self) -> bool:
        """Whether a 95 % interval reaches above the target: a measured one, else the predicted one."""
        highest = max(one.best_known.high for one in self.latencies)
        return self.target_ms is not None and highest > self.target_ms

    def to_dict(self) -> dict[str, Any]:
        """What `architecture.json` holds; `Architecture.from_dict` reads it."""
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
            "measured_ms": one.measured and one.measured.ms,
            "macs": one.architecture.macs,
            "params": one.architecture.params,
            "layers": one.architecture.notation,
            "folder": one.out.name,
        }
        for one in results
    ]


def folders_in(front: Path) -> list[Path]:
    """The folders of the networks that a `front.json` tells of; none if it is not there, or no such file."""
    try:
        rows = json.loads(front.read_text(encoding="utf-8"))
        return [front.parent / Path(row["folder"]).name for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def answers_in(out: Path) -> list[Path]:
    """The files in which a search's folder says what was found; those of a front before the front."""
    found = [folder / "architecture.json" for folder in (*folders_in(out / "front.json"), out)]
    return [*found, out / "front.html", out / "front.json"]


def write_front_page(folder: Path, luts: Sequence[Lut]) -> Path:
    """Draw the front of the search in `folder` as a page of its own, `front.html`, beside `front.json`.

    Raises:
        OutputFailed: it cannot be written.
    """
    from latbench.report.html import report_html
    from latbench.report.html.searching import search

    section = search(folder, {str(lut.target): lut for lut in luts})
    page = folder / "front.html"
    write_atomically(page, report_html(f"fbnet-search: the front in {folder.name}", (section,)))
    return page


def versions() -> dict[str, str]:
    """The versions of everything whose arithmetic a search depends on."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"latbench": __version__, "python": platform.python_version(), **libraries}
