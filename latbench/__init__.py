"""Latency lookup tables for ConvNets on your own device.

What the command line does, in five lines of Python:

    import latbench

    space = latbench.SearchSpace.named("fbnet", input_size=96)
    latbench.profile("host", space)
    lut = latbench.build_lut()
    print(latbench.predict_latency(lut, latbench.published("fbnet_b", space=space)))

Names are imported when they are first used, so that `import latbench` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from latbench.api import Measurement, build_lut, measure_latency, profile
    from latbench.errors import LatbenchError
    from latbench.lut import Entry, Lut, Prediction, predict_latency
    from latbench.networks import Together, measure_networks
    from latbench.space import Architecture, OpSpec, SearchSpace, published, read_architecture
    from latbench.target import Precision, Runtime, Target
    from latbench.validation import Validation, validate

_HOMES = {
    "latbench.api": ("Measurement", "build_lut", "measure_latency", "profile"),
    "latbench.errors": ("LatbenchError",),
    "latbench.lut": ("Entry", "Lut", "Prediction", "predict_latency"),
    "latbench.networks": ("Together", "measure_networks"),
    "latbench.space": ("Architecture", "OpSpec", "SearchSpace", "published", "read_architecture"),
    "latbench.validation": ("Validation", "validate"),
    "latbench.target": ("Precision", "Runtime", "Target"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Architecture",
    "Entry",
    "LatbenchError",
    "Lut",
    "Measurement",
    "OpSpec",
    "Precision",
    "Prediction",
    "Runtime",
    "SearchSpace",
    "Target",
    "Together",
    "Validation",
    "build_lut",
    "measure_latency",
    "measure_networks",
    "predict_latency",
    "profile",
    "published",
    "read_architecture",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'latbench' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
