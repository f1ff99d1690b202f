"""A roofline of a device nobody measured, fitted to latencies of whole networks.

An op is a sequence of parts: convolutions, and what only moves values (a residual add, a channel
shuffle, a pool). A part takes

    overhead + max(MACs / rate, bytes / bandwidth)

(Williams, Waterman and Patterson, "Roofline", CACM 52, 2009), where a part's bytes are what it reads,
writes and keeps as weights, and depthwise convolutions have a rate of their own. That leaves four
unknowns, and a handful of published latencies cannot tell them all; so each has a log-normal prior,
and the most probable values and their covariance come from Gauss-Newton steps on the logarithms
(Bishop, "Pattern Recognition and Machine Learning", 2006, sections 3.3 and 4.4). Every set of figures
has an unknown factor besides: figures of another phone, engine or number of threads tell how networks
compare, and little of how long they take.

The priors are judgement, not measurement. How far entries are off by themselves was measured where
measured LUTs exist: `ENTRY_DEVIATION`, by `python bench/estimate_error.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from latbench.space.opspec import BLOCK_KINDS, OpKind, OpSpec
from latbench.target import Precision

#: How far an entry is off by itself, the log's standard deviation.
ENTRY_DEVIATION = 0.27

#: How far a published figure is off by itself: rounding, and what its authors did not say.
FIGURE_DEVIATION = 0.05

#: What a core does of its peak in dense convolutions, and how unsure that is (the log's deviation).
_DENSE_SHARE, _DENSE_SPREAD = 0.6, 0.35
#: How fast depthwise convolutions are, relative to dense ones.
_DEPTHWISE_SHARE, _DEPTHWISE_SPREAD = 0.3, 0.5
#: Bytes a cycle of a core, between its caches and the memory.
_BYTES_PER_CYCLE, _BYTES_SPREAD = 3.0, 0.6
#: Milliseconds to get to the next part.
_OVERHEAD_MS, _OVERHEAD_SPREAD = 0.003, 0.8

_STEPS = 60

Vector = NDArray[np.float64]


class Work(IntEnum):
    """What bounds a part's arithmetic."""

    DENSE = 0
    DEPTHWISE = 1
    MOVE = 2


@dataclass(frozen=True)
class Part:
    """One convolution, or one pass over values: its multiply-adds, and the bytes it touches."""

    work: Work
    macs: int
    bytes: int


def parts_of(op: OpSpec, precision: Precision) -> tuple[Part, ...]:
    """The parts of `op` in order."""
    size = precision.bytes
    before, after = op.height * op.width, math.prod(op.output_shape[2:])

    def convolution(work: Work, weights: int, read: int, channels: int, pixels: int) -> Part:
        return Part(work, weights * pixels, size * (read + weights + channels * pixels))

    def moved(values: int) -> Part:
        return Part(Work.MOVE, 0, size * values)

    inputs, outputs = op.in_channels, op.out_channels
    if op.kind is OpKind.POOL:
        return (moved(inputs * before + outputs),)
    if op.kind not in BLOCK_KINDS:
        weights = inputs * outputs * op.kernel**2
        return (convolution(Work.DENSE, weights, inputs * before, outputs, after),)
    middle, parts = inputs * op.expansion, []
    if op.kind is OpKind.INVERTED_RESIDUAL:
        first = inputs * middle // op.groups
        parts.append(convolution(Work.DENSE, first, inputs * before, middle, before))
        if op.groups > 1:
            parts.append(moved(2 * middle * before))
    pixels = before
    for _ in range(2 if op.separable else 1):
        weights = middle * op.kernel**2
        parts.append(convolution(Work.DEPTHWISE, weights, middle * pixels, middle, after))
        pixels = after
    last = middle * outputs // op.groups
    parts.append(convolution(Work.DENSE, last, middle * after, outputs, after))
    if op.residual:
        parts.append(moved(3 * outputs * after))
    return tuple(parts)


@dataclass(frozen=True)
class Core:
    """What the priors stand on: clock in GHz, multiply-adds a cycle, and how many cores compute."""

    ghz: float
    macs_per_cycle: float
    threads: int = 1

    @property
    def peak_macs_per_ms(self) -> float:
        """The multiply-adds a millisecond that no code can pass."""
        return self.ghz * 1e6 * self.macs_per_cycle * self.threads


@dataclass(frozen=True)
class Figure:
    """What is known of whole networks: the latency of `ops`, or how it compares with `versus`.

    `value` is milliseconds, or the ratio of the latency of `ops` to that of `versus`. Figures of one
    `group` share an unknown factor, whose logarithm has the standard deviation `level_spread`; by
    itself a figure is off by `deviation`.
    """

    name: str
    ops: tuple[OpSpec, ...]
    value: float
    group: str
    level_spread: float
    versus: tuple[OpSpec, ...] = ()
    deviation: float = FIGURE_DEVIATION


@dataclass(frozen=True)
class Roofline:
    """A fitted roofline: logarithms of (dense rate, depthwise rate, bandwidth, overhead).

    Rates are MACs a millisecond, the bandwidth bytes a millisecond, the overhead milliseconds;
    `covariance` is that of the four logarithms.
    """

    precision: Precision
    logs: Vector
    covariance: NDArray[np.float64]

    @property
    def dense_macs_per_ms(self) -> float:
        """The rate of dense convolutions."""
        return math.exp(self.logs[0])

    @property
    def depthwise_macs_per_ms(self) -> float:
        """The rate of depthwise convolutions."""
        return math.exp(self.logs[1])

    @property
    def bytes_per_ms(self) -> float:
        """The bandwidth."""
        return math.exp(self.logs[2])

    @property
    def overhead_ms(self) -> float:
        """What every part takes besides its work."""
        return math.exp(self.logs[3])

    def ms(self, ops: Sequence[OpSpec]) -> float:
        """The latency of `ops` in sequence, milliseconds."""
        return _ms(_counted(ops, self.precision), self.logs)

    def deviation(self, ops: Sequence[OpSpec]) -> float:
        """The standard deviation of the logarithm of `ms`, as far as the four unknowns explain it."""
        slope = _slope(_counted(ops, self.precision), self.logs)
        return math.sqrt(max(0.0, float(slope @ self.covariance @ slope)))


def fit_roofline(core: Core, precision: Precision, figures: Sequence[Figure]) -> Roofline:
    """Return the most probable roofline of `core`, given `figures` of networks of `precision`."""
    groups = sorted({one.group for one in figures if not one.versus})
    spreads = {one.group: one.level_spread for one in figures if not one.versus}
    dense = math.log(core.peak_macs_per_ms * _DENSE_SHARE)
    prior = np.zeros(4 + len(groups))
    prior[0] = dense
    prior[1] = dense + math.log(_DEPTHWISE_SHARE)
    prior[2] = math.log(core.ghz * 1e6 * _BYTES_PER_CYCLE * core.threads)
    prior[3] = math.log(_OVERHEAD_MS)
    # The depthwise rate is unsure relative to the dense one, so the two are correlated.
    scatter = np.diag(
        [
            _DENSE_SPREAD**2,
            _DENSE_SPREAD**2 + _DEPTHWISE_SPREAD**2,
            _BYTES_SPREAD**2,
            _OVERHEAD_SPREAD**2,
            *(spreads[group] ** 2 for group in groups),
        ]
    )
    scatter[0, 1] = scatter[1, 0] = _DENSE_SPREAD**2
    precision_matrix = np.linalg.inv(scatter)
    counted = [
        (_counted(one.ops, precision), _counted(one.versus, precision) if one.versus else None)
        for one in figures
    ]
    target = np.log([one.value for one in figures])
    weights = np.array([one.deviation**-2 for one in figures])

    def evaluate(unknowns: Vector) -> tuple[Vector, NDArray[np.float64]]:
        said, rows = np.zeros(len(figures)), np.zeros((len(figures), len(unknowns)))
        for number, (one, (ops, versus)) in enumerate(zip(figures, counted, strict=True)):
            said[number] = math.log(_ms(ops, unknowns[:4]))
            rows[number, :4] = _slope(ops, unknowns[:4])
            if versus is None:
                column = 4 + groups.index(one.group)
                said[number] += unknowns[column]
                rows[number, column] = 1.0
            else:
                said[number] -= math.log(_ms(versus, unknowns[:4]))
                rows[number, :4] -= _slope(versus, unknowns[:4])
        return said, rows

    def cost(unknowns: Vector) -> float:
        said, _ = evaluate(unknowns)
        off, away = target - said, unknowns - prior
        return float(off @ (weights * off) + away @ precision_matrix @ away)

    unknowns = prior
    for _ in range(_STEPS):
        said, rows = evaluate(unknowns)
        information = precision_matrix + (rows.T * weights) @ rows
        gradient = rows.T @ (weights * (target - said))
        step = np.linalg.solve(information, gradient - precision_matrix @ (unknowns - prior))
        # `max` has kinks, over which a whole step may lead uphill.
        while cost(unknowns + step) > cost(unknowns) and np.abs(step).max() > 1e-9:
            step = step / 2
        unknowns = unknowns + step
        if np.abs(step).max() < 1e-9:
            break
    _, rows = evaluate(unknowns)
    covariance = np.linalg.inv(precision_matrix + (rows.T * weights) @ rows)
    return Roofline(precision, unknowns[:4], covariance[:4, :4])


def _counted(ops: Sequence[OpSpec], precision: Precision) -> NDArray[np.float64]:
    """The parts of `ops`, one a row: what bounds it, MACs, bytes."""
    parts = [part for op in ops for part in parts_of(op, precision)]
    return np.array([(part.work, part.macs, part.bytes) for part in parts], dtype=np.float64)


def _terms(parts: NDArray[np.float64], logs: Vector) -> tuple[Vector, Vector]:
    """(milliseconds of arithmetic, of moving bytes) of each part."""
    rates = np.exp(np.array([logs[0], logs[1], 0.0]))[parts[:, 0].astype(int)]
    return parts[:, 1] / rates, parts[:, 2] / math.exp(logs[2])


def _ms(parts: NDArray[np.float64], logs: Vector) -> float:
    computing, moving = _terms(parts, logs)
    return float(np.maximum(computing, moving).sum()) + len(parts) * math.exp(logs[3])


def _slope(parts: NDArray[np.float64], logs: Vector) -> Vector:
    """The derivative of the logarithm of `_ms` by each of the four logarithms."""
    computing, moving = _terms(parts, logs)
    bound, work = computing >= moving, parts[:, 0]
    total = _ms(parts, logs)
    return np.array(
        [
            -computing[bound & (work == Work.DENSE)].sum() / total,
            -computing[bound & (work == Work.DEPTHWISE)].sum() / total,
            -moving[~bound].sum() / total,
            len(parts) * math.exp(logs[3]) / total,
        ]
    )
