"""The convergence status of each workload of a run, computed from its trials alone.

Every trial is normalised to the run's baseline quarter (`latbench.measure.slowdown`) before anything is
computed from it. Slowdowns depend on later trials too, so they are estimated again now and then.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from latbench.measure import taint
from latbench.measure.moments import BASELINE_SHARE, MIN_NEIGHBOURS
from latbench.measure.plan import Plan, Role
from latbench.measure.records import Trial
from latbench.measure.slowdown import Slowdowns
from latbench.statistics import Summary, drift, median_ci95

#: A workload that failed this often is given up.
MAX_FAILURES = 3

#: A workload whose statistic has to use disturbed trials is visited up to this many times as often as it
#: needs at least: corrections have errors, which all its disturbed trials share.
_PATIENT_ROUNDS = 3

#: New trials after which slowdowns are estimated again: within a round, and in a later one.
_ESTIMATE_EVERY = 128
_ESTIMATE_MIN = 16
_ESTIMATE_SHARE = 50  # and at least one in this many, since an estimate over many trials is slow


class ConvergenceStatus(StrEnum):
    """Whether a workload needs more visits, or why it gets none.

    pending: it does. converged: its interval is narrow enough. exhausted: it had the largest number of
    visits that the plan allows. noisy: the plan's limit of tainted trials is reached. given up: it failed
    `MAX_FAILURES` times.
    """

    PENDING = "pending"
    CONVERGED = "converged"
    EXHAUSTED = "exhausted"
    NOISY = "noisy"
    GIVEN_UP = "given up"


@dataclass(frozen=True)
class Result(Summary):
    """The statistic of one workload's best trials.

    Attributes:
        tainted: number of tainted trials.
        distrusted: whether the statistic had to be computed from tainted trials.
    """

    tainted: int
    distrusted: bool


class Ledger:
    """The trials of a run so far, by workload. Not thread-safe."""

    def __init__(self, plan: Plan, trials: Iterable[Trial]) -> None:
        self._settings = plan.settings
        self._keys = [workload.key for workload in plan.workloads]
        self._trials: dict[str, dict[int, Trial]] = defaultdict(dict)
        self._medians: dict[int, float] = {}  # by trial, milliseconds
        self._rounds: set[tuple[str, int]] = set()
        self._visits: Counter[tuple[str, str]] = Counter()  # by workload and unit
        # What follows from a workload's trials and the slowdowns; dropped whenever either changes.
        self._half_widths: dict[str, float] = {}
        self._statuses: dict[str, ConvergenceStatus] = {}
        self._visits_left: dict[str, int] = {}
        self._slowdowns = Slowdowns()
        self._estimated_at = 0, 0  # the number of trials, and the round
        self._tainted_since = False
        self._sentinel: dict[str, list[float]] = {}  # medians of all its visits, by unit, ms
        self.last_round = 0
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Add a trial that is in the journal."""
        self._trials[trial.workload][trial.id] = trial
        self._rounds.add((trial.workload, trial.round))
        self._visits[trial.workload, trial.unit] += 1
        self.last_round = max(self.last_round, trial.round)
        if trial.failure is None:
            self._medians[trial.id] = trial.median_ms
            if trial.role is Role.SENTINEL:
                self._sentinel.setdefault(trial.unit, []).append(trial.median_ms)
        self._drop(trial.workload)

    def taint(self, trials: Collection[int], reason: str) -> None:
        """Taint `trials` (ids)."""
        self._tainted_since = True
        for key, by_id in self._trials.items():
            for number in by_id.keys() & set(trials):
                trial = by_id[number]
                reasons = [reason] if trial.taint is None else [trial.taint, reason]
                by_id[number] = replace(trial, taint=taint.joined(reasons))
                self._drop(key)

    def _drop(self, key: str) -> None:
        """Forget what followed from the trials of a workload."""
        for kept in (self._half_widths, self._statuses, self._visits_left):
            kept.pop(key, None)

    @property
    def slowdowns(self) -> Slowdowns:
        """The slowdowns estimated from all trials so far."""
        self.estimate_slowdowns()
        return self._slowdowns

    def estimate_slowdowns(self) -> None:
        """Estimate the slowdowns from all trials; only these decide whether a run is complete."""
        if self._estimated_at[0] == len(self._medians) and not self._tainted_since:
            return
        self._estimated_at, self._tainted_since = (len(self._medians), self.last_round), False
        self._slowdowns = Slowdowns.of(self.trials())
        for by_id in self._trials.values():
            by_id |= {number: self._slowdowns.judged(trial) for number, trial in by_id.items()}
        for kept in (self._half_widths, self._statuses, self._visits_left):
            kept.clear()

    def _estimate_if_due(self) -> None:
        """Estimate the slowdowns again if there are enough new trials."""
        trials, in_round = self._estimated_at
        new = len(self._medians) - trials
        due_in_later_round = max(_ESTIMATE_MIN, trials // _ESTIMATE_SHARE)
        if new >= (_ESTIMATE_EVERY if in_round == self.last_round else due_in_later_round):
            self.estimate_slowdowns()

    def sentinel_medians(self, unit: str) -> list[float]:
        """The medians of all visits to the sentinel on `unit`, milliseconds."""
        return self._sentinel.get(unit, [])

    def slowdown_of(self, trials: Collection[int]) -> float | None:
        """The median ratio of `trials` (ids) to the fastest quarter of other visits to their workloads.

        None if fewer than four of them have others.
        """
        ratios = []
        for by_id in self._trials.values():
            for number in by_id.keys() & trials:
                others = [
                    self._medians[one] for one in by_id if one != number and one in self._medians
                ]
                if others and number in self._medians:
                    ratios.append(
                        self._medians[number] / float(np.quantile(others, BASELINE_SHARE))
                    )
        return statistics.median(ratios) if len(ratios) >= MIN_NEIGHBOURS else None

    @property
    def drift(self) -> float | None:
        """The largest drift of the sentinel on any unit, relative; None without a sentinel."""
        return max(map(drift, self._sentinel.values()), default=None)

    def visits(self, key: str, unit: str) -> int:
        """The number of visits to a workload on `unit`, failed ones included."""
        return self._visits[key, unit]

    def visited(self, key: str, round_number: int) -> bool:
        """Whether a workload had its visit in a round."""
        return (key, round_number) in self._rounds

    def trials(self, key: str | None = None) -> list[Trial]:
        """The trials of a workload, or all."""
        if key is not None:
            return list(self._trials[key].values())
        return [trial for by_id in self._trials.values() for trial in by_id.values()]

    def failures(self, key: str, unit: str | None = None) -> list[Trial]:
        """The failed trials of a workload; if `unit` is given, only those on it."""
        failed = [trial for trial in self.trials(key) if trial.failure is not None]
        return [trial for trial in failed if unit is None or trial.unit == unit]

    def half_width(self, key: str) -> float:
        """Half the width of a workload's 95 % interval relative to its median, over trusted rounds.

        Infinite while there are fewer of them than the plan's `min_rounds`, or while they are disturbed and
        others may still be had.
        """
        self._estimate_if_due()
        if key not in self._half_widths:
            self._half_widths[key] = self._computed_half_width(key)
        return self._half_widths[key]

    def _computed_half_width(self, key: str) -> float:
        trials = self.trials(key)
        chosen = [trial for trial in self._slowdowns.chosen(trials) if trial.trusted]
        if len(chosen) < self._settings.min_rounds:
            return math.inf
        disturbed = sum(trial.id in self._slowdowns.disturbed for trial in chosen)
        if disturbed and len(trials) < _PATIENT_ROUNDS * self._settings.min_rounds:
            return math.inf
        medians = [self._medians[trial.id] / self._slowdowns.factor(trial) for trial in chosen]
        low, high = median_ci95(medians)
        return (high - low) / 2 / statistics.median(medians)

    def status(self, key: str) -> ConvergenceStatus:
        """The convergence status of a workload."""
        self._estimate_if_due()
        if key not in self._statuses:
            self._statuses[key] = self._computed_status(key)
        return self._statuses[key]

    def _computed_status(self, key: str) -> ConvergenceStatus:
        settings, trials = self._settings, self.trials(key)
        if self.half_width(key) <= settings.ci:
            return ConvergenceStatus.CONVERGED
        failed = len(self.failures(key))
        if failed >= MAX_FAILURES:
            return ConvergenceStatus.GIVEN_UP
        if len(trials) >= settings.max_rounds:
            return ConvergenceStatus.EXHAUSTED
        trusted = sum(trial.trusted for trial in trials)
        # While the units are fast, earlier slow moments are no reason to stop.
        tainted = sum(
            trial.taint is not None
            and (self._slowdowns.slow_now or not taint.is_slowdown(trial.taint))
            for trial in trials
        )
        if (
            tainted >= max(settings.max_retakes, trusted + 1)
            and tainted + trusted >= settings.min_rounds
        ):
            return ConvergenceStatus.NOISY
        return ConvergenceStatus.PENDING

    def statuses(self) -> dict[str, ConvergenceStatus]:
        """The convergence status of each workload of the plan, without sentinel and reference."""
        return {key: self.status(key) for key in self._keys}

    def visits_left(self, key: str) -> int:
        """The expected number of further visits to a workload: intervals narrow as 1 / sqrt(n)."""
        self._estimate_if_due()
        if key not in self._visits_left:
            self._visits_left[key] = self._computed_visits_left(key)
        return self._visits_left[key]

    def _computed_visits_left(self, key: str) -> int:
        if self.status(key) is not ConvergenceStatus.PENDING:
            return 0
        settings, trials = self._settings, self.trials(key)
        half_width = self.half_width(key)
        counted = sum(trial.trusted for trial in self._slowdowns.chosen(trials))
        if math.isinf(half_width):
            needed = settings.min_rounds - counted
        else:
            needed = math.ceil(counted * (half_width / settings.ci) ** 2) - counted
        return max(1, min(needed, settings.max_rounds - len(trials)))
