"""What a training gave."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnet_search.choose.finalists import TargetLatency
from fbnet_search.run.recipe import TrainRecipe
from latbench.space import Architecture


@dataclass(frozen=True)
class TrainResult:
    """What a training gave. Accuracies are shares from 0 to 1; `artifacts` are by runtime."""

    architecture: Architecture
    test_accuracy: float
    train_accuracy: float
    train_loss: float
    seconds: float
    data: dict[str, str | int]
    recipe: TrainRecipe
    seed: int
    out: Path
    artifacts: dict[str, Path]
    latencies: tuple[TargetLatency, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What `training.json` holds."""
        return {
            "architecture": self.architecture.to_dict(),
            "test_accuracy": self.test_accuracy,
            "train_accuracy": self.train_accuracy,
            "train_loss": self.train_loss,
            "seconds": self.seconds,
            "data": self.data,
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "artifacts": {runtime: str(path) for runtime, path in self.artifacts.items()},
            "latencies": [one.to_dict() for one in self.latencies],
        }
