"""The latency of a network on the targets of LUTs: predicted, and measured where a device is reachable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latbench.errors import LatbenchError
from latbench.lut import Lut, Prediction, predict_latency
from latbench.space import Architecture
from latbench.workflows.measure import Measurement
from latbench.workflows.networks import measure_networks

#: Measures networks on the device of a LUT: the measurement of each, or why it has none.
Measure = Callable[[Sequence[Architecture], Lut], Sequence[Measurement | LatbenchError]]

#: Time limit for measuring on one device, seconds: for the first network and for each other one.
_FIRST_S, _OTHER_S = 120.0, 30.0


@dataclass(frozen=True)
class Measured:
    """A measured latency, ms at batch 1, normalised to the LUT's run; [low, high] is its 95 % interval.

    `slowdown` is the factor by which the device is slower (above 1) than in that run.
    """

    ms: float
    low: float
    high: float
    slowdown: float


@dataclass(frozen=True)
class TargetLatency:
    """The latency of a network on the target of one LUT.

    `measured` is None if it was not measured; `unmeasured` says why if a measurement was requested.
    """

    target: str
    lut_sha256: str
    lut_created: str
    provenance: str
    predicted: Prediction
    measured: Measured | None = None
    unmeasured: str = ""

    @property
    def best_known(self) -> Prediction | Measured:
        """The measured latency, or else the predicted one."""
        return self.predicted if self.measured is None else self.measured

    def to_dict(self) -> dict[str, Any]:
        """The latency as JSON data; `from_dict` reads it."""
        measured = self.measured
        return {
            "target": self.target,
            "lut_sha256": self.lut_sha256,
            "lut_created": self.lut_created,
            "provenance": self.provenance,
            "predicted_ms": self.predicted.ms,
            "predicted_low": self.predicted.low,
            "predicted_high": self.predicted.high,
            "measured_ms": measured and measured.ms,
            "measured_low": measured and measured.low,
            "measured_high": measured and measured.high,
            "level": measured and measured.slowdown,
            "unmeasured": self.unmeasured,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TargetLatency":
        """Read the output of `to_dict`.

        Raises:
            KeyError, TypeError: a key is missing, or a latency is not a number.
        """
        bounds = (data["predicted_low"], data["predicted_high"])
        measured = [
            data[name] for name in ("measured_ms", "measured_low", "measured_high", "level")
        ]
        return cls(
            data["target"],
            data["lut_sha256"],
            data["lut_created"],
            data["provenance"],
            Prediction(
                _number(data["predicted_ms"]), *(None if b is None else _number(b) for b in bounds)
            ),
            None if None in measured else Measured(*map(_number, measured)),
            data["unmeasured"],
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"must be a number, got {value!r}")
    return float(value)


def predicted_on(lut: Lut, architecture: Architecture, unmeasured: str = "") -> TargetLatency:
    """Predict the latency of `architecture` on the LUT's target.

    Args:
        unmeasured: why it was not measured there.

    Raises:
        MissingOps: the LUT lacks ops of it.
    """
    return TargetLatency(
        str(lut.target),
        lut.content_sha256,
        lut.created.isoformat(),
        lut.provenance,
        predict_latency(lut, architecture),
        unmeasured=unmeasured,
    )


def measure_on_device(
    architectures: Sequence[Architecture], lut: Lut
) -> Sequence[Measurement | LatbenchError]:
    """Time `architectures`, with untrained weights, on the device of `lut`.

    Raises:
        DeviceUnavailable, RunnerFailed, ExportFailed: see `latbench.workflows.networks.measure_networks`.
    """
    budget_s = _FIRST_S + _OTHER_S * (len(architectures) - 1)
    return measure_networks(architectures, lut, budget_s=budget_s).outcomes


def latencies_on(
    lut: Lut, architectures: Sequence[Architecture], measure: Measure = measure_on_device
) -> list[TargetLatency]:
    """Predict the latencies of `architectures` on the LUT's target, and time them on its device.

    A network that failed there has the reason in `unmeasured`.

    Raises:
        MissingOps: the LUT lacks ops of one.
        LatbenchError: as `measure`.
    """
    predictions = [predicted_on(lut, architecture) for architecture in architectures]
    latencies = []
    for predicted, measured in zip(predictions, measure(architectures, lut), strict=True):
        if isinstance(measured, LatbenchError):
            latencies.append(replace(predicted, unmeasured=measured.message))
            continue
        slowdown = measured.slowdown
        low, high = (bound / slowdown for bound in measured.ci95)
        normalised = Measured(measured.ms / slowdown, low, high, slowdown)
        latencies.append(replace(predicted, measured=normalised))
    return latencies
