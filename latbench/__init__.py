"""Latency lookup tables for ConvNets on your own device.

The commands as functions:

    import latbench

    space = latbench.SearchSpace.named("fbnet", input_size=96)
    latbench.profile("host", space)
    lut = latbench.build_lut()
    print(latbench.predict_latency(lut, latbench.published("fbnet_b", space=space)))

Names are imported when they are first used, so `import latbench` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latbench._version import __version__ as __version__

if TYPE_CHECKING:
    from latbench.errors import LatbenchError
    from latbench.lut import Entry, Lut, Prediction, predict_latency
    from latbench.space import Architecture, OpSpec, SearchSpace, published, read_architecture
    from latbench.target import Precision, Runtime, Target
    from latbench.workflows.build_lut import build_lut
    from latbench.workflows.measure import Measurement, measure_latency
    from latbench.workflows.networks import Together, measure_networks
    from latbench.workflows.profile import profile
    from latbench.workflows.target import TargetRequest
    from latbench.workflows.validate import Validation, validate

_HOMES = {
    "latbench.workflows.build_lut": ("build_lut",),
    "latbench.workflows.measure": ("Measurement", "measure_latency"),
    "latbench.workflows.profile": ("profile",),
    "latbench.workflows.target": ("TargetRequest",),
    "latbench.errors": ("LatbenchError",),
    "latbench.lut": ("Entry", "Lut", "Prediction", "predict_latency"),
    "latbench.workflows.networks": ("Together", "measure_networks"),
    "latbench.space": ("Architecture", "OpSpec", "SearchSpace", "published", "read_architecture"),
    "latbench.workflows.validate": ("Validation", "validate"),
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
    "TargetRequest",
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
