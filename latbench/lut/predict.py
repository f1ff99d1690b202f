"""Predict the latency of a whole network from a LUT.

A network's latency is the corrected sum of its entries (`latbench.lut.calibrate`):

    ms = offset + sum(scale * factor * entry.ms for each op) + its boundary costs

Its 95 % interval is that of the correction's posterior and of the differences between runs, multiplied by the
correction's interval factor. Where the correction was fitted to a single network, the interval combines, as
independent relative errors, the uncertainty of the entries, the drift of the sentinel during the run, and the
disagreement of that network. Without a correction, nothing is known of how ops behave next to others, and the
interval covers only the uncertainty of the sum. Of sums of an imported LUT not even that is known, since its
entries were not taken in rounds, so predictions have no interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.lut.calibrate import posterior_of
from latbench.lut.schema import Lut
from latbench.quantiles import Z975, student_quantile
from latbench.space.architecture import Architecture
from latbench.space.opspec import OpSpec


@dataclass(frozen=True)
class Prediction:
    """A predicted latency, milliseconds at batch 1; [low, high] is a 95 % interval, None if it is unknown."""

    ms: float
    low: float | None
    high: float | None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(low, high); None if the uncertainty is unknown."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def predict_latency(lut: Lut, architecture: Architecture) -> Prediction:
    """Return the predicted latency of `architecture` on the LUT's target, milliseconds at batch 1.

    Raises:
        MissingOps: the LUT has no entry for some ops; the message lists them and gives the command
            that measures them.
    """
    return predict_ops(lut, architecture.ops, f"{architecture} at {architecture.space.size}")


def predict_ops(lut: Lut, ops: Sequence[OpSpec], what: str) -> Prediction:
    """Return the predicted latency of `ops` in sequence; `what` names them in errors.

    Raises:
        MissingOps: as `predict_latency`.
    """
    lut.require(ops, what)
    ms = lut.network_ms(ops)
    correction = lut.correction
    if correction is None and lut.provenance == "imported":
        return Prediction(ms, None, None)
    if correction is not None and len(correction.calibration) > 1:
        # Only scale and offset cost a degree of freedom each: the priors hold everything else.
        quantile = student_quantile(correction.networks - 2)
        width = quantile * correction.interval_factor * prediction_deviation(lut, ops)
    else:
        width = Z975 * _uncalibrated_deviation(lut, ops)
    factor = math.exp(width)
    return Prediction(ms, ms / factor, ms * factor)


def prediction_deviation(lut: Lut, ops: Sequence[OpSpec]) -> float:
    """The relative standard deviation of a prediction, before the interval factor.

    The LUT has a correction that was fitted to two networks or more.
    """
    assert lut.correction is not None
    posterior = posterior_of(lut.entries, lut.correction, lut.search_space)
    own = posterior.deviation(ops, lut.network_ms(ops))
    return math.hypot(own, lut.correction.between_runs)


def _uncalibrated_deviation(lut: Lut, ops: Sequence[OpSpec]) -> float:
    """The relative standard deviation of a sum whose correction was not fitted to networks."""
    # The error of an op that occurs n times counts n times, in the same direction.
    counts = {op: ops.count(op) for op in dict.fromkeys(ops)}
    total = sum(count * lut[op].ms for op, count in counts.items())
    deviations = (
        count * lut[op].ms * (lut[op].relative_half_width or 0.0) / Z975
        for op, count in counts.items()
    )
    errors = [math.hypot(*deviations) / total]
    if lut.sentinel is not None:
        # The standard deviation of a uniform distribution over the range of the drift.
        errors.append(lut.sentinel.drift / math.sqrt(12))
    if lut.correction is not None:
        errors.append(lut.correction.residual)
    return math.hypot(*errors)
