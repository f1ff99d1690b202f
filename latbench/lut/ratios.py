"""The ratio of two noisy latencies: how sure it is, and whether it is a change.

Latencies are compared by the logarithm of their ratio, whose errors are taken for normal. The
design is told in `latbench.lut.drift`.

Sources: Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995); Andrews
et al., "Robust Estimates of Location", 1972, for the shorth; Efron, "Large-scale simultaneous
hypothesis testing: the choice of a null hypothesis", JASA 99 (2004), for a spread that the data tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latbench.lut.schema import Entry, Reference, Sentinel, TimedNetwork
from latbench.statistics import MAD_TO_SIGMA

#: A change is reported from this share of the tolerance on; the rest is left to the noise, which may
#: make a change that is as large as the tolerance look smaller.
REPORTED_SHARE = 0.5

#: What has a latency and its interval.
Timed = Entry | Reference | Sentinel | TimedNetwork

#: Errors come from a few rounds in a few runners, and are themselves not sure: as if from so many degrees
#: of freedom. Normal tails raised false alarms in 3 of 66 pairs of equal runs, these in none.
TAILS = 40

#: An interval that something speaks against (`Entry.warnings`: two modes, a step, rounds that depend on each
#: other) is taken for so many times as wide. In 15 pairs of equal runs 3 alarms were of one such entry.
_DOUBT = 2.0

#: What is known of errors before the values tell, as observations: they are as told.
_TOLD = 20

#: A median absolute deviation says as much of a spread as a standard deviation of this share of the values.
_EFFICIENCY = 0.37

#: No ratio is larger than e to this.
_MOST = 700.0

_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.975)
_Z_FOUND = _NORMAL.inv_cdf(0.95)  # what is this many errors beyond the line is found so often
_INLIER = 3.0  # the level is the mean of what lies within this many standard errors of the centre


class Verdict(StrEnum):
    """What became of an op, a network or the level; `missing` and `new` are said of ops."""

    SAME = "same"
    SLOWER = "slower"
    FASTER = "faster"
    MISSING = "missing"
    NEW = "new"


@dataclass(frozen=True)
class Noise:
    """Relative standard deviations of what the intervals of LUTs do not tell.

    Args:
        run_sd: of an entry from run to run, where its runners do not disagree by more.
        dispatch_ms: of a run, milliseconds, whatever it computes.
        level_sd: of the ratio of two runs' levels: the middle of the entries' ratios.
        memory_sd: of how far one run's memory was slower than another's, where no reference tells.
        memory_left_sd: the same, of what a reference that was divided out does not tell.
        memory_bytes: an op through which so much passes follows the memory as a whole network does; others
            do as the 3/2 power of what passes through them, at most `memory_most` times as much.
        reference_sd: of the ratio of whole networks' latencies, the reference divided out.
        wandered_share: and as much more, in shares of how far the sentinel wandered in the more restless of
            the runs: such a machine's networks also differ between runs.

    All are from runs of `latbench profile` in a row on one core of an AMD EPYC: twelve whose neighbours
    came and went, and sixteen beside work of our own on the other core (`bench/drift_power.py` takes such
    runs and counts the alarms).
    """

    run_sd: float = 0.002
    dispatch_ms: float = 0.00003
    level_sd: float = 0.005
    memory_sd: float = 0.015
    memory_left_sd: float = 0.007
    memory_bytes: float = 6e6
    memory_most: float = 3.0
    reference_sd: float = 0.006
    wandered_share: float = 0.08

    def sensitivity(self, moved_bytes: float) -> float:
        """How much of a change of the memory an op shows through which `moved_bytes` pass."""
        return float(min(self.memory_most, (moved_bytes / self.memory_bytes) ** 1.5))


@dataclass(frozen=True)
class Ratio:
    """A ratio current / baseline with its 95 % interval, and what came of its test.

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
        """Whether it is reported."""
        return self.verdict is not Verdict.SAME


def benjamini_hochberg(p: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the q-value of each p-value: the least false discovery rate at which it is found.

    q of the k-th smallest of m is the least of p(j) m / j over j >= k.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    steps = values[order] * values.size / np.arange(1, values.size + 1)
    q = np.empty_like(values)
    q[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return q


def log_ratio_of(before: Timed, after: Timed, noise: Noise) -> tuple[float, float]:
    """ln(after / before) and its standard error."""
    errors = (error_of(side, noise) for side in (before, after))
    return math.log(after.ms) - math.log(before.ms), math.hypot(*errors)


def error_of(timed: Timed, noise: Noise) -> float:
    """The relative standard error of a latency between runs."""
    own, doubt = 0.0, 1.0
    if isinstance(timed, Entry):
        own, doubt = timed.placement, _DOUBT if timed.warnings else 1.0
    interval = doubt * (math.log(timed.ci95[1]) - math.log(timed.ci95[0])) / (2 * _Z95)
    return math.hypot(interval, max(noise.run_sd, own), noise.dispatch_ms / timed.ms)


def centre_of(
    values: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[float, float, float]:
    """(centre, its standard error, scale): what errors are to be multiplied by, as values spread."""
    ordered, half = np.sort(values), values.size // 2 + 1
    first = int(np.argmin(ordered[half - 1 :] - ordered[: values.size - half + 1]))
    densest = (ordered[first] + ordered[first + half - 1]) / 2
    inliers = np.abs(values - densest) <= _INLIER * _scale(values - densest, errors) * errors
    weights = inliers / errors**2
    centre = float((weights * values).sum() / weights.sum())
    scale = _scale(values - centre, errors)
    return centre, scale / math.sqrt(float(weights.sum())), scale


def _scale(deviations: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """How far `deviations` spread in units of their errors.

    That they spread less than told is believed only as far as their number carries it.
    """
    spread = MAD_TO_SIGMA * float(np.median(np.abs(deviations) / errors))
    told = _EFFICIENCY * deviations.size
    return max(spread, math.sqrt((told * spread**2 + _TOLD) / (told + _TOLD)))


def p_value(z: float) -> float:
    """The two-sided p-value of a deviation of z of its own errors: Student's t with `TAILS` degrees."""
    from scipy.special import stdtr  # a tenth of a second that most commands need not spend

    return float(2 * stdtr(TAILS, -abs(z)))


def judged(value: float, error: float, tolerance: float, alpha: float, significant: bool) -> Ratio:
    """Judge a logarithmic ratio; `alpha` is what its p-value has to reach to be significant."""
    line = REPORTED_SHARE * math.log1p(tolerance)
    verdict = Verdict.SAME
    if significant and abs(value) > line:
        verdict = Verdict.SLOWER if value > 0 else Verdict.FASTER
    from scipy.special import stdtrit

    reach = max(line, -float(stdtrit(TAILS, alpha / 2)) * error) + _Z_FOUND * error
    low, high = (_exp(value + sign * _Z95 * error) for sign in (-1, 1))
    p = p_value(value / error)
    return Ratio(_exp(value), low, high, p, _exp(reach), verdict)


def _exp(value: float) -> float:
    return math.exp(min(_MOST, max(-_MOST, value)))
