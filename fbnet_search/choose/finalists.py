"""What a network takes on the targets of LUTs: predicted, and measured where the device is at hand.

A search's finalists are timed on every device that can be reached, all in the same rounds, and the choice
among them is by what was measured on the target where each takes the longest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError, RunnerFailed
from latbench.lut import Lut, Prediction, predict_latency
from latbench.space import Architecture
from latbench.workflows.measure import Measurement
from latbench.workflows.networks import measure_networks
from latbench.workflows.target import TargetRequest, open_target

#: What says that a device is not at hand, or not as the LUT's run had it; anything else is a failure.
NOT_AT_HAND = (DeviceUnavailable, RunnerFailed, BadRequest)

#: What each network took on the LUT's device, or why it has no measurement.
Measure = Callable[[Sequence[Architecture], Lut], Sequence[Measurement | LatbenchError]]

#: Seconds that the first network and each other one may take on one device, at most.
_FIRST_S, _OTHER_S = 120.0, 30.0


@dataclass(frozen=True)
class Measured:
    """A measured latency, ms at batch 1 and at the level of the LUT's run; [low, high] is its 95 % interval.

    `level` is how much slower (above 1) the device is now than it was in that run.
    """

    ms: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class TargetLatency:
    """What a network takes on the target of one LUT.

    `measured` is None where it was not measured, and `unmeasured` says why, if it was asked for.
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
        """What was measured, else what was predicted."""
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
            "level": measured and measured.level,
            "unmeasured": self.unmeasured,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TargetLatency":
        """The latency that `to_dict` gave.

        Raises:
            KeyError: it was not `to_dict` that gave it.
        """
        measured = [
            data[name] for name in ("measured_ms", "measured_low", "measured_high", "level")
        ]
        return cls(
            data["target"],
            data["lut_sha256"],
            data["lut_created"],
            data["provenance"],
            Prediction(data["predicted_ms"], data["predicted_low"], data["predicted_high"]),
            None if None in measured else Measured(*measured),
            data["unmeasured"],
        )


@dataclass(frozen=True)
class Finalist:
    """A network that was timed, and its latency on each LUT's target, in the LUTs' order."""

    architecture: Architecture
    latencies: tuple[TargetLatency, ...]

    @property
    def worst_ms(self) -> float:
        """The latency where it takes the longest; the predicted one where none was measured."""
        return max(one.best_known.ms for one in self.latencies)

    @property
    def measured_on(self) -> int:
        """On how many devices it was measured."""
        return sum(one.measured is not None for one in self.latencies)

    def to_dict(self) -> dict[str, Any]:
        """The finalist as JSON data."""
        return {
            "layers": self.architecture.notation,
            "worst_ms": self.worst_ms,
            "latencies": [one.to_dict() for one in self.latencies],
        }


def predicted_on(lut: Lut, architecture: Architecture, unmeasured: str = "") -> TargetLatency:
    """What `architecture` is predicted to take on the LUT's target.

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


def on_the_luts_device(
    architectures: Sequence[Architecture], lut: Lut
) -> Sequence[Measurement | LatbenchError]:
    """Time `architectures`, with untrained weights, on the device that `lut` is of.

    Raises:
        DeviceUnavailable, RunnerFailed, ExportFailed: see `latbench.workflows.networks.measure_networks`.
    """
    budget_s = _FIRST_S + _OTHER_S * (len(architectures) - 1)
    return measure_networks(architectures, lut, budget_s=budget_s).outcomes


def latencies_on(
    lut: Lut, architectures: Sequence[Architecture], measure: Measure = on_the_luts_device
) -> list[TargetLatency]:
    """Predict the latencies of `architectures` on the LUT's target, and time them there.

    One that failed there is told as unmeasured, with the reason.

    Raises:
        MissingOps: the LUT lacks ops of one.
        LatbenchError: as `measure`.
    """
    told = [predicted_on(lut, architecture) for architecture in architectures]
    latencies = []
    for one, measured in zip(told, measure(architectures, lut), strict=True):
        if isinstance(measured, LatbenchError):
            latencies.append(replace(one, unmeasured=measured.message))
            continue
        level = measured.level
        low, high = (bound / level for bound in measured.ci95)
        latencies.append(replace(one, measured=Measured(measured.ms / level, low, high, level)))
    return latencies


def require_at_hand(luts: Sequence[Lut]) -> None:
    """Make sure that finalists can be timed on the device of one of `luts` at least.

    Raises:
        LatbenchError: they can on none; the message is that of the first.
    """
    failures: list[LatbenchError] = []
    for lut in luts:
        try:
            opened = open_target(TargetRequest.repeat(lut.target))
        except NOT_AT_HAND as error:
            failures.append(error)
        else:
            opened.close()
            return
    raise failures[0]


def verified(
    finalists: Sequence[Architecture], luts: Sequence[Lut], measure: Measure = on_the_luts_device
) -> list[Finalist]:
    """Time `finalists` on the devices of `luts` that are at hand.

    Raises:
        LatbenchError: they could be timed on no device, or something else failed; as `measure`.
    """
    failures: list[LatbenchError] = []
    columns: list[list[TargetLatency]] = []  # one for each LUT
    for lut in luts:
        try:
            columns.append(latencies_on(lut, finalists, measure))
        except NOT_AT_HAND as error:
            failures.append(error)
            columns.append([predicted_on(lut, one, error.message) for one in finalists])
    if len(failures) == len(luts):
        raise failures[0]
    rows = zip(*columns, strict=True)
    return [Finalist(one, latencies) for one, latencies in zip(finalists, rows, strict=True)]


def ran(timed: Sequence[Finalist]) -> list[Finalist]:
    """Those that were measured on as many devices as any: not those that failed where others ran."""
    most = max((one.measured_on for one in timed), default=0)
    return [one for one in timed if one.measured_on == most]


def pick(timed: Sequence[Finalist], target_ms: float) -> Finalist:
    """The first that ran and keeps the target everywhere, which is the most probable; else the fastest.

    The fastest is the one that ran and whose worst latency is the least.
    """
    within = [one for one in ran(timed) if one.worst_ms <= target_ms]
    return within[0] if within else min(ran(timed), key=lambda one: one.worst_ms)
