"""How slow a unit was at each trial of a run, so that trials of different moments can be compared.

A machine changes its speed while it is measured: with its clock, its heat, its neighbours. It does so for
everything at a time, and all trials show it: each is timed against its subject's own middle,

    ln(trial) = ln(subject) + ln(level at that moment) + noise,

and the level at a trial is the median of what its nearest neighbours in time, of other subjects, deviate.
Subjects and levels are found in turn, each from the other, by medians. Rounds visit subjects in orders of
their own, so what stands beside a trial is another choice each time, and no subject's own share of a
change settles on another. `bench/additivity.py` shows what it does.

Where several units take part, one may be faster than another, all the time and at everything. How much
is what their sentinels say.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latbench.measure.plan import Role
from latbench.measure.records import Trial

#: Neighbours on either side of a trial that tell its level, if they are that near: a level changes within
#: tenths of a second, and a visit takes some hundredths.
_NEIGHBOURS = 4
_NEAR_S = 5.0

#: Fewer than so many cannot tell a level from their own noise.
_LEAST = 4

_TURNS = 5  # of finding subjects and levels from each other; the third changes hardly anything


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
    """The trials of one subject that its statistic is made of.

    They are those that nothing speaks against; where there are none, those that are tainted.
    """
    timed = [trial for trial in trials if trial.failure is None]
    return [trial for trial in timed if trial.taint is None] or timed


def trial_factors(trials: Iterable[Trial]) -> dict[int, float]:
    """How slow its unit was at each trial that did not fail, by the trial's id, relative to the middle.

    That is the unit's factor times its level at that moment, relative to the median of its levels.
    Tainted trials tell of levels too. The reference, in which no engine takes part, does not; it is
    compared by itself, and its factor is its unit's.
    """
    timed = [trial for trial in trials if trial.failure is None]
    units = unit_factors(timed)
    factors = {trial.id: units.get(trial.unit, 1.0) for trial in timed}
    telling = [trial for trial in timed if trial.role is not Role.REFERENCE]
    telling.sort(key=lambda trial: (trial.unit, trial.started))
    for trial, level in zip(telling, np.exp(_levels(telling, factors)), strict=True):
        factors[trial.id] *= float(level)
    return factors


def levelled(trial: Trial, factors: Mapping[int, float]) -> Trial:
    """`trial` as it would have been at the middle level of the run, to the nanosecond."""
    factor = factors.get(trial.id, 1.0)
    if factor == 1:
        return trial
    return replace(trial, samples_ns=np.rint(trial.samples_ns / factor).astype(np.int64))


def _levels(trials: Sequence[Trial], factors: Mapping[int, float]) -> NDArray[np.float64]:
    """ln of the level at each trial, `factors` divided out; on every unit their median is 0.

    The trials stand by units, and in the order taken.
    """
    if not trials:
        return np.zeros(0)
    logs = np.log([trial.median_ms / factors[trial.id] for trial in trials])
    subjects = _groups([trial.subject for trial in trials])
    units = _groups([trial.unit for trial in trials])
    places, known = _neighbours(trials, subjects)
    enough = known.sum(axis=1) >= _LEAST
    levels = np.zeros(logs.size)
    for _ in range(_TURNS):
        deviations = logs.copy()
        for group in subjects:
            deviations[group] -= np.median((logs - levels)[group])
        levels = np.where(enough, _medians(np.where(known, deviations[places], np.inf)), 0.0)
    for group in units:
        told = group[enough[group]]
        if told.size:
            levels[told] -= np.median(levels[told])
    return levels


def _groups(names: Sequence[str]) -> list[NDArray[np.intp]]:
    """Where each name stands."""
    codes = np.unique(names, return_inverse=True)[1]
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def _neighbours(
    trials: Sequence[Trial], subjects: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where the neighbours of each trial stand, and which of them can tell its level."""
    subject = np.empty(len(trials), np.intp)
    for number, group in enumerate(subjects):
        subject[group] = number
    unit = np.unique([trial.unit for trial in trials], return_inverse=True)[1]
    times = np.array([trial.started for trial in trials])
    offsets = [step for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1) if step]
    places = np.arange(len(trials))[:, None] + np.array(offsets)
    there = (places >= 0) & (places < len(trials))
    places = np.clip(places, 0, len(trials) - 1)
    near = np.abs(times[places] - times[:, None]) <= _NEAR_S
    others = (subject[places] != subject[:, None]) & (unit[places] == unit[:, None])
    return places, there & near & others


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each row's finite values; infinity where there is none."""
    ordered = np.sort(rows, axis=1)
    counts = np.isfinite(rows).sum(axis=1)
    row = np.arange(rows.shape[0])
    low, high = (
        ordered[row, np.maximum(counts - 1, 0) // 2],
        ordered[row, counts // 2 % rows.shape[1]],
    )
    return np.where(counts > 0, (low + high) / 2, np.inf)
