"""The statistics of noisy latencies.

Latencies have long right tails, and visits differ more than the samples within one. So everything here is
based on order statistics, and a visit (a round) counts as one observation, however many samples it has:

    ms    the median of the round medians
    ci95  a distribution-free 95 % interval of that median, over the round medians

From `MIN_ROUNDS` rounds on, if rounds are independent draws from one distribution, ci95 covers the median
of that distribution in 93 to 97 % of all cases, whatever its skewness, tails or modes. Only if the median is
in a gap between two distant modes of nearly equal shares, so that few rounds are near it, the coverage may
fall to 87 %. Dependence or several modes within a round have no effect. If rounds depend on each other, or
change during the run, the coverage is much lower; `latbench.measure.diagnostics.warnings_of` warns of that
as far as it can be detected. Simulated with `python bench/interval_coverage.py`.

Sources: Hettmansperger and Sheather, "Confidence intervals based on interpolated order statistics",
Statistics & Probability Letters 4 (1986); Nyblom, "Note on interpolated order statistics", Statistics &
Probability Letters 14 (1992); Mann, "Nonparametric tests against trend", Econometrica 13 (1945), with
Kendall's correction for ties; Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63
(1968).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latbench.quantiles import student_quantile

#: Fewer observations have no distribution-free 95 % interval of the median: the range of n observations
#: covers it with probability 1 - 2 ** (1 - n), which is 93.75 % for 5 and 96.9 % for 6.
MIN_ROUNDS = 6

#: Median absolute deviation times this estimates the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826

#: Tests of order use at most this many points; more samples are reduced to block medians.
_ORDERED_POINTS = 64

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Summary:
    """The statistic of one workload's rounds; see `summarise`.

    Attributes:
        ms: the latency, milliseconds.
        ci95: its 95 % interval, milliseconds.
        samples, rounds: their numbers.
        spread: the robust relative spread of single samples.
    """

    ms: float
    ci95: tuple[float, float]
    samples: int
    rounds: int
    spread: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval, milliseconds."""
        return (self.ci95[1] - self.ci95[0]) / 2

    @property
    def relative_half_width(self) -> float:
        """Half the width of the interval, relative to `ms`."""
        return (self.ci95[1] - self.ci95[0]) / (2 * self.ms)


@dataclass(frozen=True)
class Trend:
    """Whether values rise in the order they were taken; see `trend`.

    Attributes:
        z: Mann-Kendall's standardised statistic.
        rise: Theil and Sen's slope times the number of steps, relative to the median.
    """

    z: float
    rise: float


def median_of(values: ArrayLike) -> float:
    """The median of a few values: numpy.median's result in a fifth of the time."""
    ordered = np.sort(values, axis=None)
    return float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def median_ci95(values: ArrayLike) -> tuple[float, float]:
    """A 95 % confidence interval of the median of the distribution that `values` were drawn from.

    The interval [X(d), X(n-d+1)] of the sorted values covers the median with probability
    1 - 2 P(Bin(n, 1/2) < d) whatever the distribution. Coverage jumps with d, so the limits are
    interpolated between the two neighbouring d, with Hettmansperger and Sheather's weight

        lambda = (n - d) I / (d + (n - 2 d) I),   I = (gamma_d - 0.95) / (gamma_d - gamma_(d+1)),

    which hardly depends on the distribution (Nyblom extends it to other quantiles).

    Raises:
        ValueError: there are fewer than `MIN_ROUNDS` values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = ordered.size
    if n < MIN_ROUNDS:
        raise ValueError(f"{n} values have no distribution-free 95 % interval of the median")
    d, weight = _median_order(n)
    low = (1 - weight) * ordered[d - 1] + weight * ordered[d]
    high = (1 - weight) * ordered[n - d] + weight * ordered[n - d - 1]
    return float(low), float(high)


@lru_cache(maxsize=1024)
def _median_order(n: int) -> tuple[int, float]:
    """The largest d whose interval covers at least 95 %, and the weight lambda, of `median_ci95`."""
    from scipy.special import bdtr  # imported late: many commands need no statistics

    coverage = 1 - 2 * bdtr(np.arange(-1, n // 2), n, 0.5)  # of [X(d), X(n-d+1)], d from 0
    coverage[0] = 1.0
    d = int((coverage >= 0.95).sum()) - 1
    share = (coverage[d] - 0.95) / (coverage[d] - coverage[d + 1])
    return d, float((n - d) * share / (d + (n - 2 * d) * share))


def robust_spread(values: ArrayLike) -> float:
    """The robust relative spread of positive `values`: 1.4826 MAD / median."""
    data = np.asarray(values, dtype=np.float64)
    middle = float(np.median(data))
    return MAD_TO_SIGMA * float(np.median(np.abs(data - middle))) / middle


def summarise(rounds: Sequence[Sequence[int] | NDArray[np.int64]]) -> Summary:
    """The statistic of a workload's rounds.

    Args:
        rounds: the samples of each round, nanoseconds; neither it nor any round is empty.

    Returns:
        `ms` is the median of the round medians. From `MIN_ROUNDS` rounds on `ci95` is their
        `median_ci95`. For two to five rounds it is Student's interval of their logarithms, which assumes
        log-normal rounds. For a single round it is the range of its samples.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    if not rounds or any(len(samples) == 0 for samples in rounds):
        raise ValueError("a summary needs at least one round, and samples in each")
    arrays = [np.asarray(samples, dtype=np.float64) / _NS_PER_MS for samples in rounds]
    pooled = np.concatenate(arrays)
    medians = np.array([median_of(samples) for samples in arrays])
    ms = float(np.median(medians))
    if medians.size >= MIN_ROUNDS:
        low, high = median_ci95(medians)
    elif medians.size == 1:
        low, high = float(pooled.min()), float(pooled.max())
    else:
        logs = np.log(medians)
        width = student_quantile(logs.size - 1) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
        low, high = (math.exp(float(logs.mean()) + sign * width) for sign in (-1, 1))
    return Summary(
        ms=ms,
        ci95=(min(low, ms), max(high, ms)),
        samples=pooled.size,
        rounds=medians.size,
        spread=robust_spread(pooled),
    )


def block_medians(values: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """`values`, reduced to the medians of equal blocks if there are more than 64.

    Returns:
        at most 64 values, and the size of a block; an incomplete last block is left out.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size <= _ORDERED_POINTS:
        return data, 1
    block = -(-data.size // _ORDERED_POINTS)
    return np.median(data[: data.size // block * block].reshape(-1, block), axis=1), block


def trend(samples: ArrayLike) -> Trend:
    """Whether `samples` (of any unit, in the order taken) have a trend, and how large it is.

    `z` is Mann and Kendall's S over its standard deviation, corrected for ties and continuity; without a
    trend it is standard normal. Fewer than 4 samples have no trend.
    """
    data, _ = block_medians(samples)
    n = data.size
    if n < 4:
        return Trend(0.0, 0.0)
    first, second = _pairs(n)
    steps = data[second] - data[first]
    s = float(np.sign(steps).sum())
    _, ties = np.unique(data, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:
        return Trend(0.0, 0.0)
    z = (s - math.copysign(1, s)) / math.sqrt(variance) if s else 0.0
    slope = float(np.median(steps / (second - first)))
    return Trend(z, slope * (n - 1) / float(np.median(data)))


@lru_cache(maxsize=_ORDERED_POINTS)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The indices of all pairs of an earlier and a later one of n values."""
    return np.triu_indices(n, k=1)


def drift(values: Sequence[float]) -> float:
    """The drift of repeated measurements of one thing (any unit, in the order taken), relative.

    It is the range of the running medians of three consecutive values, over their median; the running
    median removes single outliers. One value has a drift of 0; two have their difference.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size >= 3:
        data = np.median(np.lib.stride_tricks.sliding_window_view(data, 3), axis=1)
    return float((data.max() - data.min()) / np.median(data))
