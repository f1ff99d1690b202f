"""Learn from whole networks what sums of entries leave out.

The latency y of a network is taken to be

    y = offset + sum over its ops of scale * factor * entry.ms,   factor = 1 + d,   d ~ N(0, tau^2)
               + sum over its transitions of what a value takes there * values

with a noise of relative standard deviation sigma. Scale and offset have wide priors; each entry may be
off by itself, which is the part that timing errors have in a LUT. What a value takes at a transition
(`latbench.space.boundaries`) besides what entries hold is normal about nothing; its standard deviation
upsilon is a share of what the networks take for each value that goes into an op.

It is Bayesian linear regression (Bishop, "Pattern Recognition and Machine Learning", 2006,
section 3.3); tau, sigma and upsilon maximise the marginal likelihood, times a prior of sigma, over a grid
(section 3.5). Where layouts do not change that is an upsilon of nothing. Everything is in shares of
the latency, so that slow networks do not outweigh fast ones.

Fewer than `MIN_AFFINE` networks cannot tell an offset or transitions from a scale, and get a scale only. One
network, the sentinel, tells nothing of how far others disagree: the one disagreement that was seen,
|1 - scale|, is then taken for the unexplained part.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.lut.schema import Correction, Entry, TimedNetwork
from latbench.space.architecture import Architecture
from latbench.space.boundaries import Transition, transitions
from latbench.space.opspec import OpSpec
from latbench.space.search_space import SearchSpace

#: With fewer networks, the prototype's affine fits were worse than a scale (DESIGN section 6).
MIN_AFFINE = 10

#: Prior standard deviations of scale (about 1) and offset (a share of the mean latency): wide.
_SCALE_SD, _OFFSET_SD = 0.3, 0.1

#: The grids of tau, sigma and upsilon. No network is repeatable to better than a few tenths of a per cent.
_TAUS = (0.0, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.18)
_SIGMAS = (0.003, 0.004, 0.0055, 0.0075, 0.01, 0.014, 0.02, 0.03, 0.045)
_UPSILONS = (0.0, 0.1, 0.3, 1.0)

#: A prior of sigma, log-normal: few networks with many free entries always leave too small a residual.
#: Two sessions on one machine disagreed about a network by 1 % (`bench/additivity.py`, floor), and what
#: adds up least (ONNX Runtime's layouts) errs by that much again. With a centre of 1 % and a spread of 0.4,
#: ONNX's 95 % intervals held 82 % of networks, and 75 % later; with these, of the same trials, 92 % twice.
_SIGMA, _SIGMA_SPREAD = 0.014, 0.2

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A whole network that was timed: its ops in order, and its latency in milliseconds."""

    ops: tuple[OpSpec, ...]
    ms: float


def networks_of(timed: Sequence[TimedNetwork], space: SearchSpace) -> list[Network]:
    """The networks that a LUT's correction was learnt from."""
    return [
        Network(Architecture.parse(one.layers, space, head=one.head).ops, one.ms) for one in timed
    ]


def calibrate(
    entries: Mapping[str, Entry],
    timed: Sequence[TimedNetwork],
    space: SearchSpace,
    *,
    deviating: bool = True,
    passing: bool = True,
) -> Correction | None:
    """Return the correction that `timed` networks teach; None if no network has all its entries.

    Args:
        deviating: whether entries may be off by themselves.
        passing: whether transitions may take time. Without either, scale and offset explain it all.
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
        _TAUS if deviating else (0.0,),
        _UPSILONS if passing and len(networks) >= MIN_AFFINE else (0.0,),
    )
    return Correction(
        scale=best.scale,
        offset_ms=best.offset_ms,
        residual=best.sigma,
        networks=len(networks),
        entry_deviation=best.tau,
        factors=best.factors,
        transition_deviation=best.upsilon,
        transitions=best.transitions,
        calibration=tuple(timed),
    )


@dataclass(frozen=True)
class Unknowns:
    """What is to be learnt: the scale, the offset, what transitions take, and one deviation an entry.

    The offset is in units of `unit_ms`, and what transitions take in units of `value_ms`, which is
    what the networks take for each value that goes into an op.
    """

    entries: Mapping[str, Entry]
    keys: tuple[str, ...]
    unit_ms: float
    value_ms: float

    @classmethod
    def of(cls, entries: Mapping[str, Entry], networks: Sequence[Network]) -> "Unknowns":
        """Those of networks that are to be learnt from."""
        whole = sum(network.ms for network in networks)
        values = sum(math.prod(op.input_shape) for network in networks for op in network.ops)
        return cls(
            entries, tuple(sorted(entries)), _OFFSET_SD * whole / len(networks), whole / values
        )

    def row(self, ops: Sequence[OpSpec]) -> Vector:
        """What each unknown contributes to a network, milliseconds."""
        columns = {key: number for number, key in enumerate(self.keys, _FIRST_ENTRY)}
        row = np.zeros(_FIRST_ENTRY + len(columns))
        made = transitions(ops)
        row[1] = self.unit_ms
        row[2:_FIRST_ENTRY] = [self.value_ms * made[kind] for kind in Transition]
        for op in ops:
            row[0] += self.entries[op.key].ms
            row[columns[op.key]] += self.entries[op.key].ms
        return row


#: Of the unknowns: after scale, offset and transitions.
_FIRST_ENTRY = 2 + len(Transition)


@dataclass(frozen=True)
class Fit:
    """The posterior of one tau, sigma and upsilon: mean and covariance of the unknowns."""

    unknowns: Unknowns
    tau: float
    sigma: float
    upsilon: float
    mean: Vector
    covariance: NDArray[np.float64]
    log_evidence: float

    @property
    def scale(self) -> float:
        """What every entry is multiplied by."""
        return float(1 + self.mean[0])

    @property
    def offset_ms(self) -> float:
        """What every network takes besides its ops."""
        return float(self.mean[1] * self.unknowns.unit_ms)

    @property
    def transitions(self) -> dict[Transition, float]:
        """What a million values take at each transition, ms; empty if upsilon is 0."""
        if not self.upsilon:
            return {}
        million = 1e6 * self.unknowns.value_ms * self.mean[2:_FIRST_ENTRY]
        return dict(zip(Transition, million.tolist(), strict=True))

    @property
    def factors(self) -> dict[str, float]:
        """What each entry is multiplied by besides the scale; those that say nothing left out."""
        deviations = self.mean[_FIRST_ENTRY:] / self.scale
        return {
            key: float(1 + deviation)
            for key, deviation in zip(self.unknowns.keys, deviations, strict=True)
            if abs(deviation) > 1e-6
        }

    def deviation(self, ops: Sequence[OpSpec], ms: float) -> float:
        """The standard deviation of a network's prediction `ms`, relative, its noise included."""
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
    """What each unknown contributes to each network, in shares of its latency."""
    return np.array([unknowns.row(network.ops) / network.ms for network in networks])


def _fit(
    unknowns: Unknowns, rows: NDArray[np.float64], tau: float, sigma: float, upsilon: float
) -> Fit:
    enough = len(rows) >= MIN_AFFINE
    prior = np.full(rows.shape[1], tau**2)
    prior[0] = _SCALE_SD**2
    prior[1] = 1.0 if enough else 0.0
    prior[2:_FIRST_ENTRY] = upsilon**2 if enough else 0.0
    missing = 1 - rows[:, 0]
    marginal = (rows * prior) @ rows.T + sigma**2 * np.eye(len(rows))
    factor = np.linalg.cholesky(marginal)
    whitened = np.linalg.solve(factor, missing)
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


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; `degrees` of freedom below 1 count as 1."""
    from scipy.special import stdtrit  # a tenth of a second that most commands need not spend

    return float(stdtrit(max(1, degrees), 0.975))
