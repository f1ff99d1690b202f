"""How slow a unit was at each trial of a run, so that trials of different moments can be compared.

A machine changes its speed while it is measured: with its clock, its heat, its neighbours. It does so for
everything at a time, for some things more than for others, and all trials show it:

    ln(trial) = ln(workload) + sensitivity of the workload * level at that moment + noise.

The level at a trial is what its nearest neighbours in time, of other workloads, deviate from their own
workloads: their median, nearer ones weighing more, each divided by its sensitivity. A workload's
sensitivity is the slope of its trials over their levels, drawn towards 1 as far as the levels do not
tell it (a ridge regression whose prior is `_SENSITIVITY_SD`). Workloads, levels and sensitivities are
found in turn, each from the others. Rounds visit workloads in orders of their own, so what stands beside
a trial is another choice each time, and no workload's own share of a change settles on another.

Levels are told from the calm one, which a quarter of a run's moments reach. What disturbs a machine
makes it slower, never faster, so how fast the calm quarter is hardly depends on how much of the rest
was disturbed, as the middle does: over five runs of which one had a busy neighbour for most of its time,
the entries' common level moved by 3.1 % (standard deviation) where the middle was made 1, and by 0.6 %
where the calm quarter is.

`bench/additivity.py` shows what it does. Where several units take part, one may be faster than another,
all the time and at everything. How much is what their sentinels say.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from latbench.measure.plan import Role
from latbench.measure.records import Trial
from latbench.statistics import MAD_TO_SIGMA, MIN_ROUNDS

#: Neighbours on either side of a trial that tell its level, if they are that near; the weight of one falls by
#: e with every `_REACH` further visits. A level changes within tenths of a second, and a visit takes some
#: hundredths. In restless runs twice as many neighbours made no difference.
_NEIGHBOURS = 6
_REACH = 3.0
_NEAR_S = 5.0
_NEAR_VISITS = 4.5

#: Fewer than so many cannot tell a level from their own noise.
_LEAST = 4

#: The share of a unit's trusted trials that are at its calm level, or faster.
_CALM_SHARE = 0.25

#: Moments that are slower than the calm level by more are disturbed: what is off in an op's sensitivity
#: counts the more, the further its trials are brought. In eight runs on a restless machine two ops of 109
#: were 6 and 10 % off with disturbed trials, and not without. Whole networks keep them: they differ more from
#: moment to moment than ops can tell, and have too few rounds to do without half.
_CALM_REACH = 1.1
_KEEPING = (Role.NETWORK, Role.SENTINEL)

#: How much sensitivities differ. In restless runs nine in ten lay between 0.75 and 1.35 (TFLite fp32), and
#: between 0.6 and 1.6 (int8).
_SENSITIVITY_SD = 0.2
_SENSITIVITIES = (0.2, 5.0)

#: No trial is repeatable to better than this.
_LEAST_NOISE = 1e-4

#: Deviations beyond so many times the noise count less (Huber's weights).
_USUAL = 2.0

_TURNS = 6  # of finding workloads, levels and sensitivities from one another; the last change hardly anything


def unit_factors(trials: Iterable[Trial]) -> dict[str, float]:
    """How slow each unit of a run is, relative to the middle of them all, as its sentinel says.

    It is the median of a unit's best visits to the sentinel over the median of all units' medians: 1 for
    a unit that is alone. A unit whose sentinel was never timed is left out.
    """
    visits: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.role is Role.SENTINEL and trial.failure is None:
            visits[trial.unit].append(trial)
    levels = {
        unit: statistics.median(trial.median_ms for trial in best_trials(of_unit))
        for unit, of_unit in visits.items()
    }
    middle = statistics.median(levels.values()) if levels else 1.0
    return {unit: level / middle for unit, level in levels.items()}


def best_trials(trials: Iterable[Trial]) -> list[Trial]:
    """The trials of one workload that its statistic is made of.

    They are those that nothing speaks against; where there are none, those that are tainted.
    """
    timed = [trial for trial in trials if trial.failure is None]
    return [trial for trial in timed if trial.taint is None] or timed


@dataclass(frozen=True)
class Levels:
    """What the moments of a run's trials were like.

    Args:
        factors: how slow its unit was at each trial, by its id (`trial_factors`).
        disturbed: the trials of ops and the like, whose unit was slower than calm by more than `_CALM_REACH`.
        latest: the factor of each unit's last trial, which newer ones have for the time being.
    """

    factors: Mapping[int, float] = field(default_factory=dict)
    disturbed: frozenset[int] = frozenset()
    latest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Levels":
        """The levels that all trials of a run tell together."""
        timed = [trial for trial in trials if trial.failure is None]
        factors = trial_factors(timed)
        by_unit: dict[str, list[Trial]] = defaultdict(list)
        for trial in timed:
            by_unit[trial.unit].append(trial)
        disturbed: set[int] = set()
        for of_unit in by_unit.values():
            calm = np.quantile([factors[trial.id] for trial in best_trials(of_unit)], _CALM_SHARE)
            disturbed |= {
                trial.id
                for trial in of_unit
                if trial.role not in _KEEPING and factors[trial.id] > _CALM_REACH * float(calm)
            }
        last = {
            unit: max(of_unit, key=lambda trial: (trial.started, trial.id))
            for unit, of_unit in by_unit.items()
        }
        latest = {unit: factors[trial.id] for unit, trial in last.items()}
        return cls(factors, frozenset(disturbed), latest)

    def factor(self, trial: Trial) -> float:
        """How slow its unit was at `trial`, relative to the calm level."""
        return self.factors.get(trial.id, self.latest.get(trial.unit, 1.0))

    def chosen(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials of one workload that its statistic is made of, as they are.

        They are the best (`best_trials`), without the disturbed if `MIN_ROUNDS` others are left.
        """
        best = best_trials(trials)
        calm = [trial for trial in best if trial.id not in self.disturbed]
        return calm if len(calm) >= MIN_ROUNDS else best

    def best(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those `chosen`, as they would have been at the calm level."""
        return [levelled(trial, self.factors) for trial in self.chosen(trials)]


def trial_factors(trials: Iterable[Trial]) -> dict[int, float]:
    """How slow its unit was at each trial that did not fail, by the trial's id, relative to the calm level.

    That is the unit's factor times its level at that moment. Tainted trials tell of levels too. The
    reference, in which no engine takes part, has levels as its neighbours tell them, and tells none.
    """
    timed = [trial for trial in trials if trial.failure is None]
    timed.sort(key=lambda trial: (trial.unit, trial.started, trial.id))
    units = unit_factors(timed)
    factors = {trial.id: units.get(trial.unit, 1.0) for trial in timed}
    telling = [trial for trial in timed if trial.role is not Role.REFERENCE]
    levels, sensitivities = _levels(telling, factors)
    for trial, shift in zip(telling, np.exp(sensitivities * levels), strict=True):
        factors[trial.id] *= float(shift)
    watching = [trial for trial in timed if trial.role is Role.REFERENCE]
    for trial, level in zip(watching, _levels_beside(watching, telling, levels), strict=True):
        factors[trial.id] *= math.exp(level)
    # A unit's calm level may be another state than its sentinel's middle was. Units are compared once more,
    # by sentinels that are levelled.
    left = unit_factors(levelled(trial, factors) for trial in timed)
    return {trial.id: factors[trial.id] * left.get(trial.unit, 1.0) for trial in timed}


def levelled(trial: Trial, factors: Mapping[int, float]) -> Trial:
    """`trial` as it would have been at the calm level of the run, to the nanosecond."""
    factor = factors.get(trial.id, 1.0)
    if factor == 1:
        return trial
    return replace(trial, samples_ns=np.rint(trial.samples_ns / factor).astype(np.int64))


def _levels_beside(
    watching: Sequence[Trial], telling: Sequence[Trial], levels: NDArray[np.float64]
) -> list[float]:
    """The levels at trials that tell none: what lies between those before and after each in time."""
    told: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([0.0], [0.0]))
    for unit, of_unit in groupby(
        zip(telling, levels.tolist(), strict=True), lambda one: one[0].unit
    ):
        beside = list(of_unit)
        told[unit] = [trial.started for trial, _ in beside], [level for _, level in beside]
    return [float(np.interp(trial.started, *told[trial.unit])) for trial in watching]


def _levels(
    trials: Sequence[Trial], factors: Mapping[int, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The level at each trial, which is 0 where its unit is calm, and its workload's sensitivity.

    `factors` are divided out first. The trials stand by units, and in the order taken.
    """
    if not trials:
        return np.zeros(0), np.zeros(0)
    logs = np.log([trial.median_ms / factors[trial.id] for trial in trials])
    workloads = _groups([trial.workload for trial in trials])
    units = _groups([trial.unit for trial in trials])
    roles = _groups([trial.role for trial in trials])
    trusted = np.array([trial.taint is None for trial in trials])
    places, weights = _neighbours(trials, workloads)
    told = (weights > 0).sum(axis=1) >= _LEAST
    levels, sensitivities = np.zeros(logs.size), np.ones(logs.size)
    for turn in range(_TURNS):
        deviations = logs.copy()
        for group in workloads:
            deviations[group] -= np.median((logs - sensitivities * levels)[group])
        if turn > 1:
            sensitivities = _sensitivities(
                deviations, levels, sensitivities, told, workloads, roles
            )
        seen = deviations / sensitivities
        # What a neighbour says errs the less, the more sensitive it is.
        heard = weights * sensitivities[places]
        levels = np.where(told, _weighted_medians(seen[places], heard), 0.0)
        for group in units:
            known, unknown = group[told[group]], group[~told[group]]
            if known.size:
                calm = known[trusted[known]] if trusted[known].any() else known
                levels[known] -= np.quantile(levels[calm], _CALM_SHARE)
                levels[unknown] = np.median(levels[known])
    return levels, sensitivities


def _sensitivities(
    deviations: NDArray[np.float64],
    levels: NDArray[np.float64],
    before: NDArray[np.float64],
    told: NDArray[np.bool_],
    workloads: Sequence[NDArray[np.intp]],
    roles: Sequence[NDArray[np.intp]],
) -> NDArray[np.float64]:
    """For each trial, how much of a level its workload shows; the middle workload shows it as it is.

    Only trials whose level is `told` count. Whole networks err more than ops do, so noise is that of a role.
    """
    left = np.abs(deviations - before * levels)
    noise = np.empty_like(left)
    for group in roles:
        noise[group] = max(_LEAST_NOISE, MAD_TO_SIGMA * float(np.median(left[group])))
    weights = told * np.minimum(1.0, _USUAL * noise / np.maximum(left, 1e-12))
    slopes = []
    for group in workloads:
        prior = (noise[group[0]] / _SENSITIVITY_SD) ** 2
        weight = weights[group] / max(weights[group].sum(), 1e-12)
        level = levels[group] - (weight * levels[group]).sum()
        deviation = deviations[group] - (weight * deviations[group]).sum()
        along, across = weights[group] * level * deviation, weights[group] * level**2
        slopes.append((along.sum() + prior) / (across.sum() + prior))
    bounded = np.clip(slopes, *_SENSITIVITIES)
    found = np.empty_like(before)
    for group, slope in zip(workloads, bounded / np.median(bounded), strict=True):
        found[group] = slope
    return found


def _groups(names: Sequence[str]) -> list[NDArray[np.intp]]:
    """Where each name stands."""
    codes = np.unique(names, return_inverse=True)[1]
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def _neighbours(
    trials: Sequence[Trial], workloads: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where the neighbours of each trial stand, and what each weighs: 0 where it cannot tell a level."""
    workload = np.empty(len(trials), np.intp)
    for number, group in enumerate(workloads):
        workload[group] = number
    unit = np.unique([trial.unit for trial in trials], return_inverse=True)[1]
    times = np.array([trial.started for trial in trials])
    steps = np.array([step for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1) if step])
    places = np.arange(len(trials))[:, None] + steps
    there = (places >= 0) & (places < len(trials))
    places = np.clip(places, 0, len(trials) - 1)
    near = np.abs(times[places] - times[:, None]) <= _reach_s(times, unit)[:, None]
    others = (workload[places] != workload[:, None]) & (unit[places] == unit[:, None])
    return places, np.where(there & near & others, np.exp(-np.abs(steps) / _REACH), 0.0)


def _reach_s(times: NDArray[np.float64], unit: NDArray[np.intp]) -> NDArray[np.float64]:
    """How far, in seconds, a trial's neighbours may be: a few visits of its unit, where those take long."""
    found = np.full(times.size, _NEAR_S)
    for number in range(int(unit.max()) + 1):
        of_unit = np.flatnonzero(unit == number)
        if of_unit.size > 1:
            visit = float(np.median(np.diff(times[of_unit])))
            found[of_unit] = max(_NEAR_S, _NEAR_VISITS * visit)
    return found


def _weighted_medians(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The median of each row: the middle between what half of its weight lies below, and what above."""
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    below = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    half = below[:, -1:] / 2
    row = np.arange(values.shape[0])
    low = (below >= half * (1 - 1e-9)).argmax(axis=1)
    high = (below > half * (1 + 1e-9)).argmax(axis=1)
    middle: NDArray[np.float64] = (values[row, low] + values[row, high]) / 2
    return middle
