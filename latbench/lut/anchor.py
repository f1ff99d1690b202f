"""How much slower a device runs now than in the run that a LUT was built from.

The slowdown varies between processes and days, and a single network misses it by about 1 %, depending on
where its memory lies. So up to eight of the networks that the LUT was built from, its anchors, are timed
again.

Slow moments differ, too. A lower clock slows down everything alike, but neighbours that use the shared cache
and the memory slow down what moves many bytes. So a device's state has two parts, a slowdown that all
networks share and one in proportion to the memory share of a network:

    ln(now / then) = level + memory * (memory share of the network) + noise

The second has a zero-mean normal prior, whose standard deviation is averaged over its posterior and may be
0, as in `latbench.lut.regression`. On a restless Xeon it mattered little: over 56 pairs of profiles each of
ONNX Runtime and LiteRT, the twelve networks that were no anchors were 3.12 and 3.00 % (mean) off their
predictions after the median of the anchors' slowdowns was divided out, and 3.08 and 2.91 % after both parts.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from latbench.lut.flags import traffic_of
from latbench.lut.predict import predict_latency
from latbench.lut.ratios import Noise
from latbench.lut.schema import Lut
from latbench.space.architecture import Architecture
from latbench.space.opspec import OpSpec
from latbench.wording import percent

_ANCHORS = 8

#: Fewer anchors cannot separate the two parts of a state.
_MIN_ANCHORS = 4

#: The grids of the standard deviation of `memory`, and of the noise of an anchor.
_MEMORY_SDS = (0.0, 0.0, 0.0, 0.02, 0.05, 0.12)  # half of the prior is at 0
_NOISES = (0.003, 0.006, 0.012, 0.025, 0.05)

#: The prior standard deviation of `level`: a factor of e either way.
_LEVEL_SD = 1.0

#: The largest change of a device's speed since a LUT's run, relative, at which they are compared without a
#: warning: on a machine that was 15 % slower, the relative speeds of networks differed by 3 %.
_COMPARABLE = 0.10


def warning_of(slowdown: float) -> str | None:
    """What to say if a device that is slower by this factor is too far from the LUT's run; otherwise None."""
    level = slowdown - 1
    if abs(level) <= _COMPARABLE:
        return None
    word = "slower" if level > 0 else "faster"
    return f"the device is {percent(abs(level), 0)} {word} than in the LUT's run, too far to compare well"


@dataclass(frozen=True)
class Anchor:
    """A network to time again, and its latency in the LUT's run, milliseconds."""

    architecture: Architecture
    ms: float


@dataclass(frozen=True)
class DeviceState:
    """The state of a device relative to that in a LUT's run.

    Attributes:
        lut: the LUT.
        slowdowns: what each anchor shows (above 1 is slower).
        level, memory: the two parts, as logarithms.
        deviation: the relative standard deviation of an anchor from them.
    """

    lut: Lut
    slowdowns: tuple[float, ...]
    level: float
    memory: float
    deviation: float

    @property
    def slowdown(self) -> float:
        """The median of what the anchors show."""
        return statistics.median(self.slowdowns)

    def slowdown_of(self, ops: Sequence[OpSpec]) -> float:
        """The slowdown of a network of `ops`."""
        return math.exp(self.level + self.memory * _memory_share(self.lut, ops))


def anchors_of(lut: Lut) -> tuple[Anchor, ...]:
    """The anchors of `lut`, its sentinel first; none if it has no sentinel.

    A calibrated LUT's prediction for a network it was fitted to varies less than that network's measurement.
    """
    if lut.sentinel is None:
        return ()
    space, sentinel = lut.search_space, lut.sentinel
    timed = lut.correction.calibration if lut.correction is not None else ()
    if len(timed) < 2:
        network = Architecture.parse(sentinel.architecture, space, head=sentinel.head)
        return (Anchor(network, sentinel.ms),)
    distinct = dict.fromkeys(
        [(sentinel.architecture, sentinel.head), *((one.layers, one.head) for one in timed)]
    )
    networks = [
        Architecture.parse(layers, space, head=head) for layers, head in list(distinct)[:_ANCHORS]
    ]
    return tuple(Anchor(network, predict_latency(lut, network).ms) for network in networks)


def state_of(lut: Lut, anchors: Sequence[Anchor], latencies: Iterable[float]) -> DeviceState:
    """The state that `anchors` of `lut`, at least one, show by their `latencies` now (milliseconds)."""
    slowdowns = tuple(now / anchor.ms for anchor, now in zip(anchors, latencies, strict=True))
    logs = np.log(slowdowns)
    if logs.size < _MIN_ANCHORS:
        return DeviceState(lut, slowdowns, float(np.median(logs)), 0.0, 0.0)
    shares = np.array([_memory_share(lut, anchor.architecture.ops) for anchor in anchors])
    design = np.column_stack([np.ones(logs.size), shares])
    evidences, means = [], []
    for sd, noise in itertools.product(_MEMORY_SDS, _NOISES):
        prior = np.diag([_LEVEL_SD**2, sd**2])
        shared = design @ prior
        factor = np.linalg.cholesky(shared @ design.T + noise**2 * np.eye(logs.size))
        whitened = np.linalg.solve(factor, logs)
        means.append(np.linalg.solve(factor, shared).T @ whitened)
        evidences.append(-0.5 * float(whitened @ whitened) - float(np.log(np.diag(factor)).sum()))
    weights = np.exp(np.array(evidences) - max(evidences))
    level, memory = (weights / weights.sum()) @ np.array(means)
    left = logs - design @ np.array([level, memory])
    return DeviceState(lut, slowdowns, float(level), float(memory), float(left.std(ddof=2)))


def _memory_share(lut: Lut, ops: Sequence[OpSpec]) -> float:
    """How far a network of `ops` follows the speed of the memory: the mean over its latency."""
    noise, precision = Noise(), lut.target.precision
    times = [lut.corrected_ms(op) for op in ops]
    shares = [noise.sensitivity(traffic_of(op, precision)) for op in ops]
    return math.fsum(map(math.prod, zip(times, shares, strict=True))) / math.fsum(times)
