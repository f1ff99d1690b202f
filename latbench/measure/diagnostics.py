"""Evidence against describing a latency by one median and its interval.

`latbench.statistics` assumes that a workload's rounds are independent draws from one distribution. This
module detects where they are not: shifts, trends, autocorrelation, several modes, outliers. It counts and
names them, and removes nothing.

Tests of order use ranks, so they assume no distribution and are robust against outliers; each has a
significance level of about 1 %. All functions accept ties and constant values.

Sources: Pettitt, "A non-parametric approach to the change-point problem", Applied Statistics 28
(1979), with the continuity correction of Siegmund, "Sequential Analysis" (1985); Bartels, "The rank
version of von Neumann's ratio test for randomness", JASA 77 (1982); Ashman, Bird and Zepf,
"Detecting bimodality in astronomical datasets", Astronomical Journal 108 (1994); Kimber,
"Exploratory data analysis for possibly censored data from skewed distributions", Applied
Statistics 39 (1990); Tukey, "Exploratory Data Analysis" (1977); Rousseeuw, "Least median of
squares regression", JASA 79 (1984).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latbench.quantiles import student_quantile, two_sided_p
from latbench.statistics import MIN_ROUNDS, block_medians, median_ci95, trend

#: The warnings of `warnings_of`.
WARNINGS = (
    "autocorrelated",
    "bimodal",
    "coarse-timer",
    "few-rounds",
    "heating",
    "step",
    "trend",
)

#: Significance level of a shift.
STEP_P = 0.01

#: Critical value of the tests for a trend (two-sided, p = 0.009) and for autocorrelation (one-sided, p =
#: 0.005).
_Z = 2.6

#: Siegmund's correction of a continuous path's maximum for discrete steps.
_OVERSHOOT = 0.5826

#: A mode has at least this many values, and this share of all.
_MODE_VALUES = 4
_MODE_SHARE = 0.15

#: Outliers on one side up to this share of all are left out of the spread of the mode next to them.
_RARE = 0.05

#: Modes are searched among at most this many order statistics.
_MODE_POINTS = 64

#: Distance of the fences from the median, in distances of the quartile from the median.
_FENCE = 7.0

#: A sudden change leaves at least this many rounds on either side; significance level of changes.
_SIDE = 2
_CHANGE_P = 0.005

#: Samples rise within visits if a visit has at least this many, and they rise by this much, relative.
_RISING_SAMPLES = 4
LEAST_RISE = 0.01

#: A timer whose tick is a larger share of a sample is coarse.
_COARSE = 0.01

#: Differences of so many nanoseconds are roundings, and a tick shows in so many others.
ROUNDING_NS = 2
_TICK_STEPS = 2

Floats = NDArray[np.float64]
Rounds = Sequence[Sequence[int] | NDArray[np.int64]]


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
class Mode:
    """One mode of a sample: the median of its values, and their share of all."""

    centre: float
    share: float


@dataclass(frozen=True)
class Outliers:
    """The number of values far below and far above the rest of a sample; see `outliers`."""

    low: int
    high: int


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


def modes(values: ArrayLike) -> tuple[Mode, ...]:
    """The modes of `values`, in ascending order: one, two or three.

    The sorted sample is cut into two, and into three, such that neighbouring parts are most distinct by
    Ashman's

        D = sqrt(2) |mean(1) - mean(2)| / sqrt(variance(1) + variance(2)),

    and the parts are modes if every D exceeds sqrt(12) + 12 / sqrt(n). The halves of a uniform distribution
    have sqrt(12), more than those of the other unimodal distributions that were tried (Ashman's own D > 2 is
    for fitted components); the second term allows for chance. The rate of false alarms is about 1 % or less
    for uniform, normal, Laplace, gamma (shape 1 and up) and log-normal (sigma up to 0.5) samples of any size,
    and below 3 % for more skewed ones. Of samples with a fifth of their values in the smaller mode, 8 in 10
    are detected if the modes are 5 standard deviations apart among 100 values, or 8 among 40; among fewer
    than 12 values, hardly any.

    A mode has at least 15 % of the values, and 4. Up to 5 % beyond a fence of `outliers` count to the mode
    next to them, but not in its D. Values that a coarse clock made equal are spread over its tick, estimated
    as the smallest difference between any two, since each tick would otherwise be a mode. For single
    inferences instead of round medians, pass `within_rounds`.

    Raises:
        ValueError: there are no values.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        raise ValueError("no values have no modes")
    parts = np.split(data, _cuts_between_modes(data))
    return tuple(Mode(float(np.median(part)), part.size / data.size) for part in parts)


def _cuts_between_modes(data: Floats) -> list[int]:
    """The indices at which sorted values are cut into three modes, or two; [] if they have one."""
    values = _untied(data)
    first, last = (int(index) for index in np.searchsorted(values, _fences(values)))
    first = first if first <= _RARE * values.size else 0
    last = last if values.size - last <= _RARE * values.size else values.size
    n = last - first
    indices = first + np.rint(np.linspace(0, n - 1, min(n, _MODE_POINTS))).astype(np.intp)
    points = values[indices]
    if n < 2 * _MODE_VALUES or points[0] == points[-1]:
        return []
    points = (points - points.mean()) / (points[-1] - points[0])
    sums = np.concatenate(([0.0], np.cumsum(points)))
    squares = np.concatenate(([0.0], np.cumsum(points**2)))

    def part(start: NDArray[np.intp], stop: NDArray[np.intp]) -> tuple[Floats, Floats]:
        size = stop - start
        mean = (sums[stop] - sums[start]) / size
        rest = squares[stop] - squares[start] - size * mean**2
        return mean, np.maximum(rest, 1e-12) / (size - 1)

    def distinct(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Floats:
        return math.sqrt(2) * (second[0] - first[0]) / np.sqrt(first[1] + second[1])

    least = math.sqrt(12) + 12 / math.sqrt(n)
    for ends in _cuts_into(3, points.size), _cuts_into(2, points.size):
        if ends[0].size == 0:
            continue
        parts = [part(start, stop) for start, stop in pairwise(ends)]
        d = np.minimum.reduce([distinct(one, two) for one, two in pairwise(parts)])
        if d.max() > least:
            best = int(d.argmax())
            return [int(indices[end[best]]) for end in ends[1:-1]]
    return []


@lru_cache(maxsize=256)
def _cuts_into(parts: int, n: int) -> list[NDArray[np.intp]]:
    """The ends of the parts, for all ways to cut n values into two or three large enough parts."""
    least = max(_MODE_VALUES, math.ceil(_MODE_SHARE * n))
    inner = [np.arange(least, n - least + 1)]
    if parts == 3:
        one, two = np.meshgrid(inner[0], inner[0], indexing="ij")
        inner = [one[two - one >= least], two[two - one >= least]]
    return [np.zeros_like(inner[0]), *inner, np.full_like(inner[0], n)]


def _untied(ordered: Floats) -> Floats:
    """Sorted values, equal ones spread evenly over the smallest difference between any two."""
    _, starts, counts = np.unique(ordered, return_index=True, return_counts=True)
    if counts.size in (1, ordered.size):
        return ordered
    within = np.arange(ordered.size) - np.repeat(starts, counts)
    offsets = (within + 0.5) / np.repeat(counts, counts) - 0.5
    return ordered + offsets * _tick(ordered)


def tick_of(samples: ArrayLike) -> float | None:
    """The tick of the clock that `samples` (nanoseconds) were read from, as far as they show it.

    It is the smallest difference between any two; differences of 1 and 2 are roundings of a tick that is no
    whole number of nanoseconds. None if fewer than three different values are left, which may be two speeds.
    """
    values = np.unique(np.asarray(samples))
    steps = np.diff(values)
    steps = steps[steps > ROUNDING_NS]
    return float(steps.min()) if steps.size >= _TICK_STEPS else None


@dataclass(frozen=True)
class Change:
    """A change of round medians during a run: what they were before and after."""

    before: float
    after: float

    def leaves(self, ci95: tuple[float, float]) -> bool:
        """Whether either is outside of an interval."""
        return min(self.before, self.after) < ci95[0] or max(self.before, self.after) > ci95[1]


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


def heating(rounds: Rounds) -> float | None:
    """By how much samples rise within visits, relative; None if it may be chance, or is little.

    The mean of all rounds' `rises` is tested by Student's test, p < 0.005. Single visits show less: only a
    rise of many times their noise (`latbench.measure.taint.of_samples`).
    """
    found = rises(rounds)
    if len(found) < MIN_ROUNDS:
        return None
    mean, spread = float(np.mean(found)), float(np.std(found, ddof=1))
    if mean < LEAST_RISE:
        return None
    if mean <= student_quantile(len(found) - 1, 0.995) * spread / math.sqrt(len(found)):
        return None
    return 1 - math.exp(-mean)


def rises(rounds: Rounds) -> list[float]:
    """By how much samples rise within each round: the log of the median of its last third over its first's.

    Rounds of fewer than four samples are left out.
    """
    found = []
    for samples in rounds:
        data = np.asarray(samples, dtype=np.float64)
        if data.size >= _RISING_SAMPLES:
            third = max(2, data.size // 3)
            found.append(math.log(float(np.median(data[-third:]) / np.median(data[:third]))))
    return found


def _tick(ordered: Floats) -> float:
    """The smallest difference between two different sorted values."""
    steps = np.diff(ordered)
    return float(steps[steps > 0].min(initial=math.inf))


def outliers(values: ArrayLike) -> Outliers:
    """The number of values far below and far above the rest.

    Far is beyond 7 times the distance from the median to the quartile on the same side; for a symmetric
    distribution these are Tukey's outer fences (3 interquartile ranges beyond a quartile). Each side has its
    own distance, after Kimber, since latencies are skewed. That counts 0.0003 % of normal and 0.4 % of
    exponential values, and more in samples of 8 (0.6 % at either end of normal ones). A quartile within one
    tick (the smallest difference) of the median counts as a tick away.

    Raises:
        ValueError: there are no values.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        raise ValueError("no values have no outliers")
    low, high = _fences(data)
    return Outliers(int((data < low).sum()), int((data > high).sum()))


def _fences(ordered: Floats) -> tuple[float, float]:
    last = ordered.size - 1
    quarters = (last / 4, last / 2, 3 * last / 4)
    lower, middle, upper = np.interp(quarters, np.arange(ordered.size), ordered).tolist()
    below, above = middle - lower, upper - middle
    if min(below, above) <= 0:
        below, above = (max(side, _tick(ordered)) for side in (below, above))
    return middle - _FENCE * below, middle + _FENCE * above


def within_rounds(rounds: Rounds) -> Floats:
    """All samples of a workload's `rounds` (nanoseconds), relative to the centre of their own round.

    For `modes` and `outliers`, since rounds differ from each other. The centre is the median of the shortest
    half of the round (as in the least median of squares): for inferences of two speeds it is one of the two,
    while the median may be any value in between. Samples that a coarse clock made equal are spread over its
    tick, as in `modes`.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    return _relative(_sorted(rounds))


def _sorted(rounds: Rounds) -> list[Floats]:
    if not rounds or any(len(samples) == 0 for samples in rounds):
        raise ValueError("there must be at least one round, and samples in each")
    return [np.sort(np.asarray(samples, dtype=np.float64)) for samples in rounds]


def _median(ordered: Floats) -> float:
    """The median of sorted values, many times as fast as np.median."""
    return float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def _densest_half(ordered: Floats) -> Floats:
    """The shortest interval with half of the values; an even number, so that no single one is the centre."""
    size = min(ordered.size, 2 * math.ceil(ordered.size / 4))
    start = int((ordered[size - 1 :] - ordered[: ordered.size - size + 1]).argmin())
    return ordered[start : start + size]


def _relative(rounds: list[Floats]) -> Floats:
    """`within_rounds` of sorted rounds."""
    centres = [_median(_densest_half(samples)) for samples in rounds]
    pooled = np.concatenate(rounds)
    sizes = [samples.size for samples in rounds]
    # Equal samples of different rounds alternate, so that no round gets the lower ones.
    order = np.lexsort((np.concatenate([np.arange(size) for size in sizes]), pooled))
    return np.asarray(_untied(pooled[order]) / np.repeat(centres, sizes)[order])


def warnings_of(rounds: Rounds, tick_ns: float | None = None) -> tuple[str, ...]:
    """The warnings about the `summarise` of these rounds, sorted.

        few-rounds      fewer than `MIN_ROUNDS`: ci95 is not distribution-free
        trend           round medians rise or fall (Mann-Kendall, |z| > 2.6), or so clearly that few rounds
                        show it (`gradual_change`), to beyond their interval
        step            round medians shift once (Pettitt, p < 0.01), or so clearly that few rounds show it
                        (`sudden_change`), to beyond their interval
        heating         samples rise within visits (`heating`): inferences in a network may be faster
        coarse-timer    the timer's tick is more than 1 % of a sample
        autocorrelated  round medians are autocorrelated (Bartels, z > 2.6)
        bimodal         round medians, or samples within rounds, have several modes: ci95 covers their
                        median, but perhaps no inference takes that long

    The three tests of order show that rounds are not exchangeable: ci95 is then too narrow (by about
    sqrt(n / effective_size) if they are autocorrelated), and the change may continue. They need `MIN_ROUNDS`
    rounds, and a step needs 13; a large change may cause all three warnings. Each warning is false for at
    most about 1 % of the workloads without cause. No warning proves nothing: a weak dependence between few
    rounds is not detected (`bench/interval_coverage.py`).

    Args:
        rounds: the samples of each round in the order taken, nanoseconds.
        tick_ns: the timer's tick, nanoseconds; by default as far as these samples show it (`tick_of`).

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    ordered = _sorted(rounds)
    medians = np.array([_median(samples) for samples in ordered])
    found = []
    if len(modes(_relative(ordered))) > 1 or len(modes(medians)) > 1:
        found.append("bimodal")
    if heating(rounds) is not None:
        found.append("heating")
    tick_ns = tick_ns or tick_of(np.concatenate(ordered)) or 1.0
    if tick_ns > _COARSE * float(np.median(medians)):
        found.append("coarse-timer")
    if medians.size < MIN_ROUNDS:
        found.append("few-rounds")
    else:
        if autocorrelation(medians).z > _Z:
            found.append("autocorrelated")
        ci95 = median_ci95(medians)
        step, sudden = change_point(medians), sudden_change(medians)
        if (step is not None and step.p < STEP_P) or (sudden is not None and sudden.leaves(ci95)):
            found.append("step")
        gradual = gradual_change(medians)
        if abs(trend(medians).z) > _Z or (gradual is not None and gradual.leaves(ci95)):
            found.append("trend")
    return tuple(sorted(found))
