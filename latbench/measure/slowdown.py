"""The slowdowns of a run, and what follows from them: which trials count, and which units are not steady.

Slowdowns are estimated from all trials of a run (`latbench.measure.moments`), and each trial is divided by
its own (`latbench.measure.factors`), so that trials of different moments can be compared.

A moment too slow to be compared taints its trials. That is never final, since what it is compared with
changes while a run lasts: a run that begins in a slow moment takes that for normal until it has seen a
faster one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latbench.measure import taint
from latbench.measure.factors import best_trials, estimate_factors, normalised
from latbench.measure.moments import BASELINE_SHARE, MOMENT_VISITS
from latbench.measure.plan import Role
from latbench.measure.records import Trial
from latbench.statistics import MIN_ROUNDS

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
        found = estimate_factors(timed)
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
    count = values.size // MOMENT_VISITS
    if count < _DRIFT_MOMENTS:
        return False
    moments = np.median(values[: count * MOMENT_VISITS].reshape(count, -1), axis=1)
    if moments.min() > 1 - _LEAST_DRIFT:
        return False
    ranks = moments.argsort().argsort()
    return abs(float(np.corrcoef(ranks, np.arange(count))[0, 1])) > _DRIFT_CORRELATION


def _fastest(trials: Sequence[Trial], levels: Mapping[int, float]) -> float:
    """The lowest slowdown that a unit had for a moment, relative to its baseline."""
    ordered = sorted(trials, key=lambda trial: (trial.started, trial.id))
    values = np.array([levels[trial.id] for trial in ordered])
    moment = min(MOMENT_VISITS, values.size)
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, moment), axis=1).min())


def _without_slowdown(trial: Trial) -> Trial:
    """`trial` without the taint of an earlier estimate."""
    return _with_taint(trial, 1.0)


def _with_taint(trial: Trial, level: float) -> Trial:
    if trial.taint is None and level <= 1 + taint.SLOWDOWN_TOLERANCE:
        return trial
    found = taint.of_slowdown(trial.taint, level)
    return trial if found == trial.taint else replace(trial, taint=found)
