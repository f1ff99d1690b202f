"""Learn from whole networks what sums of entries leave out.

The latency y of a network is taken to be

    y = offset + sum over its ops of scale * factor * entry.ms,   factor = 1 + d,   d ~ N(0, tau^2)

with a noise of relative standard deviation sigma. Scale and offset have wide priors; each entry may be
off by itself, which is the part that layout changes at a block's edges and timing errors have in a
LUT. It is Bayesian linear regression (Bishop, "Pattern Recognition and Machine Learning", 2006,
section 3.3); tau and sigma maximise the marginal likelihood, times a prior of sigma, over a grid
(section 3.5). Everything is in shares of the latency, so that slow networks do not outweigh fast ones.

Fewer than `MIN_AFFINE` networks cannot tell an offset from a scale, and get a scale only. One
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
from latbench.space.fbnet import SearchSpace
from latbench.space.opspec import OpSpec

#: With fewer networks, the prototype's affine fits were worse than a scale (DESIGN section 6).
MIN_AFFINE = 10

#: Prior standard deviations of scale (about 1) and offset (a share of the mean latency): wide.
_SCALE_SD, _OFFSET_SD = 0.3, 0.1

#: The grids of tau and sigma. No network is repeatable to better than a few tenths of a per cent.
_TAUS = (0.0, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.18)
_SIGMAS = (0.003, 0.004, 0.0055, 0.0075, 0.01, 0.014, 0.02, 0.03, 0.045)

#: A prior of sigma, log-normal: few networks with many free entries always leave too small a residual.
#: Two sessions on one machine disagreed about a network by 1 % (`bench/additivity.py`, floor), and what
#: adds up least (ONNX Runtime's layouts) errs by that much again. With a centre of 1 % and a spread of 0.4,
#: ONNX's 95 % intervals held 75 to 82 % of networks; with these, 92 to 98 %.
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
) -> Correction | None:
    """Return the correction that `timed` networks teach; None if no network has all its entries.

    Args:
        deviating: whether entries may be off by themselves, or scale and offset explain it all.
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
    best = _best_fit(entries, networks, _TAUS if deviating else (0.0,))
    return Correction(
        scale=best.scale,
        offset_ms=best.offset_ms,
        residual=best.sigma,
        networks=len(networks),
        entry_deviation=best.tau,
        factors=best.factors,
        calibration=tuple(timed),
    )


@dataclass(frozen=True)
class Fit:
    """The posterior of one tau and one sigma.

    The unknowns are the scale, the offset (in units of its prior) and one deviation an entry.
    """

    keys: tuple[str, ...]
    tau: float
    sigma: float
    unit_ms: float  # the offset's prior standard deviation
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
        return float(self.mean[1] * self.unit_ms)

    @property
    def factors(self) -> dict[str, float]:
        """What each entry is multiplied by besides the scale; those that say nothing left out."""
        deviations = self.mean[2:] / self.scale
        return {
            key: float(1 + deviation)
            for key, deviation in zip(self.keys, deviations, strict=True)
            if abs(deviation) > 1e-6
        }

    def deviation(self, entries: Mapping[str, Entry], ops: Sequence[OpSpec], ms: float) -> float:
        """The standard deviation of a network's prediction `ms`, relative, its noise included."""
        row = _row(self.keys, entries, ops, self.unit_ms) / ms
        return math.sqrt(float(row @ self.covariance @ row) + self.sigma**2)


def _row(
    keys: Sequence[str], entries: Mapping[str, Entry], ops: Sequence[OpSpec], unit_ms: float
) -> Vector:
    """What each unknown contributes to a network, milliseconds."""
    columns = {key: number for number, key in enumerate(keys)}
    row = np.zeros(2 + len(columns))
    row[1] = unit_ms
    for op in ops:
        row[0] += entries[op.key].ms
        row[2 + columns[op.key]] += entries[op.key].ms
    return row


def fit(entries: Mapping[str, Entry], networks: Sequence[Network], tau: float, sigma: float) -> Fit:
    """Return the posterior for given `tau` and `sigma`."""
    keys = tuple(sorted(entries))
    latencies = np.array([network.ms for network in networks])
    unit_ms = _OFFSET_SD * float(latencies.mean())
    rows = np.array([_row(keys, entries, network.ops, unit_ms) for network in networks])
    rows /= latencies[:, None]
    prior = np.full(rows.shape[1], tau**2)
    prior[0] = _SCALE_SD**2
    prior[1] = 1.0 if len(networks) >= MIN_AFFINE else 0.0
    missing = 1 - rows[:, 0]
    marginal = (rows * prior) @ rows.T + sigma**2 * np.eye(len(networks))
    factor = np.linalg.cholesky(marginal)
    whitened = np.linalg.solve(factor, missing)
    gain = np.linalg.solve(factor, rows * prior)
    return Fit(
        keys,
        tau,
        sigma,
        unit_ms,
        gain.T @ whitened,
        np.diag(prior) - gain.T @ gain,
        -0.5 * float(whitened @ whitened) - float(np.log(np.diag(factor)).sum()),
    )


def _best_fit(
    entries: Mapping[str, Entry], networks: Sequence[Network], taus: Sequence[float]
) -> Fit:
    fits = (fit(entries, networks, *pair) for pair in itertools.product(taus, _SIGMAS))
    return max(fits, key=lambda one: one.log_evidence + _log_prior(one.sigma))


def _log_prior(sigma: float) -> float:
    return -0.5 * (math.log(sigma / _SIGMA) / _SIGMA_SPREAD) ** 2


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; `degrees` of freedom below 1 count as 1."""
    from scipy.special import stdtrit  # a tenth of a second that most commands need not spend

    return float(stdtrit(max(1, degrees), 0.975))
