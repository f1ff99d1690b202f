"""Predict the latency of a whole network from a LUT.

A network's latency is the corrected sum of its entries:

    ms = offset + scale * sum(entry.ms for each op)

Its 95 % interval adds, as independent relative errors, the entries' own uncertainty, the drift of
the run they were taken in, and what the correction leaves unexplained. A LUT without a correction
knows nothing of how blocks behave in company, and its intervals say only how sure the sum is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    ms = total
    if lut.correction is not None:
        ms = lut.correction.offset_ms + lut.correction.scale * total
        errors.append(lut.correction.residual)
    factor = math.exp(_Z95 * math.hypot(*errors))
    return Prediction(ms, ms / factor, ms * factor)
