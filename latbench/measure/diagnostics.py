"""What speaks against describing a latency by one median and its interval.

`latbench.statistics` takes a workload's rounds for independent draws of one distribution.
Here is what shows where they are not: levels that shift, rise or linger, samples with more than
one mode, samples that lie far out. Everything is counted or named, and nothing is removed.

Tests of order work on ranks, so no distribution is assumed and no outlier leads them astray; each
is told apart from chance at about 1 %. Every function takes ties and constant values.

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

from latbench.statistics import MIN_ROUNDS, block_medians, trend

#: What `warnings_of` may say.
WARNINGS = ("autocorrelated", "bimodal", "few-rounds", "step", "trend")

#: A level shift is told from chance at this probability.
STEP_P = 0.01

#: So is a trend of rounds, on both sides, and, on the one that matters, their autocorrelation.
_Z = 2.6

#: Siegmund's correction of a continuous path's maximum for being seen at discrete steps only.
_OVERSHOOT = 0.5826

#: No mode has fewer values, nor a smaller share of all.
_MODE_VALUES = 4
_MODE_SHARE = 0.15

#: Outliers on one side that are no more than this share of all must not blur the mode next to them.
_RARE = 0.05

#: Modes are looked for among this many order statistics at most.
_MODE_POINTS = 64

#: Fences stand this many semi-quartile distances from the median.
_FENCE = 7.0

Floats = NDArray[np.float64]
Rounds = Sequence[Sequence[int] | NDArray[np.int64]]


@dataclass(frozen=True)
class ChangePoint:
    """The most probable level shift of an ordered sample; see `change_point`.

    `index` is the first value of the new level, `shift` how much higher the median is from there
    on, relative to the median before, `p` how probable so clear a shift is where there is none.
    """

    index: int
    shift: float
    p: float


@dataclass(frozen=True)
class Autocorrelation:
    """How much the neighbours in an ordered sample resemble each other; see `autocorrelation`.

    `lag1` is the rank autocorrelation at lag 1, `z` how many standard deviations it lies above
    that of independent values, `n` the number of values.
    """

    lag1: float
    z: float
    n: int

    @property
    def effective_size(self) -> float:
        """How many independent values say as much of the level: n (1 - lag1) / (1 + lag1).

        Exact for the mean of many values whose autocorrelation falls geometrically (AR(1)); never
        more than `n`.
        """
        lag1 = max(self.lag1, 0.0)
        return max(1.0, self.n * (1 - lag1) / (1 + lag1)) if self.n else 0.0


@dataclass(frozen=True)
class Mode:
    """One of the values that a sample gathers around: their median, and their share of all."""

    centre: float
    share: float


@dataclass(frozen=True)
class Outliers:
    """How many values of a sample lie far below and far above the rest; see `outliers`."""

    low: int
    high: int


def change_point(values: ArrayLike) -> ChangePoint | None:
    """Return the most probable level shift in `values` (positive, in the order taken).

    Whether it is one, its `p` says: Pettitt's statistic K = max |U(t)|, where U(t) compares the
    ranks of the first t values with those of the others, has

        p = 2 exp(-2 (x + 0.5826 / sqrt(n)) ** 2),   x = K / sqrt(n ** 2 (n + 1) / 3)

    with the variance in x reduced for ties. Without Siegmund's 0.5826 this is Pettitt's own
    approximation, which is far too large for short samples (a perfect shift among 12 has 0.03
    instead of 0.002). Ranks alone say little of few values: p falls below 0.01 from 13 on.

    More than 64 values are reduced to block medians, as in `trend`, so that a dependence of a few
    neighbours is not taken for a shift; `index` is then the beginning of a block.

    Returns:
        None where there are fewer than 4 values, or all are equal.
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
    """Return the level shifts in `values` (positive, in the order taken) that reach `p`.

    Binary segmentation: the sample is cut at its change point, then each part is searched. Every
    `p` is that of the part it was found in; every `shift` lies between neighbouring levels.
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
    """The ranks of values from 1 on, ties sharing theirs, and what ties leave of their variance."""
    n = data.size
    _, where, counts = np.unique(data, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    lost = float((counts.astype(np.float64) ** 3 - counts).sum())
    return ranks, (1 - lost / (n**3 - n)) if n > 1 else 0.0


def autocorrelation(values: ArrayLike) -> Autocorrelation:
    """Return how much neighbours in `values` (in the order taken) resemble each other.

    Bartels' ratio of ranks, RVN = sum (R(i) - R(i+1)) ** 2 / sum (R(i) - mean) ** 2, is 2 on
    average over independent values whatever their distribution, so `lag1` is 1 - RVN / 2 and

        z = (2 - RVN) / sqrt(4 (n - 2) (5 n ** 2 - 2 n - 9) / (5 n (n + 1) (n - 1) ** 2)).

    A lasting trend or shift is autocorrelation too. Fewer than 4 values, or equal ones, have none.
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
    """Return the values that `values` gather around, in ascending order: one, two or three.

    The sorted sample is cut in two, and in three, wherever that makes neighbouring parts most
    distinct by Ashman's

        D = sqrt(2) |mean(1) - mean(2)| / sqrt(variance(1) + variance(2)),

    and the parts are modes if every D exceeds sqrt(12) + 12 / sqrt(n). The halves of a uniform
    distribution have sqrt(12), more than those of the other unimodal ones tried (so Ashman's own
    D > 2, meant for fitted components, would not do); the rest allows for chance. False alarms are
    about 1 % or fewer for uniform, normal, Laplace, gamma (shape 1 and up), log-normal (sigma up to
    0.5) samples of any size, under 3 % for more skewed ones. Of samples with a fifth of the values in
    the smaller mode, about 8 in 10 are seen through where modes are 5 standard deviations apart
    among 100 values, or 8 among 40; among fewer than 12 values, hardly any.

    A mode holds about 15 % of the values, and 4, at least. Up to 5 % beyond a fence of `outliers`
    count to the mode next to them, but not in its D, lest they blur it. Values that a coarse clock
    made equal are spread over its tick, taken to be the smallest difference between any two, lest
    each tick be a mode. To look at single inferences, not at round medians, pass `within_rounds`.

    Raises:
        ValueError: there are no values.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        raise ValueError("no values have no modes")
    parts = np.split(data, _cuts_between_modes(data))
    return tuple(Mode(float(np.median(part)), part.size / data.size) for part in parts)


def _cuts_between_modes(data: Floats) -> list[int]:
    """Where to cut sorted values into three modes, or else into two; [] if they have only one."""
    values = _untied(data)
    first, last = (int(place) for place in np.searchsorted(values, _fences(values)))
    first = first if first <= _RARE * values.size else 0
    last = last if values.size - last <= _RARE * values.size else values.size
    n = last - first
    places = first + np.rint(np.linspace(0, n - 1, min(n, _MODE_POINTS))).astype(np.intp)
    points = values[places]
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
            return [int(places[end[best]]) for end in ends[1:-1]]
    return []


@lru_cache(maxsize=256)
def _cuts_into(parts: int, n: int) -> list[NDArray[np.intp]]:
    """The ends of all ways to cut n values in two or three parts that are large enough."""
    least = max(_MODE_VALUES, math.ceil(_MODE_SHARE * n))
    inner = [np.arange(least, n - least + 1)]
    if parts == 3:
        one, two = np.meshgrid(inner[0], inner[0], indexing="ij")
        inner = [one[two - one >= least], two[two - one >= least]]
    return [np.zeros_like(inner[0]), *inner, np.full_like(inner[0], n)]


def _untied(ordered: Floats) -> Floats:
    """Sorted values with equal ones spread evenly over the smallest difference between any."""
    _, starts, counts = np.unique(ordered, return_index=True, return_counts=True)
    if counts.size in (1, ordered.size):
        return ordered
    within = np.arange(ordered.size) - np.repeat(starts, counts)
    offsets = (within + 0.5) / np.repeat(counts, counts) - 0.5
    return ordered + offsets * _tick(ordered)


def _tick(ordered: Floats) -> float:
    """The smallest difference between any two sorted values that differ."""
    steps = np.diff(ordered)
    return float(steps[steps > 0].min(initial=math.inf))


def outliers(values: ArrayLike) -> Outliers:
    """Count the values that lie far below and far above the rest. None is removed.

    Far is beyond 7 times the distance from the median to the quartile on the same side, which for
    a symmetric distribution are Tukey's outer fences (3 interquartile ranges beyond a quartile).
    Each side has its own distance, after Kimber, since latencies are skewed. That counts 0.0003 %
    of normal and 0.4 % of exponential values, more of samples of 8 (0.6 % at either end of normal
    ones). A quartile no further than a tick, the smallest difference, counts as a tick away.

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
    """Return all samples of a workload's `rounds` (ns), each relative to its own round's centre.

    What `modes` and `outliers` are to look at, since levels differ between rounds. The centre is
    the median of the densest half of the round (its shortest half, as in the least median of
    squares): among inferences of two speeds it is one of the two, where the median may be any
    value between. Samples that a coarse clock made equal are spread over its tick, as in `modes`.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    return _relative(_sorted(rounds))


def _sorted(rounds: Rounds) -> list[Floats]:
    if not rounds or any(len(samples) == 0 for samples in rounds):
        raise ValueError("there must be at least one round, and samples in each")
    return [np.sort(np.asarray(samples, dtype=np.float64)) for samples in rounds]


def _median(ordered: Floats) -> float:
    """The median of sorted values; np.median takes many times as long."""
    return float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def _densest_half(ordered: Floats) -> Floats:
    """The shortest run of half the values, an even number of them, lest one be the centre."""
    size = min(ordered.size, 2 * math.ceil(ordered.size / 4))
    start = int((ordered[size - 1 :] - ordered[: ordered.size - size + 1]).argmin())
    return ordered[start : start + size]


def _relative(rounds: list[Floats]) -> Floats:
    """`within_rounds` of sorted rounds."""
    centres = [_median(_densest_half(samples)) for samples in rounds]
    pooled = np.concatenate(rounds)
    sizes = [samples.size for samples in rounds]
    # Equal samples of different rounds take turns, so that no round gets the lower ones.
    order = np.lexsort((np.concatenate([np.arange(size) for size in sizes]), pooled))
    return np.asarray(_untied(pooled[order]) / np.repeat(centres, sizes)[order])


def warnings_of(rounds: Rounds) -> tuple[str, ...]:
    """Return what speaks against the `summarise` of these rounds, sorted; () if nothing does.

        few-rounds      fewer than `MIN_ROUNDS`: ci95 is not distribution-free
        trend           round medians rise or fall (Mann-Kendall, |z| > 2.6)
        step            their level shifts once (Pettitt, p < 0.01)
        autocorrelated  neighbouring ones resemble each other (Bartels, z > 2.6)
        bimodal         they, or the samples inside the rounds, have several modes: ci95 covers
                        their median, but no inference need take as long

    The three tests of order say that rounds are not exchangeable: ci95 is too narrow, by
    about sqrt(n / effective_size) if autocorrelated, and what changes may go on changing. They
    need `MIN_ROUNDS` rounds, and a step 13; one large change may well answer to all three. Each
    warning is false for about 1 % at most of the workloads with nothing to warn of. None is no
    proof: of few rounds, a weak dependence is not seen (`bench/interval_coverage.py`).

    Args:
        rounds: the samples of each round in the order taken, nanoseconds.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    ordered = _sorted(rounds)
    medians = np.array([_median(samples) for samples in ordered])
    found = []
    if len(modes(_relative(ordered))) > 1 or len(modes(medians)) > 1:
        found.append("bimodal")
    if medians.size < MIN_ROUNDS:
        found.append("few-rounds")
    else:
        if autocorrelation(medians).z > _Z:
            found.append("autocorrelated")
        step = change_point(medians)
        if step is not None and step.p < STEP_P:
            found.append("step")
        if abs(trend(medians).z) > _Z:
            found.append("trend")
    return tuple(sorted(found))
