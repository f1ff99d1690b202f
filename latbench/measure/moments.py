"""The slowdown of a unit at the moment of each trial, and how sensitive each workload is to it.

The speed of a machine changes while it is measured: clocks, heat, other processes. A change affects
everything that runs at that moment, some workloads more than others:

    ln(trial) = ln(workload) + sensitivity of the workload * ln(slowdown at that moment) + noise

Noise is correlated in time, so each trial is normalised by its neighbours' slowdown: the weighted median
of how far the nearest trials of other workloads deviate from their own workloads' medians, each divided
by its sensitivity. Weights decay with distance and grow with sensitivity. A workload's sensitivity is
the slope of its trials over the slowdowns, shrunk towards 1 (ridge prior with standard deviation
`_SENSITIVITY_SD`). Medians, slowdowns and sensitivities are estimated alternately. Every round has its own
random order, so a trial's neighbours differ from round to round. Workloads that change by themselves count
less as neighbours, and slowdowns that may be chance are smoothed.

Slowdowns are relative to the baseline quarter: the fastest quarter of a run's trusted trials. Disturbances
make a machine slower, never faster, so the speed of that quarter hardly depends on how much of the run
was disturbed; the median's does. Over five runs, one of them with a busy neighbour for most of its time,
the common factor of all entries had a standard deviation of 3.1 % relative to the median, and of 0.6 %
relative to the baseline quarter. `bench/additivity.py` shows the effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.measure.records import Trial
from latbench.statistics import MAD_TO_SIGMA

#: Neighbours on either side of a trial that estimate its slowdown, if they are near enough; weights fall by
#: a factor of e with every `_DECAY_VISITS` visits. Slowdowns change within tenths of a second, and a visit
#: takes some hundredths. In noisy runs twice as many neighbours made no difference.
_NEIGHBOURS = 6
_DECAY_VISITS = 3.0
_NEAR_S = 5.0
_NEAR_VISITS = 4.5

#: Fewer neighbours cannot separate a slowdown from their own noise.
MIN_NEIGHBOURS = 4

#: The share of a unit's trusted trials that forms its baseline.
BASELINE_SHARE = 0.25

#: Standard deviation of sensitivities. In noisy runs nine in ten were between 0.75 and 1.35 (TFLite fp32), or
#: between 0.6 and 1.6 (int8).
_SENSITIVITY_SD = 0.2
SENSITIVITY_BOUNDS = (0.2, 5.0)

#: The noise of a workload as a neighbour is this quantile of its absolute residuals. It counts less if that
#: is more than so many times the usual.
_NOISE_SHARE = 0.8
_MOODY = 4.0

#: The standard error of a slowdown from twelve neighbours, over the median absolute deviation of trials from
#: it: 1.25 for a median, and 9.6 neighbours of equal weight would have the same. Slowdowns that differ by
#: less than so many standard errors from those around them may do so by chance.
_NEIGHBOURS_ERROR = MAD_TO_SIGMA * 1.25 / math.sqrt(9.6)
_CHANCE = 1.5

#: A moment is as long as so many visits: changes that last show in the median over it.
MOMENT_VISITS = 24

#: No trial is repeatable to better than this, relative.
_MIN_NOISE = 1e-4

#: Deviations beyond this many times the noise are down-weighted (Huber's weights).
_HUBER = 2.0

_ITERATIONS = 6  # the last one changes hardly anything


@dataclass(frozen=True)
class Moments:
    """What all trials of the units of a run say of each.

    Attributes:
        logs: the log slowdown at each trial, 0 at the baseline.
        sensitivities: of each trial's workload.
        uncertain: standard errors of the sensitivities.
        error: standard error of the log slowdowns.
    """

    logs: NDArray[np.float64]
    sensitivities: NDArray[np.float64]
    uncertain: NDArray[np.float64]
    error: float


def estimate_moments(trials: Sequence[Trial], factors: Mapping[int, float]) -> Moments:
    """The log slowdown at each trial, and the sensitivity of its workload.

    `factors` are divided out first. `trials` are sorted by unit, then by time.
    """
    if not trials:
        return Moments(np.zeros(0), np.zeros(0), np.zeros(0), 0.0)
    values = np.log([trial.median_ms / factors[trial.id] for trial in trials])
    workloads = _codes([trial.workload for trial in trials])
    units = _codes([trial.unit for trial in trials])
    roles = _codes([trial.role for trial in trials])
    trusted = np.array([trial.taint is None for trial in trials])
    neighbours, weights = _neighbours(trials, workloads, units)
    known = (weights > 0).sum(axis=1) >= MIN_NEIGHBOURS
    logs, sensitivities = np.zeros(values.size), np.ones(values.size)
    uncertain, error = np.full(values.size, _SENSITIVITY_SD), 0.0
    for iteration in range(_ITERATIONS):
        deviations = values - _medians(values - sensitivities * logs, workloads)[workloads]
        if iteration > 1:
            sensitivities, uncertain = _sensitivities(
                deviations, logs, sensitivities, known, workloads, roles
            )
        estimates = (deviations / sensitivities)[neighbours]
        # The error of a neighbour's estimate is inversely proportional to its sensitivity.
        reliable = sensitivities
        if iteration > 1:  # before, a slow moment looks like a mood of the workloads in it
            reliable = reliable * _reliabilities(deviations - sensitivities * logs, workloads)
        medians = _weighted_medians(estimates, weights * reliable[neighbours])
        errors = np.abs(deviations / sensitivities - medians)[known]
        error = _NEIGHBOURS_ERROR * float(np.median(errors)) if errors.size else 0.0
        logs = np.where(known, medians, 0.0)
        for unit in range(int(units.max()) + 1):
            group = np.flatnonzero(units == unit)
            inside, outside = group[known[group]], group[~known[group]]
            if inside.size:
                logs[inside] = _smoothed(logs[inside], error)
                baseline = inside[trusted[inside]] if trusted[inside].any() else inside
                logs[inside] -= np.quantile(logs[baseline], BASELINE_SHARE)
                logs[outside] = np.median(logs[inside])
    return Moments(logs, sensitivities, uncertain, error)


def _smoothed(logs: NDArray[np.float64], error: float) -> NDArray[np.float64]:
    """Slowdowns of one unit in the order taken, less what may be the chance of their neighbours.

    Each moves to the running median of the slowdowns around it, unless it differs from that by more than
    some standard `error`s: the non-negative garrote (Breiman, Technometrics 37, 1995). Noise would slow every
    trial of a steady unit down by two thirds of its standard deviation, since the baseline is a quantile.
    """
    window = min(MOMENT_VISITS + 1, logs.size)
    padded = np.pad(logs, (window // 2, (window - 1) // 2), mode="edge")
    lasting = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    apart = logs - lasting
    least = (_CHANCE * error) ** 2
    kept: NDArray[np.float64] = lasting + apart * np.maximum(
        0, 1 - least / np.maximum(apart**2, 1e-18)
    )
    return kept


def _reliabilities(
    residuals: NDArray[np.float64], workloads: NDArray[np.intp]
) -> NDArray[np.float64]:
    """For each trial, the weight of its workload as a neighbour: 1, or less if it has moods of its own.

    It is `_MOODY` times the usual noise of workloads over its own. Noise is a high quantile of absolute
    residuals, so that of a workload with two speeds it is their distance, which its neighbours must not take
    for a slowdown.
    """
    ordered = np.abs(residuals)[np.lexsort((np.abs(residuals), workloads))]
    counts = np.bincount(workloads)
    noise = ordered[
        np.cumsum(counts) - counts + np.ceil(_NOISE_SHARE * (counts - 1)).astype(np.intp)
    ]
    most = _MOODY * max(_MIN_NOISE, float(np.median(noise)))
    weights: NDArray[np.float64] = (most / np.maximum(noise, most))[workloads]
    return weights


def _sensitivities(
    deviations: NDArray[np.float64],
    logs: NDArray[np.float64],
    before: NDArray[np.float64],
    known: NDArray[np.bool_],
    workloads: NDArray[np.intp],
    roles: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each trial, the sensitivity of its workload, scaled so that the median workload has 1, and its
    standard error.

    Only trials whose slowdown is `known` count. Noise is estimated per role, since whole networks have
    more of it than ops.
    """

    def sums(terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over the trials of each workload."""
        return np.bincount(workloads, terms).astype(np.float64)

    residuals = np.abs(deviations - before * logs)
    noise = np.maximum(_MIN_NOISE, MAD_TO_SIGMA * _medians(residuals, roles))[roles]
    weights = np.where(known, np.minimum(1.0, _HUBER * noise / np.maximum(residuals, 1e-12)), 0.0)
    shares = weights / np.maximum(sums(weights), 1e-12)[workloads]
    x = logs - sums(shares * logs)[workloads]
    y = deviations - sums(shares * deviations)[workloads]
    prior = np.empty(int(workloads.max()) + 1)
    prior[workloads] = (noise / _SENSITIVITY_SD) ** 2
    precisions = sums(weights * x**2) + prior
    slopes = (sums(weights * x * y) + prior) / precisions
    bounded = np.clip(slopes, *SENSITIVITY_BOUNDS)
    sensitivities: NDArray[np.float64] = (bounded / np.median(bounded))[workloads]
    errors: NDArray[np.float64] = noise / np.sqrt(precisions)[workloads]
    return sensitivities, errors


def _codes(names: Sequence[str]) -> NDArray[np.intp]:
    """The number of each name among the distinct ones."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.intp)


def _medians(values: NDArray[np.float64], codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """The median of the values of each code; the codes are 0, 1, and so on, none left out."""
    ordered = values[np.lexsort((values, codes))]
    counts = np.bincount(codes)
    first = np.cumsum(counts) - counts
    medians: NDArray[np.float64] = (
        ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]
    ) / 2
    return medians


def _neighbours(
    trials: Sequence[Trial], workload: NDArray[np.intp], unit: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The indices of each trial's neighbours, and their weights: 0 for those that do not count."""
    times = np.array([trial.started for trial in trials])
    steps = np.array([step for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1) if step])
    indices = np.arange(len(trials))[:, None] + steps
    exists = (indices >= 0) & (indices < len(trials))
    indices = np.clip(indices, 0, len(trials) - 1)
    near = np.abs(times[indices] - times[:, None]) <= _reach_s(times, unit)[:, None]
    others = (workload[indices] != workload[:, None]) & (unit[indices] == unit[:, None])
    weights = np.exp(-np.abs(steps) / _DECAY_VISITS)
    return indices, np.where(exists & near & others, weights, 0.0)


def _reach_s(times: NDArray[np.float64], unit: NDArray[np.intp]) -> NDArray[np.float64]:
    """The largest distance of a neighbour, seconds: a few visits of the unit where visits are long."""
    reach = np.full(times.size, _NEAR_S)
    for number in range(int(unit.max()) + 1):
        of_unit = np.flatnonzero(unit == number)
        if of_unit.size > 1:
            visit = float(np.median(np.diff(times[of_unit])))
            reach[of_unit] = max(_NEAR_S, _NEAR_VISITS * visit)
    return reach


def _weighted_medians(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weighted median of each row; the mean of two values if exactly half the weight is below."""
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    below = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    half = below[:, -1:] / 2
    row = np.arange(values.shape[0])
    low = (below >= half * (1 - 1e-9)).argmax(axis=1)
    high = (below > half * (1 + 1e-9)).argmax(axis=1)
    middle: NDArray[np.float64] = (values[row, low] + values[row, high]) / 2
    return middle
