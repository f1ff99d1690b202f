"""The slowdown of a unit at each trial of a run, so that trials of different moments can be compared.

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

If several units take part, one may be faster than another at everything. The ratio is that of their
sentinels.

A moment too slow to be compared taints its trials. That is never final, since what it is compared with
changes while a run lasts: a run that begins in a slow moment takes that for normal until it has seen a
faster one.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from latbench.measure import taint
from latbench.measure.plan import Role
from latbench.measure.records import Trial
from latbench.statistics import MAD_TO_SIGMA, MIN_ROUNDS

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

#: A slowdown above this, relative to the baseline, marks a trial as disturbed: an error in an op's
#: sensitivity grows with the correction. In eight runs on a noisy machine two ops of 109 were 6 and 10 %
#: off with disturbed trials, and not without. Whole networks keep theirs: their sensitivity differs more
#: from moment to moment, and they have too few rounds to lose half of them.
_DISTURBED_FACTOR = 1.1
_KEEPING_ROLES = (Role.NETWORK, Role.SENTINEL)

#: A unit that was faster than its baseline by more than this, for the median of so many visits in a row, has
#: no steady baseline.
_STEADY = 0.05
_CERTAIN = 4.0  # standard errors of a slowdown

#: A unit drifts if the slowdowns of at least so many moments have this rank correlation with time, and if the
#: fastest is so much below the baseline.
_DRIFT_MOMENTS = 8
_DRIFT_CORRELATION = 0.9
_LEAST_DRIFT = 0.01
_MOMENT_VISITS = 24

#: Standard deviation of sensitivities. In noisy runs nine in ten were between 0.75 and 1.35 (TFLite fp32), or
#: between 0.6 and 1.6 (int8).
_SENSITIVITY_SD = 0.2
_SENSITIVITY_BOUNDS = (0.2, 5.0)

#: Two trials of the reference tell its sensitivity if their slowdowns, in logarithms, are this far apart, and
#: if there are so many such pairs. Over five runs of ONNX Runtime and four of LiteRT on a restless Xeon,
#: whole networks relative to the reference had a standard deviation of 0.59 and 0.83 %, and of 0.35 and
#: 0.71 % with the reference's own sensitivity.
_APART = 0.05
_MIN_PAIRS = 20

#: The noise of a workload as a neighbour is this quantile of its absolute residuals. It counts less if that
#: is more than so many times the usual.
_NOISE_SHARE = 0.8
_MOODY = 4.0

#: The standard error of a slowdown from twelve neighbours, over the median absolute deviation of trials from
#: it: 1.25 for a median, and 9.6 neighbours of equal weight would have the same. Slowdowns that differ by
#: less than so many standard errors from those around them may do so by chance.
_NEIGHBOURS_ERROR = MAD_TO_SIGMA * 1.25 / math.sqrt(9.6)
_CHANCE = 1.5

#: No trial is repeatable to better than this, relative.
_MIN_NOISE = 1e-4

#: Deviations beyond this many times the noise are down-weighted (Huber's weights).
_HUBER = 2.0

_ITERATIONS = 6  # the last one changes hardly anything


def unit_factors(trials: Iterable[Trial]) -> dict[str, float]:
    """The slowdown of each unit of a run relative to the median unit, estimated from its sentinel.

    It is the median of a unit's best visits to the sentinel over the median of all units' medians, so 1
    for a single unit. A unit whose sentinel was never timed is left out.
    """
    visits: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.role is Role.SENTINEL and trial.failure is None:
            visits[trial.unit].append(trial)
    medians = {
        unit: statistics.median(trial.median_ms for trial in best_trials(of_unit))
        for unit, of_unit in visits.items()
    }
    middle = statistics.median(medians.values()) if medians else 1.0
    return {unit: median / middle for unit, median in medians.items()}


def best_trials(trials: Iterable[Trial]) -> list[Trial]:
    """The successful trials of one workload that are trusted, or all successful ones if none is."""
    timed = [trial for trial in trials if trial.failure is None]
    return [trial for trial in timed if trial.taint is None] or timed


@dataclass(frozen=True)
class Slowdowns:
    """The slowdown at each trial of a run.

    Attributes:
        factors: the slowdown at each trial, by its id (`trial_slowdowns`).
        levels: the part of it that the whole unit had at that moment, relative to the unit's baseline; by
            the trial's id.
        shared_errors: the standard error of the factor at each trial, relative, that all trials of its
            workload have in common: its sensitivity is uncertain. By the trial's id.
        unsteady: units that were faster at some moment than at their baseline, by more than `_STEADY`, or
            that drifted: the baseline is the speed of a part of the run, and no state of the unit.
        disturbed: ids of trials of ops, frames and the reference with a slowdown above `_DISTURBED_FACTOR`.
        sensitivities: of each workload, and its standard error; the median workload has 1.
        latest: the slowdown at each unit's last trial; newer trials have it until the next estimate.
        slow_now: whether all units were too slow at their last trial.
        error: the standard error of the slowdown at a moment, relative.
    """

    factors: Mapping[int, float] = field(default_factory=dict)
    levels: Mapping[int, float] = field(default_factory=dict)
    shared_errors: Mapping[int, float] = field(default_factory=dict)
    unsteady: frozenset[str] = frozenset()
    disturbed: frozenset[int] = frozenset()
    sensitivities: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)
    slow_now: bool = False
    error: float = 0.0

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Slowdowns":
        """Estimate the slowdowns from all trials of a run."""
        timed = [_without_slowdown(trial) for trial in trials if trial.failure is None]
        found = _estimated(timed)
        factors, levels = found.factors, found.levels
        by_unit: dict[str, list[Trial]] = defaultdict(list)
        for trial in timed:
            by_unit[trial.unit].append(trial)
        disturbed: set[int] = set()
        for of_unit in by_unit.values():
            trusted = [factors[trial.id] for trial in best_trials(of_unit)]
            limit = _DISTURBED_FACTOR * float(np.quantile(trusted, BASELINE_SHARE))
            disturbed |= {
                trial.id
                for trial in of_unit
                if trial.role not in _KEEPING_ROLES and factors[trial.id] > limit
            }
        last = {
            unit: max(of_unit, key=lambda trial: (trial.started, trial.id))
            for unit, of_unit in by_unit.items()
        }
        latest = {unit: factors[trial.id] for unit, trial in last.items()}
        least = 1 - max(_STEADY, _CERTAIN * found.error)
        unsteady = {
            unit
            for unit, of_unit in by_unit.items()
            if _fastest(of_unit, levels) < least or _drifts(of_unit, levels)
        }
        return cls(
            factors,
            levels,
            found.shared_errors,
            frozenset(unsteady),
            frozenset(disturbed),
            found.sensitivities,
            latest,
            bool(last)
            and min(levels[trial.id] for trial in last.values()) > 1 + taint.SLOWDOWN_TOLERANCE,
            found.error,
        )

    def factor(self, trial: Trial) -> float:
        """The slowdown at `trial`."""
        return self.factors.get(trial.id, self.latest.get(trial.unit, 1.0))

    def judged(self, trial: Trial) -> Trial:
        """`trial`, tainted if its unit was too slow at that moment (`latbench.measure.taint.of_slowdown`).

        What earlier estimates found, which a journal may hold, is replaced.
        """
        return _with_taint(trial, self.levels.get(trial.id, 1.0))

    def chosen(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials of one workload that its statistic is computed from, judged and not normalised.

        They are the best (`best_trials`), without the disturbed ones if `MIN_ROUNDS` others are left.
        """
        best = best_trials(map(self.judged, trials))
        undisturbed = [trial for trial in best if trial.id not in self.disturbed]
        return undisturbed if len(undisturbed) >= MIN_ROUNDS else best

    def best(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials of `chosen`, normalised to the baseline quarter."""
        return [normalised(trial, self.factors) for trial in self.chosen(trials)]


def _drifts(trials: Sequence[Trial], levels: Mapping[int, float]) -> bool:
    """Whether a unit became slower, or faster, throughout: its fastest quarter is then no state of it.

    By the rank correlation of the median slowdowns of moments with their order.
    """
    ordered = sorted(trials, key=lambda trial: (trial.started, trial.id))
    values = np.array([levels[trial.id] for trial in ordered])
    count = values.size // _MOMENT_VISITS
    if count < _DRIFT_MOMENTS:
        return False
    moments = np.median(values[: count * _MOMENT_VISITS].reshape(count, -1), axis=1)
    if moments.min() > 1 - _LEAST_DRIFT:
        return False
    ranks = moments.argsort().argsort()
    return abs(float(np.corrcoef(ranks, np.arange(count))[0, 1])) > _DRIFT_CORRELATION


def _fastest(trials: Sequence[Trial], levels: Mapping[int, float]) -> float:
    """The lowest slowdown that a unit had for a moment, relative to its baseline."""
    ordered = sorted(trials, key=lambda trial: (trial.started, trial.id))
    values = np.array([levels[trial.id] for trial in ordered])
    moment = min(_MOMENT_VISITS, values.size)
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, moment), axis=1).min())


def _without_slowdown(trial: Trial) -> Trial:
    """`trial` without the taint of an earlier estimate."""
    return _with_taint(trial, 1.0)


def _with_taint(trial: Trial, level: float) -> Trial:
    if trial.taint is None and level <= 1 + taint.SLOWDOWN_TOLERANCE:
        return trial
    found = taint.of_slowdown(trial.taint, level)
    return trial if found == trial.taint else replace(trial, taint=found)


def trial_slowdowns(trials: Iterable[Trial]) -> dict[int, float]:
    """The slowdown at each successful trial, by the trial's id, relative to the baseline quarter.

    It is the product of the unit's factor and the unit's slowdown at that moment. Tainted trials count. The
    reference uses no runtime: its neighbours estimate its slowdown, which counts as far as it is sensitive to
    it, and it does not estimate theirs.
    """
    return _estimated(trials).factors


@dataclass(frozen=True)
class _Factors:
    """`trial_slowdowns`; the slowdown of the unit alone; the error of a trial's slowdown, relative, that all
    trials of its workload have in common; the sensitivity of each workload and its error; and the error of a
    moment's slowdown, relative.
    """

    factors: dict[int, float]
    levels: dict[int, float]
    shared_errors: dict[int, float]
    sensitivities: dict[str, tuple[float, float]]
    error: float


def _estimated(trials: Iterable[Trial]) -> _Factors:
    timed = [trial for trial in trials if trial.failure is None]
    timed.sort(key=lambda trial: (trial.unit, trial.started, trial.id))
    units = unit_factors(timed)
    factors = {trial.id: units.get(trial.unit, 1.0) for trial in timed}
    ordinary = [trial for trial in timed if trial.role is not Role.REFERENCE]
    found = _log_slowdowns(ordinary, factors)
    logs = found.logs
    for trial, factor in zip(ordinary, np.exp(found.sensitivities * logs), strict=True):
        factors[trial.id] *= float(factor)
    references = [trial for trial in timed if trial.role is Role.REFERENCE]
    levels = dict(zip((trial.id for trial in ordinary), np.exp(logs).tolist(), strict=True))
    at_references = _interpolated(references, ordinary, logs)
    sensitivity = _reference_sensitivity(references, at_references, factors)
    for trial, log in zip(references, at_references, strict=True):
        levels[trial.id] = math.exp(log)
        factors[trial.id] *= math.exp(sensitivity * log)
    # A unit's baseline may be another state than its sentinel's median. Compare the units once more, by
    # normalised sentinels.
    sentinels = [trial for trial in timed if trial.role is Role.SENTINEL]
    left = unit_factors(normalised(trial, factors) for trial in sentinels)
    return _Factors(
        {trial.id: factors[trial.id] * left.get(trial.unit, 1.0) for trial in timed},
        levels,
        dict(zip((one.id for one in ordinary), (found.uncertain * logs).tolist(), strict=True)),
        dict(
            zip(
                (one.workload for one in ordinary),
                zip(found.sensitivities.tolist(), found.uncertain.tolist(), strict=True),
                strict=True,
            )
        ),
        found.error,
    )


def normalised(trial: Trial, factors: Mapping[int, float]) -> Trial:
    """`trial` with its samples divided by its slowdown, rounded to whole nanoseconds above 0."""
    factor = factors.get(trial.id, 1.0)
    if factor == 1:
        return trial
    return replace(
        trial, samples_ns=np.maximum(1, np.rint(trial.samples_ns / factor)).astype(np.int64)
    )


def _interpolated(
    references: Sequence[Trial], ordinary: Sequence[Trial], logs: NDArray[np.float64]
) -> list[float]:
    """The log slowdown at each reference trial, linear in time between the ordinary trials of its unit."""
    found = np.zeros(len(references))
    for unit in {trial.unit for trial in references}:
        own = [number for number, trial in enumerate(references) if trial.unit == unit]
        known = [number for number, trial in enumerate(ordinary) if trial.unit == unit]
        if known:
            times = [ordinary[number].started for number in known]
            found[own] = np.interp(
                [references[number].started for number in own], times, logs[known]
            )
    return found.tolist()


def _reference_sensitivity(
    references: Sequence[Trial], logs: Sequence[float], factors: Mapping[int, float]
) -> float:
    """How sensitive the reference is to the slowdowns of the runtime's workloads, whose logs are `logs`.

    It is Theil and Sen's slope over the pairs of trials of a unit whose slowdowns differ enough; 1 if there
    are few such pairs. `factors` are divided out first.
    """
    slopes: list[NDArray[np.float64]] = []
    units = np.array([trial.unit for trial in references])
    values = np.log([trial.median_ms / factors[trial.id] for trial in references])
    for unit in set(units.tolist()):
        x, y = np.array(logs)[units == unit], values[units == unit]
        first, second = np.triu_indices(x.size, k=1)
        apart = np.abs(x[second] - x[first]) > _APART
        slopes.append((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    found = np.concatenate([*slopes, np.zeros(0)])
    if found.size < _MIN_PAIRS:
        return 1.0
    return float(np.clip(np.median(found), *_SENSITIVITY_BOUNDS))


@dataclass(frozen=True)
class _Estimate:
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


def _log_slowdowns(trials: Sequence[Trial], factors: Mapping[int, float]) -> _Estimate:
    """The log slowdown at each trial, and the sensitivity of its workload.

    `factors` are divided out first. `trials` are sorted by unit, then by time.
    """
    if not trials:
        return _Estimate(np.zeros(0), np.zeros(0), np.zeros(0), 0.0)
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
    return _Estimate(logs, sensitivities, uncertain, error)


def _smoothed(logs: NDArray[np.float64], error: float) -> NDArray[np.float64]:
    """Slowdowns of one unit in the order taken, less what may be the chance of their neighbours.

    Each moves to the running median of the slowdowns around it, unless it differs from that by more than
    some standard `error`s: the non-negative garrote (Breiman, Technometrics 37, 1995). Noise would slow every
    trial of a steady unit down by two thirds of its standard deviation, since the baseline is a quantile.
    """
    window = min(_MOMENT_VISITS + 1, logs.size)
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
    bounded = np.clip(slopes, *_SENSITIVITY_BOUNDS)
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
