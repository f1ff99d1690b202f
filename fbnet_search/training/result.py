"""The result of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnet_search.latencies import TargetLatency
from fbnet_search.run.recipe import TrainRecipe
from latbench.space import Architecture


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Accuracies are from 0 to 1; `artifacts` are the exported files by runtime. `image_size`, pixels, is that
    of the training and test images, and the input of the files; `latencies` are for the input of the
    architecture's space.
    """

    architecture: Architecture
    test_accuracy: float
    train_accuracy: float
    train_loss: float
    seconds: float
    data: dict[str, str | int]
    image_size: int
    recipe: TrainRecipe
    seed: int
    out: Path
    artifacts: dict[str, Path]
    latencies: tuple[TargetLatency, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The content of `training.json`."""
        return {
            "architecture": self.architecture.to_dict(),
            "test_accuracy": self.test_accuracy,
            "train_accuracy": self.train_accuracy,
            "train_loss": self.train_loss,
            "seconds": self.seconds,
            "data": self.data,
            "image_size": self.image_size,
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "artifacts": {runtime: str(path) for runtime, path in self.artifacts.items()},
            "latencies": [one.to_dict() for one in self.latencies],
        }
