"""Where each workload of a run stands, computed from its trials alone.

Every trial is brought to the calm level of the run (`latbench.measure.slowdown`) before it is made anything
of. Levels follow from later trials too, so while a run lasts they are found anew now and then.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from latbench.measure.plan import Plan, Role
from latbench.measure.records import Trial
from latbench.measure.slowdown import Levels
from latbench.statistics import Summary, drift, median_ci95, summarise

#: A workload that failed this often is given up.
MAX_FAILURES = 3

#: Trials after which levels are found anew within a round, and in another one.
_LEVELLED_EVERY = 128
_LEVELLED_LEAST = 16
_LEVELLED_SHARE = 50  # and no fewer than one in so many, since many take long


class ConvergenceStatus(StrEnum):
    """Whether a workload needs more visits, or why it gets none.

    pending: it does; converged: its interval is narrow enough; exhausted: it was visited as often
    as a plan allows; noisy: its trials were tainted more often than a plan allows; given up: it
    failed `MAX_FAILURES` times.
    """

    PENDING = "pending"
    CONVERGED = "converged"
    EXHAUSTED = "exhausted"
    NOISY = "noisy"
    GIVEN_UP = "given up"


@dataclass(frozen=True)
class Result(Summary):
    """The statistic of one workload's best trials; `tainted` counts those that are distrusted.

    `distrusted` says that no other trials were left to make it of.
    """

    tainted: int
    distrusted: bool


def result_of(trials: Iterable[Trial], levels: Levels) -> Result | None:
    """Return the statistic of one workload's trials at the calm level, or None where none succeeded."""
    trials = list(trials)
    best = levels.best(trials)
    if not best:
        return None
    summary = summarise([trial.samples_ns for trial in best])
    return Result(
        **vars(summary),
        tainted=sum(trial.taint is not None for trial in trials),
        distrusted=best[0].taint is not None,
    )


class Ledger:
    """The trials of a run so far, by workload."""

    def __init__(self, plan: Plan, trials: Iterable[Trial]) -> None:
        self._settings = plan.settings
        self._keys = [workload.key for workload in plan.workloads]
        self._trials: dict[str, dict[int, Trial]] = defaultdict(dict)
        self._medians: dict[int, float] = {}  # by trial, milliseconds
        self._rounds: set[tuple[str, int]] = set()
        self._visits: Counter[tuple[str, str]] = Counter()  # by workload and unit
        self._half_widths: dict[str, float] = {}  # forgotten whenever a workload's trials change
        self._levels = Levels()
        self._levelled_at = 0, 0  # how many trials there were, and in which round
        self._tainted_since = False
        self._sentinel: dict[str, list[float]] = {}  # medians of all its visits, by unit, ms
        self.last_round = 0
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Take note of a trial that the journal holds."""
        self._trials[trial.workload][trial.id] = trial
        self._rounds.add((trial.workload, trial.round))
        self._visits[trial.workload, trial.unit] += 1
        self.last_round = max(self.last_round, trial.round)
        if trial.failure is None:
            self._medians[trial.id] = trial.median_ms
            if trial.role is Role.SENTINEL:
                self._sentinel.setdefault(trial.unit, []).append(trial.median_ms)
        self._half_widths.pop(trial.workload, None)

    def taint(self, trials: Collection[int], reason: str) -> None:
        """Take note that `trials` (ids) are distrusted."""
        self._tainted_since = True
        for key, by_id in self._trials.items():
            for number in by_id.keys() & set(trials):
                trial = by_id[number]
                taint = reason if trial.taint is None else f"{trial.taint}; {reason}"
                by_id[number] = replace(trial, taint=taint)
                self._half_widths.pop(key, None)

    @property
    def levels(self) -> Levels:
        """The levels that all trials so far tell."""
        self.relevel()
        return self._levels

    def _relevel_now_and_then(self) -> None:
        """Find the levels anew, where enough trials came since that was done."""
        trials, in_round = self._levelled_at
        more = len(self._medians) - trials
        least = max(_LEVELLED_LEAST, trials // _LEVELLED_SHARE)
        if more >= (_LEVELLED_EVERY if in_round == self.last_round else least):
            self.relevel()

    def relevel(self) -> None:
        """Find the levels anew, from all trials; whether a run is over is decided by these alone."""
        if self._levelled_at[0] == len(self._medians) and not self._tainted_since:
            return
        self._levelled_at, self._tainted_since = (len(self._medians), self.last_round), False
        self._levels = Levels.of(self.trials())
        self._half_widths.clear()

    def sentinel_levels(self, unit: str) -> list[float]:
        """The medians of all visits to the sentinel on `unit`, milliseconds."""
        return self._sentinel.get(unit, [])

    @property
    def drift(self) -> float | None:
        """How far the sentinel's level wandered, on the unit where it did most; None without one."""
        return max(map(drift, self._sentinel.values()), default=None)

    def visits(self, key: str, unit: str) -> int:
        """How often a workload was visited on `unit`, whatever came of it."""
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
        """The trials of a workload that failed; those on one unit, if it is given."""
        failed = [trial for trial in self.trials(key) if trial.failure is not None]
        return [trial for trial in failed if unit is None or trial.unit == unit]

    def half_width(self, key: str) -> float:
        """Half the width of a workload's interval relative to its median, over trusted rounds.

        Infinite as long as there are fewer of them than the plan asks for at least.
        """
        self._relevel_now_and_then()
        if key not in self._half_widths:
            self._half_widths[key] = self._computed_half_width(key)
        return self._half_widths[key]

    def _computed_half_width(self, key: str) -> float:
        trials = self.trials(key)
        if sum(trial.trusted for trial in trials) < self._settings.min_rounds:
            return math.inf
        medians = [
            self._medians[trial.id] / self._levels.factor(trial)
            for trial in self._levels.chosen(trials)
        ]
        low, high = median_ci95(medians)
        return (high - low) / 2 / statistics.median(medians)

    def standing(self, key: str) -> ConvergenceStatus:
        """Where a workload stands."""
        settings, trials = self._settings, self.trials(key)
        if self.half_width(key) <= settings.ci:
            return ConvergenceStatus.CONVERGED
        failed = len(self.failures(key))
        if failed >= MAX_FAILURES:
            return ConvergenceStatus.GIVEN_UP
        if len(trials) >= settings.max_rounds:
            return ConvergenceStatus.EXHAUSTED
        trusted = sum(trial.trusted for trial in trials)
        tainted = len(trials) - failed - trusted
        if (
            tainted >= max(settings.max_retakes, trusted + 1)
            and tainted + trusted >= settings.min_rounds
        ):
            return ConvergenceStatus.NOISY
        return ConvergenceStatus.PENDING

    def standings(self) -> dict[str, ConvergenceStatus]:
        """Where each workload of the plan stands, the sentinel excepted."""
        return {key: self.standing(key) for key in self._keys}

    def visits_left(self, key: str) -> int:
        """How many more visits a workload will probably need: intervals narrow as 1 / sqrt(n)."""
        if self.standing(key) is not ConvergenceStatus.PENDING:
            return 0
        settings, trials = self._settings, self.trials(key)
        half_width = self.half_width(key)
        counted = sum(trial.trusted for trial in self._levels.chosen(trials))
        if math.isinf(half_width):
            needed = settings.min_rounds - counted
        else:
            needed = math.ceil(counted * (half_width / settings.ci) ** 2) - counted
        return max(1, min(needed, settings.max_rounds - len(trials)))
