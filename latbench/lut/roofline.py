"""A roofline model of a device that was not measured, fitted to published latencies of whole networks.

An op is a sequence of parts: convolutions, and parts that only move values (a residual add, a channel
shuffle, a pool). The latency of a part is

    overhead + max(MACs / rate, bytes / bandwidth)

(Williams, Waterman and Patterson, "Roofline", CACM 52, 2009). A part's bytes are its input, output and
weights, and depthwise convolutions have their own rate. A handful of published latencies does not determine
these four unknowns, so each has a log-normal prior. The most probable values and their covariance are found
by non-linear least squares on the logarithms (Bishop, "Pattern Recognition and Machine Learning", 2006,
sections 3.3 and 4.4). Each group of figures also has an unknown factor: figures of another phone, runtime or
number of threads show how networks compare, but hardly how long they take.

The priors are judgement, not measurement. The deviation of single entries was measured where measured LUTs
exist: `ENTRY_DEVIATION`, by `python bench/estimate_error.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.space.opspec import OpSpec, Work
from latbench.target import Precision

#: The deviation of a single entry, as a standard deviation of the logarithm.
ENTRY_DEVIATION = 0.27

#: The deviation of a single published figure, likewise: rounding, and conditions its authors did not state.
FIGURE_DEVIATION = 0.05

#: The share of its peak that a core reaches in dense convolutions, and the prior deviation of its logarithm.
_DENSE_SHARE, _DENSE_SPREAD = 0.6, 0.35
#: The rate of depthwise convolutions relative to dense ones.
_DEPTHWISE_SHARE, _DEPTHWISE_SPREAD = 0.3, 0.5
#: Bytes a cycle of a core, between its caches and the memory.
_BYTES_PER_CYCLE, _BYTES_SPREAD = 3.0, 0.6
#: The overhead of a part, milliseconds.
_OVERHEAD_MS, _OVERHEAD_SPREAD = 0.003, 0.8

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """One part of an op: what limits its arithmetic, its multiply-accumulates, and the bytes it moves."""

    work: Work
    macs: int
    bytes: int


def parts_of(op: OpSpec, precision: Precision) -> tuple[Counted, ...]:
    """The parts of `op` in order."""
    return tuple(
        Counted(part.work, part.macs, precision.bytes * (part.read + part.weights + part.written))
        for part in op.parts
    )


@dataclass(frozen=True)
class Core:
    """A core, which sets the priors: clock in GHz, multiply-accumulates per cycle, and number of cores."""

    ghz: float
    macs_per_cycle: float
    threads: int = 1

    @property
    def peak_macs_per_ms(self) -> float:
        """The peak rate, multiply-accumulates per millisecond."""
        return self.ghz * 1e6 * self.macs_per_cycle * self.threads


@dataclass(frozen=True)
class Figure:
    """A published figure: the latency of `ops`, or its ratio to the latency of `versus`.

    `value` is in milliseconds, or the ratio. The figures of a `group` share an unknown factor; its
    logarithm has the prior standard deviation `factor_spread`. `deviation` is that of the single figure.
    """

    name: str
    ops: tuple[OpSpec, ...]
    value: float
    group: str
    factor_spread: float
    versus: tuple[OpSpec, ...] = ()
    deviation: float = FIGURE_DEVIATION


@dataclass(frozen=True)
class Roofline:
    """A fitted roofline: logarithms of (dense rate, depthwise rate, bandwidth, overhead).

    Rates are in MACs per millisecond, the bandwidth in bytes per millisecond, the overhead in milliseconds;
    `covariance`, shape (4, 4), is that of the logarithms.
    """

    precision: Precision
    logs: Vector
    covariance: NDArray[np.float64]

    @property
    def dense_macs_per_ms(self) -> float:
        """The rate of dense convolutions, MACs per millisecond."""
        return math.exp(self.logs[0])

    @property
    def depthwise_macs_per_ms(self) -> float:
        """The rate of depthwise convolutions, MACs per millisecond."""
        return math.exp(self.logs[1])

    @property
    def bytes_per_ms(self) -> float:
        """The bandwidth, bytes per millisecond."""
        return math.exp(self.logs[2])

    @property
    def overhead_ms(self) -> float:
        """The overhead of every part, milliseconds."""
        return math.exp(self.logs[3])

    def ms(self, ops: Sequence[OpSpec]) -> float:
        """The latency of `ops` in sequence, milliseconds."""
        return _ms(_counted(ops, self.precision), self.logs)

    def deviation(self, ops: Sequence[OpSpec]) -> float:
        """The standard deviation of the logarithm of `ms` due to the four unknowns."""
        slope = _slope(_counted(ops, self.precision), self.logs)
        return math.sqrt(max(0.0, float(slope @ self.covariance @ slope)))


def fit_roofline(core: Core, precision: Precision, figures: Sequence[Figure]) -> Roofline:
    """Return the most probable roofline of `core`, given `figures` of networks of `precision`."""
    from scipy.optimize import (
        least_squares,  # a third of a second that other commands need not spend
    )

    groups = sorted({one.group for one in figures if not one.versus})
    spreads = {one.group: one.factor_spread for one in figures if not one.versus}
    dense = math.log(core.peak_macs_per_ms * _DENSE_SHARE)
    prior = np.zeros(4 + len(groups))
    prior[0] = dense
    prior[1] = dense + math.log(_DEPTHWISE_SHARE)
    prior[2] = math.log(core.ghz * 1e6 * _BYTES_PER_CYCLE * core.threads)
    prior[3] = math.log(_OVERHEAD_MS)
    # The prior of the depthwise rate is relative to the dense one, so the two are correlated.
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
    whiten = np.linalg.inv(np.linalg.cholesky(scatter))  # its square is the inverse of `scatter`
    counted = [
        (_counted(one.ops, precision), _counted(one.versus, precision) if one.versus else None)
        for one in figures
    ]
    target = np.log([one.value for one in figures])
    weights = np.array([1 / one.deviation for one in figures])

    def residuals(unknowns: Vector) -> Vector:
        """Deviations of the figures and from the prior, each in its standard deviations."""
        logs = unknowns[:4]
        figured = np.zeros(len(figures))
        for number, (one, (ops, versus)) in enumerate(zip(figures, counted, strict=True)):
            level = unknowns[4 + groups.index(one.group)] if versus is None else 0.0
            other = 0.0 if versus is None else math.log(_ms(versus, logs))
            figured[number] = math.log(_ms(ops, logs)) + level - other
        return np.concatenate([(figured - target) * weights, whiten @ (unknowns - prior)])

    def jacobian(unknowns: Vector) -> NDArray[np.float64]:
        rows = np.zeros((len(figures), len(unknowns)))
        for number, (one, (ops, versus)) in enumerate(zip(figures, counted, strict=True)):
            rows[number, :4] = _slope(ops, unknowns[:4])
            if versus is None:
                rows[number, 4 + groups.index(one.group)] = 1.0
            else:
                rows[number, :4] -= _slope(versus, unknowns[:4])
        return np.concatenate([rows * weights[:, np.newaxis], whiten])

    # MINPACK's Levenberg-Marquardt; the tolerances are near the resolution of a double.
    found = least_squares(
        residuals, prior, jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    unknowns: Vector = found.x
    final = jacobian(unknowns)
    covariance = np.linalg.inv(final.T @ final)
    return Roofline(precision, unknowns[:4], covariance[:4, :4].astype(np.float64))


def _counted(ops: Sequence[OpSpec], precision: Precision) -> NDArray[np.float64]:
    """The parts of `ops`, shape (parts, 3): work, MACs, bytes."""
    parts = [part for op in ops for part in parts_of(op, precision)]
    return np.array([(part.work, part.macs, part.bytes) for part in parts], dtype=np.float64)


def _terms(parts: NDArray[np.float64], logs: Vector) -> tuple[Vector, Vector]:
    """The time each part needs for arithmetic and for moving bytes, milliseconds."""
    rates = np.exp(np.array([logs[0], logs[1], 0.0]))[parts[:, 0].astype(int)]
    return parts[:, 1] / rates, parts[:, 2] / math.exp(logs[2])


def _ms(parts: NDArray[np.float64], logs: Vector) -> float:
    computing, moving = _terms(parts, logs)
    return float(np.maximum(computing, moving).sum()) + len(parts) * math.exp(logs[3])


def _slope(parts: NDArray[np.float64], logs: Vector) -> Vector:
    """The derivative of the logarithm of `_ms` with respect to each of the four logarithms."""
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
