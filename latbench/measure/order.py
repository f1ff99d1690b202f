"""Whether the rounds of a workload depend on their order: shifts, trends, autocorrelation.

Tests of ranks assume no distribution and are robust against outliers; few rounds can show a change only to
tests that assume that logarithms are normal. Each has a significance level of about 1 % or less. All accept
ties and constant values.

Sources: Pettitt, "A non-parametric approach to the change-point problem", Applied Statistics 28
(1979), with the continuity correction of Siegmund, "Sequential Analysis" (1985); Bartels, "The rank
version of von Neumann's ratio test for randomness", JASA 77 (1982).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latbench.quantiles import two_sided_p
from latbench.statistics import MIN_ROUNDS, block_medians

#: Significance level of a shift.
STEP_P = 0.01

#: Siegmund's correction of a continuous path's maximum for discrete steps.
_OVERSHOOT = 0.5826

#: A sudden change leaves at least this many rounds on either side; significance level of changes.
_SIDE = 2
_CHANGE_P = 0.005

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChangePoint:
    """The most probable shift of an ordered sample; see `change_point`.

    Attributes:
        index: of the first value after the shift.
        shift: the difference of the medians after and before, relative to the one before.
        p: the probability of a shift at least as clear in a sample without one.
    """

    index: int
    shift: float
    p: float


@dataclass(frozen=True)
class Autocorrelation:
    """The autocorrelation of an ordered sample; see `autocorrelation`.

    Attributes:
        lag1: the rank autocorrelation at lag 1.
        z: its distance from that of independent values, in standard deviations.
        n: the number of values.
    """

    lag1: float
    z: float
    n: int

    @property
    def effective_size(self) -> float:
        """The number of independent values with an equally precise mean: n (1 - lag1) / (1 + lag1).

        Exact for many values of an AR(1) process; at most `n`.
        """
        lag1 = max(self.lag1, 0.0)
        return max(1.0, self.n * (1 - lag1) / (1 + lag1)) if self.n else 0.0


@dataclass(frozen=True)
class Change:
    """A change of round medians during a run: what they were before and after."""

    before: float
    after: float

    def leaves(self, ci95: tuple[float, float]) -> bool:
        """Whether either is outside of an interval."""
        return min(self.before, self.after) < ci95[0] or max(self.before, self.after) > ci95[1]


def change_point(values: ArrayLike) -> ChangePoint | None:
    """The most probable shift in `values` (positive, in the order taken).

    Its `p` follows from Pettitt's statistic K = max |U(t)|, where U(t) compares the ranks of the first t
    values with those of the others:

        p = 2 exp(-2 (x + 0.5826 / sqrt(n)) ** 2),   x = K / sqrt(n ** 2 (n + 1) / 3)

    with the variance in x reduced for ties. Without Siegmund's 0.5826 this is Pettitt's own approximation,
    which is far too large for short samples (a perfect shift among 12 values has 0.03 instead of 0.002).
    With ranks, p can fall below 0.01 from 13 values on.

    More than 64 values are reduced to block medians, as in `trend`, so that a dependence between a few
    neighbours is not taken for a shift; `index` is then the start of a block.

    Returns:
        None for fewer than 4 values, or if all are equal.
    """
    data = np.asarray(values, dtype=np.float64)
    blocks, block = block_medians(data)
    n = blocks.size
    ranks, ties = _ranks(blocks)
    if n < 4 or ties <= 0:
        return None
    u = np.abs(np.cumsum(ranks - (n + 1) / 2))[:-1] * 2
    t = int(u.argmax()) + 1
    x = float(u[t - 1]) / (n * math.sqrt((n + 1) / 3 * ties))
    p = min(1.0, 2 * math.exp(-2 * (x + _OVERSHOOT / math.sqrt(n)) ** 2))
    return ChangePoint(t * block, _shift(data[: t * block], data[t * block :]), p)


def change_points(values: ArrayLike, p: float = STEP_P) -> tuple[ChangePoint, ...]:
    """The shifts in `values` (positive, in the order taken) with a probability below `p`.

    Binary segmentation: the sample is cut at its change point, then each part is searched. Each `p` is that
    of the part in which the shift was found; each `shift` compares neighbouring parts.
    """
    data = np.asarray(values, dtype=np.float64)
    found = sorted(_cuts(data, 0, p), key=lambda cut: cut.index)
    edges = [0, *(cut.index for cut in found), data.size]
    return tuple(
        replace(cut, shift=_shift(data[before : cut.index], data[cut.index : after]))
        for before, cut, after in zip(edges, found, edges[2:], strict=False)
    )


def _cuts(data: Floats, start: int, p: float) -> Iterable[ChangePoint]:
    cut = change_point(data)
    if cut is not None and cut.p < p:
        yield replace(cut, index=start + cut.index)
        yield from _cuts(data[: cut.index], start, p)
        yield from _cuts(data[cut.index :], start + cut.index, p)


def _shift(before: Floats, after: Floats) -> float:
    return float(np.median(after) / np.median(before)) - 1


def _ranks(data: Floats) -> tuple[Floats, float]:
    """The ranks of values from 1 on, equal for ties, and the share of their variance that ties leave."""
    n = data.size
    _, where, counts = np.unique(data, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    lost = float((counts.astype(np.float64) ** 3 - counts).sum())
    return ranks, (1 - lost / (n**3 - n)) if n > 1 else 0.0


def autocorrelation(values: ArrayLike) -> Autocorrelation:
    """The autocorrelation of `values` (in the order taken).

    Bartels' ratio of ranks, RVN = sum (R(i) - R(i+1)) ** 2 / sum (R(i) - mean) ** 2, has the mean 2 for
    independent values of any distribution, so `lag1` is 1 - RVN / 2 and

        z = (2 - RVN) / sqrt(4 (n - 2) (5 n ** 2 - 2 n - 9) / (5 n (n + 1) (n - 1) ** 2)).

    A trend or a shift is autocorrelation too. It is 0 for fewer than 4 values, and for equal ones.
    """
    data = np.asarray(values, dtype=np.float64)
    n = data.size
    ranks, ties = _ranks(data)
    if n < 4 or ties <= 0:
        return Autocorrelation(0.0, 0.0, n)
    ratio = float((np.diff(ranks) ** 2).sum() / ((ranks - (n + 1) / 2) ** 2).sum())
    variance = 4 * (n - 2) * (5 * n**2 - 2 * n - 9) / (5 * n * (n + 1) * (n - 1) ** 2)
    return Autocorrelation(1 - ratio / 2, (2 - ratio) / math.sqrt(variance), n)


def sudden_change(medians: ArrayLike) -> Change | None:
    """A change of few `medians` (positive, in the order taken) at one moment; None if there is none.

    At least two values are on either side of it, and the two sides have different means by Student's test
    of their logarithms, for the best of all moments and with Bonferroni's correction for their number: p <
    0.005 if rounds are normal; outliers make it larger. Unlike tests with ranks this can tell 3 rounds from
    3 others, but only if they differ by many times their noise.
    """
    data = np.asarray(medians, dtype=np.float64)
    n = data.size
    if n < 2 * _SIDE + 1:
        return None
    logs = np.log(data)
    cuts = np.arange(_SIDE, n - _SIDE + 1)
    sums, squares = np.cumsum(logs), np.cumsum(logs**2)
    first = sums[cuts - 1] / cuts
    second = (sums[-1] - sums[cuts - 1]) / (n - cuts)
    within = np.maximum(squares[-1] - cuts * first**2 - (n - cuts) * second**2, 1e-12)
    t = np.abs(second - first) / np.sqrt(within / (n - 2) * (1 / cuts + 1 / (n - cuts)))
    best = int(t.argmax())
    if two_sided_p(float(t[best]), n - 2) * cuts.size >= _CHANGE_P:
        return None
    cut = int(cuts[best])
    return Change(float(np.median(data[:cut])), float(np.median(data[cut:])))


def gradual_change(medians: ArrayLike) -> Change | None:
    """A rise or fall of few `medians` (positive, in the order taken); None if there is none.

    The slope of a straight line through their logarithms is tested by Student's test, p < 0.005; `before` and
    `after` are the ends of the line. `trend` assumes less, and needs more rounds.
    """
    data = np.asarray(medians, dtype=np.float64)
    n = data.size
    if n < MIN_ROUNDS:
        return None
    logs = np.log(data)
    x = np.arange(n) - (n - 1) / 2
    slope = float((x * logs).sum() / (x**2).sum())
    left = max(float(((logs - logs.mean() - slope * x) ** 2).sum()), 1e-12)
    t = slope / math.sqrt(left / (n - 2) / float((x**2).sum()))
    if two_sided_p(t, n - 2) >= _CHANGE_P:
        return None
    ends = np.exp(logs.mean() + slope * x[[0, -1]])
    return Change(float(ends[0]), float(ends[1]))
