"""Verify finalists: time the networks that a search derived, and choose by what was measured.

They are timed on the device of every LUT that is reachable, all in the same rounds; what counts is the
latency on a network's slowest target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fbnet_search.latencies import (
    Measure,
    TargetLatency,
    latencies_on,
    measure_on_device,
    predicted_on,
)
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError, RunnerFailed
from latbench.lut import Lut
from latbench.space import Architecture
from latbench.workflows.target import TargetRequest, open_target

#: The errors of a device that is not reachable or not configured as in the LUT's run; others are failures.
NOT_REACHABLE = (DeviceUnavailable, RunnerFailed, BadRequest)


@dataclass(frozen=True)
class Finalist:
    """A verified network, and its latency on each LUT's target, in the order of the LUTs."""

    architecture: Architecture
    latencies: tuple[TargetLatency, ...]

    @property
    def worst_ms(self) -> float:
        """The latency on the slowest target; predicted where it was not measured."""
        return max(one.best_known.ms for one in self.latencies)

    @property
    def measured_on(self) -> int:
        """The number of devices it was measured on."""
        return sum(one.measured is not None for one in self.latencies)

    def to_dict(self) -> dict[str, Any]:
        """The finalist as JSON data."""
        return {
            "layers": self.architecture.notation,
            "worst_ms": self.worst_ms,
            "latencies": [one.to_dict() for one in self.latencies],
        }


def require_device(luts: Sequence[Lut]) -> None:
    """Check that the device of at least one of `luts` is reachable.

    Raises:
        LatbenchError: none is; the error of the first.
    """
    failures: list[LatbenchError] = []
    for lut in luts:
        try:
            opened = open_target(TargetRequest.repeat(lut.target))
        except NOT_REACHABLE as error:
            failures.append(error)
        else:
            opened.close()
            return
    raise failures[0]


def verify_finalists(
    finalists: Sequence[Architecture], luts: Sequence[Lut], measure: Measure = measure_on_device
) -> list[Finalist]:
    """Time `finalists` on the devices of `luts` that are reachable.

    Raises:
        LatbenchError: no device is reachable, or a measurement failed; as `measure`.
    """
    failures: list[LatbenchError] = []
    columns: list[list[TargetLatency]] = []  # one for each LUT
    for lut in luts:
        try:
            columns.append(latencies_on(lut, finalists, measure))
        except NOT_REACHABLE as error:
            failures.append(error)
            columns.append([predicted_on(lut, one, error.message) for one in finalists])
    if len(failures) == len(luts):
        raise failures[0]
    rows = zip(*columns, strict=True)
    return [Finalist(one, latencies) for one, latencies in zip(finalists, rows, strict=True)]


def completed(verified: Sequence[Finalist]) -> list[Finalist]:
    """The finalists measured on the largest number of devices: without those that failed on one."""
    most = max((one.measured_on for one in verified), default=0)
    return [one for one in verified if one.measured_on == most]


def best_finalist(verified: Sequence[Finalist], target_ms: float) -> Finalist:
    """The first, so the most probable, that keeps the target on every device; else the fastest.

    Finalists that failed on a device are not considered.
    """
    within = [one for one in completed(verified) if one.worst_ms <= target_ms]
    return within[0] if within else min(completed(verified), key=lambda one: one.worst_ms)
