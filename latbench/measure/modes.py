"""The modes and the outliers of a sample.

Both accept ties and constant values, count and name, and remove nothing.

Sources: Ashman, Bird and Zepf, "Detecting bimodality in astronomical datasets", Astronomical Journal 108
(1994); Kimber, "Exploratory data analysis for possibly censored data from skewed distributions", Applied
Statistics 39 (1990); Tukey, "Exploratory Data Analysis" (1977); Rousseeuw, "Least median of
squares regression", JASA 79 (1984).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latbench.measure.timer import Rounds

#: A mode has at least this many values, and this share of all.
_MODE_VALUES = 4
_MODE_SHARE = 0.15

#: Outliers on one side up to this share of all are left out of the spread of the mode next to them.
_RARE = 0.05

#: Modes are searched among at most this many order statistics.
_MODE_POINTS = 64

#: Distance of the fences from the median, in distances of the quartile from the median.
_FENCE = 7.0

Floats = NDArray[np.float64]


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
    return relative_to_rounds(sorted_rounds(rounds))


def sorted_rounds(rounds: Rounds) -> list[Floats]:
    """The samples of each round in ascending order.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    if not rounds or any(len(samples) == 0 for samples in rounds):
        raise ValueError("there must be at least one round, and samples in each")
    return [np.sort(np.asarray(samples, dtype=np.float64)) for samples in rounds]


def median_of_sorted(ordered: Floats) -> float:
    """The median of sorted values, many times as fast as np.median."""
    return float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def _densest_half(ordered: Floats) -> Floats:
    """The shortest interval with half of the values; an even number, so that no single one is the centre."""
    size = min(ordered.size, 2 * math.ceil(ordered.size / 4))
    start = int((ordered[size - 1 :] - ordered[: ordered.size - size + 1]).argmin())
    return ordered[start : start + size]


def relative_to_rounds(rounds: list[Floats]) -> Floats:
    """`within_rounds` of sorted rounds."""
    centres = [median_of_sorted(_densest_half(samples)) for samples in rounds]
    pooled = np.concatenate(rounds)
    sizes = [samples.size for samples in rounds]
    # Equal samples of different rounds alternate, so that no round gets the lower ones.
    order = np.lexsort((np.concatenate([np.arange(size) for size in sizes]), pooled))
    return np.asarray(_untied(pooled[order]) / np.repeat(centres, sizes)[order])
