"""What a few noisy visits say about a latency.

Latencies have long right tails and visits differ more than the samples inside one, so everything
here is built on order statistics, and a visit (a round) counts as one observation however many
samples it holds:

    ms    the median of the round medians
    ci95  a distribution-free 95 % interval of that median, over the round medians

From `MIN_ROUNDS` rounds on, and if rounds are independent draws of one distribution, ci95 covers
the median of that distribution in 93 to 97 % of all cases, however skewed it is and whatever tails
or modes it has. Only where the median falls into a gap between two far modes of nearly equal
shares, so that hardly any round is near it, may it cover no more than 87 %. What happens inside a
round does not matter: its samples may depend on each other or have several modes. Where rounds
depend on each other, or their level moves, ci95 covers far less, and
`latbench.measure.diagnostics.warnings_of` says so as far as it can be seen. Simulated:
`python bench/interval_coverage.py`.

Sources: Hettmansperger and Sheather, "Confidence intervals based on interpolated order
statistics", Statistics & Probability Letters 4 (1986); Nyblom, "Note on interpolated order
statistics", Statistics & Probability Letters 14 (1992); Mann, "Nonparametric tests against trend",
Econometrica 13 (1945), with Kendall's correction for ties; Sen, "Estimates of the regression
coefficient based on Kendall's tau", JASA 63 (1968).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Fewer observations have no distribution-free 95 % interval of the median: the range of n covers
#: it with probability 1 - 2 ** (1 - n), which is 93.75 % at 5 and 96.9 % at 6.
MIN_ROUNDS = 6

#: Makes the median absolute deviation estimate the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826

#: Order is judged on at most this many points; more samples are reduced to block medians.
_ORDERED_POINTS = 64

#: 97.5 % quantiles of Student's t with 1 to 4 degrees of freedom.
_T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Summary:
    """The statistic of one workload's rounds; see `summarise`.

    `ms` and `ci95` are milliseconds; `samples` and `rounds` are counts; `spread` is the robust
    relative spread of single samples.
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

    `z` is Mann-Kendall's standardised statistic, `rise` Theil and Sen's slope times the number of
    steps, relative to the median.
    """

    z: float
    rise: float


def median_ci95(values: ArrayLike) -> tuple[float, float]:
    """Return a 95 % confidence interval of the median of what `values` were drawn from.

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
    d, wider, narrower = 0, 1.0, 1.0  # narrower is the coverage at d, wider at d - 1
    while narrower >= 0.95:
        wider, narrower = narrower, narrower - 2 * _binomial_half(n, d)
        d += 1
    d -= 1
    share = (wider - 0.95) / (wider - narrower)
    weight = (n - d) * share / (d + (n - 2 * d) * share)
    low = (1 - weight) * ordered[d - 1] + weight * ordered[d]
    high = (1 - weight) * ordered[n - d] + weight * ordered[n - d - 1]
    return float(low), float(high)


def _binomial_half(n: int, k: int) -> float:
    """P(Bin(n, 1/2) = k), in logarithms so that no n overflows."""
    log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_choose - n * math.log(2))


def robust_spread(values: ArrayLike) -> float:
    """Return the robust relative spread of positive `values`: 1.4826 MAD / median."""
    data = np.asarray(values, dtype=np.float64)
    middle = float(np.median(data))
    return MAD_TO_SIGMA * float(np.median(np.abs(data - middle))) / middle


def summarise(rounds: Sequence[Sequence[int] | NDArray[np.int64]]) -> Summary:
    """Summarise a workload's rounds.

    Args:
        rounds: the samples of each round, nanoseconds; neither it nor any round is empty.

    Returns:
        `ms` is the median of the round medians. `ci95` is `median_ci95` of them from `MIN_ROUNDS`
        rounds on. Two to five rounds have no such interval: theirs is Student's, on the logarithms
        (so that it stays positive), and leans on log-normal rounds. A single round says nothing of
        how rounds differ; its `ci95` is the range of its samples.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    if not rounds or any(len(samples) == 0 for samples in rounds):
        raise ValueError("a summary needs at least one round, and samples in each")
    arrays = [np.asarray(samples, dtype=np.float64) / _NS_PER_MS for samples in rounds]
    pooled = np.concatenate(arrays)
    medians = np.array([np.median(samples) for samples in arrays])
    ms = float(np.median(medians))
    if medians.size >= MIN_ROUNDS:
        low, high = median_ci95(medians)
    elif medians.size == 1:
        low, high = float(pooled.min()), float(pooled.max())
    else:
        logs = np.log(medians)
        width = _T975[logs.size - 1] * float(logs.std(ddof=1)) / math.sqrt(logs.size)
        low, high = (math.exp(float(logs.mean()) + sign * width) for sign in (-1, 1))
    return Summary(
        ms=ms,
        ci95=(min(low, ms), max(high, ms)),
        samples=pooled.size,
        rounds=medians.size,
        spread=robust_spread(pooled),
    )


def block_medians(values: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Return `values`, reduced to the medians of equal blocks where they are more than 64.

    Returns:
        at most 64 values, and how many of the original ones each stands for; what does not fill
        the last block is left out.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size <= _ORDERED_POINTS:
        return data, 1
    block = -(-data.size // _ORDERED_POINTS)
    return np.median(data[: data.size // block * block].reshape(-1, block), axis=1), block


def trend(samples: ArrayLike) -> Trend:
    """Return whether `samples` (of any unit, in the order taken) trend, and by how much.

    `z` is Mann and Kendall's S over its standard deviation, corrected for ties and continuity; it
    is standard normal where there is no trend. Fewer than 4 samples have no trend.
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
    """All pairs of an earlier and a later one of n values."""
    return np.triu_indices(n, k=1)


def drift(levels: Sequence[float]) -> float:
    """Return how far repeated measurements of one thing wandered, relative to their median.

    A level is the median of three consecutive `levels` (a running median: a single bad visit is
    noise, not drift); drift is the highest less the lowest. One visit has drifted by 0; two have
    drifted by their difference.
    """
    data = np.asarray(levels, dtype=np.float64)
    if data.size >= 3:
        data = np.median(np.lib.stride_tricks.sliding_window_view(data, 3), axis=1)
    return float((data.max() - data.min()) / np.median(data))
