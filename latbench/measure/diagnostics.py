"""Evidence against describing a latency by one median and its interval.

`latbench.statistics` assumes that a workload's rounds are independent draws from one distribution. Here is
detected, from the rounds of one workload, where they are not: by their order (`latbench.measure.order`), by
their modes (`latbench.measure.modes`), or because samples rise within visits. It is named, and nothing is
removed.
"""

import math

import numpy as np

from latbench.measure.modes import median_of_sorted, modes, relative_to_rounds, sorted_rounds
from latbench.measure.order import (
    STEP_P,
    autocorrelation,
    change_point,
    gradual_change,
    sudden_change,
)
from latbench.measure.timer import Rounds, tick_of
from latbench.quantiles import student_quantile
from latbench.statistics import MIN_ROUNDS, median_ci95, median_of, trend

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

#: Critical value of the tests for a trend (two-sided, p = 0.009) and for autocorrelation (one-sided, p =
#: 0.005).
_Z = 2.6

#: Samples rise within visits if a visit has at least this many, and they rise by this much, relative; and the
#: significance level of that (one-sided).
_RISING_SAMPLES = 4
LEAST_RISE = 0.01
_RISE_P = 0.005

#: A timer whose tick is a larger share of a sample is coarse.
_COARSE = 0.01


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
        tick_ns: the timer's tick, nanoseconds; by default as far as these samples show it.

    Raises:
        ValueError: there are no rounds, or one has no samples.
    """
    ordered = sorted_rounds(rounds)
    medians = np.array([median_of_sorted(samples) for samples in ordered])
    found = []
    if len(modes(relative_to_rounds(ordered))) > 1 or len(modes(medians)) > 1:
        found.append("bimodal")
    if heating(rounds) is not None:
        found.append("heating")
    tick_ns = tick_ns or tick_of([rounds])
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
    if mean <= student_quantile(len(found) - 1, 1 - _RISE_P) * spread / math.sqrt(len(found)):
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
            found.append(math.log(median_of(data[-third:]) / median_of(data[:third])))
    return found
