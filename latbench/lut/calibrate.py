"""Fit, to whole networks, how the entries of a LUT add up.

The latency y of a network is modelled as

    y = offset + sum over its ops of scale * factor * entry.ms,   factor = 1 + d,   d ~ N(0, tau^2)
               + sum over its boundaries of cost per value * values

with Gaussian noise of relative standard deviation sigma. Scale and offset have wide priors; each entry may
deviate by itself, which is the part that timing errors have in a LUT. The cost per value at a boundary
(`latbench.space.boundaries`) has a zero-mean normal prior; its standard deviation is upsilon times the
networks' latency for each value that enters an op.

This is Bayesian linear regression (Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.3).
tau, sigma and upsilon maximise, over a grid, the marginal likelihood (section 3.5) times a prior of sigma;
upsilon is 0 where boundaries cost nothing. Everything is relative to the latency, so that slow networks do
not outweigh fast ones.

With fewer than `MIN_AFFINE` networks, offset and boundary costs cannot be told from a scale, and only a
scale is fitted. One network, the sentinel, shows nothing of how networks differ; then the one disagreement
observed, |1 - scale|, is used as the unexplained part.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.lut.schema import Correction, Entry, TimedNetwork
from latbench.space.architecture import Architecture
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.opspec import OpSpec
from latbench.space.search_space import SearchSpace

#: With fewer networks, affine fits predicted worse than a scale alone.
MIN_AFFINE = 10

#: Prior standard deviations of the scale (around 1) and of the offset (relative to the mean latency): wide.
_SCALE_SD, _OFFSET_SD = 0.3, 0.1

#: The grids of tau, sigma and upsilon. No network repeats to better than a few tenths of a per cent.
_TAUS = (0.0, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.18)
_SIGMAS = (0.003, 0.004, 0.0055, 0.0075, 0.01, 0.014, 0.02, 0.03, 0.045)
_UPSILONS = (0.0, 0.1, 0.3, 1.0)

#: The log-normal prior of sigma: few networks with many free entries always leave too small a residual.
#: Two sessions on one machine disagreed about a network by 1 % (`bench/additivity.py`, floor), and ONNX
#: Runtime, whose layouts make it add up worst, errs by that much again. With a centre of 1 % and a spread of
#: 0.4, its 95 % intervals covered 82 % of networks, and 75 % later; with these values and the same trials,
#: 92 % both times.
_SIGMA, _SIGMA_SPREAD = 0.014, 0.2

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A timed whole network: its ops in order, and its latency in milliseconds at batch 1."""

    ops: tuple[OpSpec, ...]
    ms: float


def networks_of(timed: Sequence[TimedNetwork], space: SearchSpace) -> list[Network]:
    """The networks that a LUT's correction was fitted to."""
    return [
        Network(Architecture.parse(one.layers, space, head=one.head).ops, one.ms) for one in timed
    ]


def calibrate(
    entries: Mapping[str, Entry],
    timed: Sequence[TimedNetwork],
    space: SearchSpace,
    *,
    entry_factors: bool = True,
    boundary_costs: bool = True,
) -> Correction | None:
    """Return the correction fitted to `timed` networks; None if no network has all its entries.

    Args:
        entry_factors: fit a factor for each entry.
        boundary_costs: fit boundary costs. Without both, only scale and offset are fitted.
    """
    timed = [
        one
        for one, network in zip(timed, networks_of(timed, space), strict=True)
        if all(op.key in entries for op in network.ops)
    ]
    if not timed:
        return None
    networks = networks_of(timed, space)
    if len(networks) == 1:
        scale = networks[0].ms / sum(entries[op.key].ms for op in networks[0].ops)
        return Correction(
            scale=scale, residual=abs(1 - scale), networks=1, calibration=tuple(timed)
        )
    best = _best_fit(
        entries,
        networks,
        _TAUS if entry_factors else (0.0,),
        _UPSILONS if boundary_costs and len(networks) >= MIN_AFFINE else (0.0,),
    )
    return Correction(
        scale=best.scale,
        offset_ms=best.offset_ms,
        residual=best.sigma,
        networks=len(networks),
        entry_deviation=best.tau,
        factors=best.factors,
        boundary_deviation=best.upsilon,
        boundary_costs=best.boundary_costs,
        calibration=tuple(timed),
    )


@dataclass(frozen=True)
class Unknowns:
    """The unknowns, in this order: scale - 1, offset, boundary costs, a deviation for each entry.

    The offset is in units of `unit_ms`; the cost per value at a boundary is in units of `value_ms`, the
    networks' latency for each value that enters an op.
    """

    entries: Mapping[str, Entry]
    keys: tuple[str, ...]
    unit_ms: float
    value_ms: float

    @classmethod
    def of(cls, entries: Mapping[str, Entry], networks: Sequence[Network]) -> "Unknowns":
        """The unknowns of a regression on `networks`."""
        whole = sum(network.ms for network in networks)
        values = sum(math.prod(op.input_shape) for network in networks for op in network.ops)
        return cls(
            entries, tuple(sorted(entries)), _OFFSET_SD * whole / len(networks), whole / values
        )

    def row(self, ops: Sequence[OpSpec]) -> Vector:
        """The design row of a network: what one unit of each unknown contributes, milliseconds."""
        columns = {key: number for number, key in enumerate(self.keys, _FIRST_ENTRY)}
        row = np.zeros(_FIRST_ENTRY + len(columns))
        crossing = boundary_values(ops)
        row[1] = self.unit_ms
        row[2:_FIRST_ENTRY] = [self.value_ms * crossing[kind] for kind in Boundary]
        for op in ops:
            row[0] += self.entries[op.key].ms
            row[columns[op.key]] += self.entries[op.key].ms
        return row


#: The first entry among the unknowns: after scale, offset and boundary costs.
_FIRST_ENTRY = 2 + len(Boundary)


@dataclass(frozen=True)
class Fit:
    """The posterior at one tau, sigma and upsilon: mean and covariance of the unknowns."""

    unknowns: Unknowns
    tau: float
    sigma: float
    upsilon: float
    mean: Vector
    covariance: NDArray[np.float64]
    log_evidence: float

    @property
    def scale(self) -> float:
        """The factor common to all entries."""
        return float(1 + self.mean[0])

    @property
    def offset_ms(self) -> float:
        """The part of every network's latency that belongs to no op and no boundary, milliseconds."""
        return float(self.mean[1] * self.unknowns.unit_ms)

    @property
    def boundary_costs(self) -> dict[Boundary, float]:
        """The cost of a million values at each boundary, milliseconds; empty if upsilon is 0."""
        if not self.upsilon:
            return {}
        million = 1e6 * self.unknowns.value_ms * self.mean[2:_FIRST_ENTRY]
        return dict(zip(Boundary, million.tolist(), strict=True))

    @property
    def factors(self) -> dict[str, float]:
        """Each entry's factor besides the scale; factors of 1 are left out."""
        deviations = self.mean[_FIRST_ENTRY:] / self.scale
        return {
            key: float(1 + deviation)
            for key, deviation in zip(self.unknowns.keys, deviations, strict=True)
            if abs(deviation) > 1e-6
        }

    def deviation(self, ops: Sequence[OpSpec], ms: float) -> float:
        """The relative standard deviation of a network whose prediction is `ms`, noise included."""
        row = self.unknowns.row(ops) / ms
        return math.sqrt(float(row @ self.covariance @ row) + self.sigma**2)


def fit(
    entries: Mapping[str, Entry],
    networks: Sequence[Network],
    tau: float,
    sigma: float,
    upsilon: float = 0.0,
) -> Fit:
    """Return the posterior for given `tau`, `sigma` and `upsilon`."""
    unknowns = Unknowns.of(entries, networks)
    return _fit(unknowns, _rows(unknowns, networks), tau, sigma, upsilon)


def _rows(unknowns: Unknowns, networks: Sequence[Network]) -> NDArray[np.float64]:
    """The design matrix, shape (networks, unknowns), each row relative to its network's latency."""
    return np.array([unknowns.row(network.ops) / network.ms for network in networks])


def _fit(
    unknowns: Unknowns, rows: NDArray[np.float64], tau: float, sigma: float, upsilon: float
) -> Fit:
    enough = len(rows) >= MIN_AFFINE
    prior = np.full(rows.shape[1], tau**2)
    prior[0] = _SCALE_SD**2
    prior[1] = 1.0 if enough else 0.0
    prior[2:_FIRST_ENTRY] = upsilon**2 if enough else 0.0
    unexplained = 1 - rows[:, 0]
    marginal = (rows * prior) @ rows.T + sigma**2 * np.eye(len(rows))
    factor = np.linalg.cholesky(marginal)
    whitened = np.linalg.solve(factor, unexplained)
    gain = np.linalg.solve(factor, rows * prior)
    return Fit(
        unknowns,
        tau,
        sigma,
        upsilon,
        gain.T @ whitened,
        np.diag(prior) - gain.T @ gain,
        -0.5 * float(whitened @ whitened) - float(np.log(np.diag(factor)).sum()),
    )


def _best_fit(
    entries: Mapping[str, Entry],
    networks: Sequence[Network],
    taus: Sequence[float],
    upsilons: Sequence[float],
) -> Fit:
    unknowns = Unknowns.of(entries, networks)
    rows = _rows(unknowns, networks)
    grid = itertools.product(taus, _SIGMAS, upsilons)
    fits = (_fit(unknowns, rows, *one) for one in grid)
    return max(fits, key=lambda one: one.log_evidence + _log_prior(one.sigma))


def _log_prior(sigma: float) -> float:
    return -0.5 * (math.log(sigma / _SIGMA) / _SIGMA_SPREAD) ** 2
