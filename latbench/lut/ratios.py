"""The ratio of two noisy latencies: its interval, and whether it is a change.

Latencies are compared by the logarithm of their ratio, whose errors are taken as normal.
`latbench.lut.drift` explains the design.

Sources: Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995); Andrews
et al., "Robust Estimates of Location", 1972, for the shorth; Efron, "Large-scale simultaneous
hypothesis testing: the choice of a null hypothesis", JASA 99 (2004), for the empirical null.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from latbench.lut.schema import Entry, Reference, Sentinel, TimedNetwork
from latbench.quantiles import Z95, Z975, student_quantile, two_sided_p
from latbench.statistics import MAD_TO_SIGMA

#: A change is reported from this share of the tolerance on. The rest is margin for noise, which can make a
#: change as large as the tolerance look smaller.
REPORTED_SHARE = 0.5

#: Everything in a LUT that has a latency and an interval.
Timed = Entry | Reference | Sentinel | TimedNetwork

#: Errors are estimated from a few rounds in a few runners, so tests use Student's t with this many degrees of
#: freedom. Normal tails raised false alarms in 3 of 66 pairs of equal runs, these in none.
TAILS = 40

#: An interval with a warning (`Entry.warnings`: two modes, a step, rounds that depend on each other) counts
#: this many times as wide. In 15 pairs of equal runs, all 3 false alarms were of one such entry.
_DOUBT = 2.0

#: Warnings of all entries of a run alike: relative to each other, they are as certain as ever.
_OF_ALL = frozenset({"unsteady"})

#: The interval of n rounds counts 1 + this / n times as wide: a few rounds may agree by chance. In 2 of 130
#: pairs of equal runs an op of 7 or 9 rounds raised a false alarm.
_FEW_ROUNDS = 2.0

#: Logarithms of ratios are clipped to +-this, so that no ratio overflows.
_MAX_LOG = 700.0

#: The centre is the mean of the values within this many standard errors of the densest half.
_INLIER = 3.0

#: How often centre and slope are estimated in turns; they hardly depend on each other.
_TURNS = 4


class Verdict(StrEnum):
    """The result for an op, a network or the overall change; only ops are `missing` or `new`."""

    SAME = "same"
    SLOWER = "slower"
    FASTER = "faster"
    MISSING = "missing"
    NEW = "new"


@dataclass(frozen=True)
class Noise:
    """Noise between runs that the intervals of LUTs do not include, as relative standard deviations.

    Args:
        run_sd: an entry from run to run, unless its runners disagree by more.
        dispatch_ms: the dispatch of a run, milliseconds, whatever it computes.
        overall_sd: the overall change between two runs with pinned clocks.
        unexplained_sd: the overall change between two runs where no reference explains a part of it.
        memory_sd: the change of memory speed between two runs.
        memory_bytes: an op that moves this many bytes follows the memory as a whole network does; others in
            proportion to the bytes they move, at most `memory_most` times as much.
        sensitivity_share: the error of such a sensitivity, relative.
        reference_sd: the ratio of whole networks' latencies after the reference is divided out.
        ops_sd: the middle of the entries' ratios after the reference is divided out.
        believed: the share of the intervals of the reference and of networks that shows when one is divided
            by the other; the rest is common to both, such as which moments count as the baseline.
        wandered_share: additional noise of that ratio, relative to the sentinel's drift in the run where it
            drifted more.

    `run_sd`, `dispatch_ms`, `overall_sd` and `memory_sd` were estimated from 28 runs of `latbench profile`
    on one core of an AMD EPYC, with and without a load of our own on the other core; what concerns the
    reference, from the first fourteen runs of each target in `bench/results/drift`, on a restless Xeon.
    """

    run_sd: float = 0.002
    dispatch_ms: float = 0.0001
    overall_sd: float = 0.005
    unexplained_sd: float = 0.03
    memory_sd: float = 0.015
    memory_bytes: float = 6e6
    memory_most: float = 3.0
    sensitivity_share: float = 0.3
    reference_sd: float = 0.005
    ops_sd: float = 0.02
    believed: float = 0.4
    wandered_share: float = 0.011

    def sensitivity(self, moved_bytes: float) -> float:
        """The share of a change of memory speed that an op which moves `moved_bytes` shows."""
        return min(self.memory_most, moved_bytes / self.memory_bytes)


@dataclass(frozen=True)
class Ratio:
    """A ratio current / baseline with its 95 % interval, and the result of its test.

    `p` is the two-sided p-value of no change. `detectable` is the smallest ratio above 1 that would
    be reported 95 % of the time.
    """

    ratio: float
    low: float
    high: float
    p: float
    detectable: float
    verdict: Verdict

    @property
    def drifted(self) -> bool:
        """Whether a change is reported."""
        return self.verdict is not Verdict.SAME


def log_ratio_of(before: Timed, after: Timed, noise: Noise) -> tuple[float, float]:
    """Return ln(after / before) and its standard error."""
    errors = (error_of(side, noise) for side in (before, after))
    return math.log(after.ms) - math.log(before.ms), math.hypot(*errors)


def error_of(timed: Timed, noise: Noise) -> float:
    """The relative standard error of a latency between runs."""
    own, doubt = 0.0, 1.0
    if isinstance(timed, Entry):
        own, doubt = timed.placement, _DOUBT if set(timed.warnings) - _OF_ALL else 1.0
        doubt *= 1 + _FEW_ROUNDS / max(1, timed.rounds)
    assert timed.ci95 is not None  # `latbench.lut.changes` lets no others be compared
    interval = doubt * (math.log(timed.ci95[1]) - math.log(timed.ci95[0])) / (2 * Z975)
    return math.hypot(interval, max(noise.run_sd, own), noise.dispatch_ms / timed.ms)


def centre_of(
    values: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return (centre, its standard error, scale); `scale` is the factor that makes `errors` fit the spread.

    The centre is the weighted mean of the values near the shorth, the densest half; see the sources.
    """
    ordered, half = np.sort(values), values.size // 2 + 1
    first = int(np.argmin(ordered[half - 1 :] - ordered[: values.size - half + 1]))
    densest = (ordered[first] + ordered[first + half - 1]) / 2
    inliers = np.abs(values - densest) <= _INLIER * _scale(values - densest, errors) * errors
    weights = inliers / errors**2
    centre = float((weights * values).sum() / weights.sum())
    scale = _scale(values - centre, errors)
    return centre, scale / math.sqrt(float(weights.sum())), scale


@dataclass(frozen=True)
class Common:
    """What ratios have in common (ln): a centre, and a slope over their sensitivities to the memory.

    `centre` is that at the sensitivity `middle`; `error` and `slope_error` are standard errors, and `scale`
    is the factor that makes the errors of the ratios fit their spread.
    """

    centre: float
    error: float
    slope: float
    slope_error: float
    middle: float
    scale: float

    def at(self, sensitivity: NDArray[np.float64]) -> NDArray[np.float64]:
        """The common part of ratios with these sensitivities (ln)."""
        return self.centre + self.slope * (sensitivity - self.middle)


def common_of(
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    sensitivity: NDArray[np.float64],
    slope_sd: float,
) -> Common:
    """Estimate what `values` have in common, in turns: the centre of what the slope leaves, and the slope.

    The slope is that of a weighted least-squares line through the values near the centre, with a normal prior
    of standard deviation `slope_sd`.
    """
    slope, middle = 0.0, float(np.median(sensitivity))
    for _ in range(_TURNS):
        moved = sensitivity - middle
        centre, error, scale = centre_of(values - slope * moved, errors)
        near = np.abs(values - centre - slope * moved) <= _INLIER * scale * errors
        weights = near / (scale * errors) ** 2
        middle = float((weights * sensitivity).sum() / weights.sum())
        moved = sensitivity - middle
        certainty = float((weights * moved**2).sum()) + slope_sd**-2
        slope = float((weights * moved * (values - centre)).sum()) / certainty
    moved = sensitivity - middle
    centre, error, scale = centre_of(values - slope * moved, errors)
    return Common(centre, error, slope, certainty**-0.5, middle, scale)


def _scale(deviations: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """The robust spread of `deviations` in units of their errors, at least 1.

    Ops that agree better than their errors explain do so by chance, or because some errors are too wide, and
    not those of the op that stands out: where such a spread counted, shrunk towards 1, 4 of 66 pairs of equal
    runs on a restless Xeon raised false alarms, and otherwise 1.
    """
    return max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(deviations) / errors)))


def p_value(z: float) -> float:
    """The two-sided p-value of a deviation of `z` standard errors: Student's t with `TAILS` degrees."""
    return two_sided_p(z, TAILS)


def judged(value: float, error: float, tolerance: float, alpha: float, significant: bool) -> Ratio:
    """Judge a logarithmic ratio; `alpha` is the largest p-value that counts as significant."""
    line = REPORTED_SHARE * math.log1p(tolerance)
    verdict = Verdict.SAME
    if significant and abs(value) > line:
        verdict = Verdict.SLOWER if value > 0 else Verdict.FASTER
    reach = max(line, -student_quantile(TAILS, alpha / 2) * error) + Z95 * error
    low, high = (_exp(value + sign * Z975 * error) for sign in (-1, 1))
    p = p_value(value / error)
    return Ratio(_exp(value), low, high, p, _exp(reach), verdict)


def _exp(value: float) -> float:
    return math.exp(min(_MAX_LOG, max(-_MAX_LOG, value)))
