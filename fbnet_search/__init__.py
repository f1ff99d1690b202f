"""Search for FBNets with latencies from a LUT, and train what was found.

    >>> from fbnet_search import search, train                              # doctest: +SKIP
    >>> found = search("luts/host.json", "digits", "runs/digits", target_ms=1.5)  # doctest: +SKIP
    >>> train(found.architecture, "digits", "runs/digits").test_accuracy    # doctest: +SKIP

PyTorch is imported when `search` or `train` is first accessed.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fbnet_search.run.recipe import Recipe, TrainRecipe

if TYPE_CHECKING:
    from fbnet_search.engine import search
    from fbnet_search.result import SearchResult
    from fbnet_search.training.result import TrainResult
    from fbnet_search.training.retrain import train

# PyTorch's threads spin while they wait for each other. While another process used one of their cores, a
# batch norm, forward and backward, took 54 ms instead of 1.5; with sleeping threads it took 2. This must be
# set before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__all__ = ["Recipe", "SearchResult", "TrainRecipe", "TrainResult", "search", "train"]

_HOMES = {
    "search": "fbnet_search.engine",
    "SearchResult": "fbnet_search.result",
    "train": "fbnet_search.training.retrain",
    "TrainResult": "fbnet_search.training.result",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
