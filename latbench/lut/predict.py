"""Predict the latency of a whole network from a LUT.

A network's latency is the corrected sum of its entries (`latbench.lut.calibrate`):

    ms = offset + sum(scale * factor * entry.ms for each op) + what its transitions take

Its 95 % interval is that of the correction's posterior. A LUT whose correction rests on a single
network adds, as independent relative errors, the entries' own uncertainty, the drift of the run they
were taken in, and the disagreement that network showed; one without a correction knows nothing of how
blocks behave in company, and its intervals say only how sure the sum is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.lut.calibrate import Fit, fit, networks_of, student_quantile
from latbench.lut.schema import Lut
from latbench.space.architecture import Architecture
from latbench.space.opspec import OpSpec

_Z95 = 1.959964  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Prediction:
    """A predicted latency, milliseconds at batch 1; [low, high] is a 95 % interval."""

    ms: float
    low: float
    high: float


def predict_latency(lut: Lut, architecture: Architecture) -> Prediction:
    """Return the predicted latency of `architecture` on the LUT's target.

    Raises:
        MissingOps: the LUT lacks ops of this architecture; the message lists them and names the
            command that measures them.
    """
    return predict_ops(lut, architecture.ops, f"{architecture} at {architecture.space.input_size}")


def predict_ops(lut: Lut, ops: Sequence[OpSpec], what: str) -> Prediction:
    """Return the predicted latency of `ops` in sequence; `what` is what errors call them.

    Raises:
        MissingOps: as `predict_latency`.
    """
    lut.require(ops, what)
    ms = lut.network_ms(ops)
    if lut.correction is not None and len(lut.correction.calibration) > 1:
        posterior = _posterior(lut)
        deviation = posterior.deviation(ops, ms)
        # Scale and offset are told by the networks alone; what else is learnt has a prior to hold it.
        width = student_quantile(lut.correction.networks - 2) * deviation
    else:
        width = _Z95 * _unlearnt_deviation(lut, ops)
    factor = math.exp(width)
    return Prediction(ms, ms / factor, ms * factor)


def _unlearnt_deviation(lut: Lut, ops: Sequence[OpSpec]) -> float:
    """The relative standard deviation of a sum whose correction was not fitted to networks."""
    # An op that occurs n times errs n times in the same direction.
    counts = {op: ops.count(op) for op in dict.fromkeys(ops)}
    total = sum(count * lut[op].ms for op, count in counts.items())
    deviations = (
        count * (lut[op].ci95[1] - lut[op].ci95[0]) / (2 * _Z95) for op, count in counts.items()
    )
    errors = [math.hypot(*deviations) / total]
    if lut.sentinel is not None:
        # Levels drift over a range; a uniform spread over it has this standard deviation.
        errors.append(lut.sentinel.drift / math.sqrt(12))
    if lut.correction is not None:
        errors.append(lut.correction.residual)
    return math.hypot(*errors)


def _posterior(lut: Lut) -> Fit:
    """The posterior that the LUT's correction is the mean of."""
    correction = lut.correction
    assert correction is not None
    networks = networks_of(correction.calibration, lut.search_space)
    return fit(
        lut.entries,
        networks,
        correction.entry_deviation,
        correction.residual,
        correction.transition_deviation,
    )
