"""Finalists timed on the LUT's device, and the choice among them by what was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from latbench.api import Measurement, measure_latency
from latbench.lut import Lut, Prediction, predict_latency
from latbench.space import Architecture


@dataclass(frozen=True)
class Verified:
    """A finalist: what its LUT predicts, and what it was measured to take.

    Milliseconds at batch 1. `measured` is at the level of the LUT's run, [low, high] its 95 %
    interval; `level` is how much slower (above 1) the device is now than it was then.
    """

    architecture: Architecture
    prediction: Prediction
    measured: float
    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        """The finalist as JSON data."""
        return {
            "layers": self.architecture.notation,
            "predicted_ms": self.prediction.ms,
            "measured_ms": self.measured,
            "measured_low": self.low,
            "measured_high": self.high,
            "level": self.level,
        }


def on_the_luts_device(architecture: Architecture, lut: Lut) -> Measurement:
    """Time `architecture`, with untrained weights, on the device that `lut` is of.

    Raises:
        DeviceUnavailable, RunnerFailed, ExportFailed: see `latbench.api.measure_latency`.
    """
    return measure_latency(architecture, lut.target.device, lut=lut)


def verified(
    finalists: Sequence[Architecture],
    lut: Lut,
    measure: Callable[[Architecture, Lut], Measurement] = on_the_luts_device,
) -> list[Verified]:
    """Time `finalists`, in their order.

    Raises:
        LatbenchError: as `measure`.
    """
    timed = []
    for architecture in finalists:
        measured = measure(architecture, lut)
        level = measured.anchor or 1.0
        low, high = (bound / level for bound in measured.ci95)
        prediction = predict_latency(lut, architecture)
        timed.append(Verified(architecture, prediction, measured.anchored_ms, low, high, level))
    return timed


def pick(timed: Sequence[Verified], target_ms: float) -> Verified:
    """The first, which is the most probable, that was measured within the target; else the fastest."""
    within = [one for one in timed if one.measured <= target_ms]
    return within[0] if within else min(timed, key=lambda one: one.measured)
