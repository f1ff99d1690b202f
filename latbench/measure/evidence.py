"""The statistic of each workload, and the reasons to doubt it, from all trials of a run.

`latbench.statistics.summarise` assumes that a workload's rounds are independent draws from one
distribution, read from a clock that is finer than they differ. Some of what may be otherwise is visible in
one workload's rounds only, some only in all trials of a run together. Where it can be told how far an
interval must reach to be honest, it is widened:

    a coarse timer     by one tick on either side: no interval is narrower than its timer allows
    a change           over what the rounds were before and after
    samples that rise  down to where visits begin, which is where an inference in a network is
    a common error     by the uncertainty of what all rounds share, which they cannot show: the sensitivity of
                       the workload to slow moments, and the run's baseline, which is a quantile of slowdowns
                       and off by up to their standard error
    lasting deviations by sqrt((1 + r) / (1 - r)), the factor for the mean of an AR(1) process with lag-1
                       autocorrelation r (von Storch and Zwiers, "Statistical Analysis in Climate Research",
                       1999, section 6.6); r is that of all workloads together, since few rounds of one
                       workload cannot show it

Whether a run goes on never depends on it: more rounds cure none of these.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latbench.measure import taint
from latbench.measure.diagnostics import LEAST_RISE, heating, rises, warnings_of
from latbench.measure.divided import is_divided
from latbench.measure.ledger import Result
from latbench.measure.order import autocorrelation, gradual_change, sudden_change
from latbench.measure.records import Samples, Trial
from latbench.measure.slowdown import Slowdowns
from latbench.measure.timer import tick_of
from latbench.quantiles import Z975
from latbench.statistics import MAD_TO_SIGMA, MIN_ROUNDS, Summary, median_of, summarise

#: Autocorrelation of all workloads together is evidence beyond this many standard deviations of chance.
_LASTING_Z = 4.0

#: Half the interval of what all rounds of a run have in common, relative: its baseline, and the order of its
#: placements. No network repeats to better than a few tenths of a per cent.
_REPEATABLE = 0.003

#: A rise within visits of at least so many workloads together is evidence beyond so many standard errors.
_RISING_WORKLOADS = 8
_RISING_Z = 5.0

#: Intervals grow by no more than this: a stronger dependence has a warning of its own.
_MOST_LASTING = 0.8

#: The warnings of entries whose unit was seen faster than at its baseline, and of all entries of a run in
#: which some ops changed while others did not.
UNSTEADY, DIVIDED = "unsteady", "divided"


@dataclass(frozen=True)
class Evidence:
    """What all trials of a run show about the statistic of each workload.

    Attributes:
        slowdowns: at each trial.
        ticks_ns: the tick of each unit's clock, nanoseconds, as far as it can be seen.
        rise: by how much samples rise within visits to all workloads together, relative; 0 if they do not.
        lasting: the lag-1 autocorrelation of rounds that workloads have in common, 0 if there is none.
        divided: whether some ops changed while others did not.
    """

    slowdowns: Slowdowns = field(default_factory=Slowdowns)
    ticks_ns: Mapping[str, float] = field(default_factory=dict)
    rise: float = 0.0
    lasting: float = 0.0
    divided: bool = False

    @classmethod
    def of(cls, trials: Iterable[Trial], slowdowns: Slowdowns | None = None) -> "Evidence":
        """The evidence in all trials of a run; slowdowns are estimated unless they are given."""
        timed = [trial for trial in trials if trial.failure is None]
        slowdowns = Slowdowns.of(timed) if slowdowns is None else slowdowns
        by_workload: dict[str, list[Trial]] = defaultdict(list)
        for trial in timed:
            by_workload[trial.workload].append(trial)
        return cls(
            slowdowns,
            _ticks(timed),
            _rise(by_workload.values()),
            _lasting(slowdowns.best(its) for its in by_workload.values()),
            is_divided(timed, slowdowns),
        )

    def result(self, trials: Iterable[Trial]) -> Result | None:
        """The statistic of one workload's trials at the baseline, or None if all trials failed."""
        trials = list(trials)
        best = self.slowdowns.best(trials)
        if not best:
            return None
        rounds = [trial.samples_ns for trial in best]
        summary = summarise(rounds)
        shared = [abs(self.slowdowns.shared_errors.get(trial.id, 0.0)) for trial in best]
        common = math.hypot(_REPEATABLE, self.slowdowns.error, Z975 * median_of(shared))
        ci95 = self._widened(
            summary, rounds, common, self._rise_of(trials, best), self._tick_ns(best)
        )
        return Result(
            **vars(replace(summary, ci95=ci95)),
            tainted=sum(self.slowdowns.judged(trial).taint is not None for trial in trials),
            distrusted=best[0].taint is not None,
        )

    def warnings(self, trials: Iterable[Trial]) -> tuple[str, ...]:
        """The warnings about the statistic of one workload's trials, one of which has samples, sorted."""
        trials = list(trials)
        best = self.slowdowns.best(trials)
        found = set(warnings_of([trial.samples_ns for trial in best], self._tick_ns(best)))
        if self._rise_of(trials, best) > LEAST_RISE:
            found.add("heating")
        if any(trial.unit in self.slowdowns.unsteady for trial in best):
            found.add(UNSTEADY)
        if self.divided:
            found.add(DIVIDED)
        if best[0].taint is not None:
            found.add("distrusted")
        return tuple(sorted(found))

    def _rise_of(self, trials: Iterable[Trial], best: Iterable[Trial]) -> float:
        """By how much samples rise within the visits of one workload, relative; 0 if they do not.

        `best` are the visits of its statistic. Others that are tainted because their samples rise are
        evidence too, and the best that there is.
        """
        known = {one.id for one in best}
        rising = [
            one.samples_ns
            for one in trials
            if one.id in known or (one.taint is not None and taint.is_rise(one.taint))
        ]
        return max(self.rise, heating(rising) or 0.0)

    def _tick_ns(self, best: Iterable[Trial]) -> float:
        """The coarsest tick that the statistic of these trials was read with, nanoseconds."""
        return max((self.ticks_ns.get(trial.unit, 1.0) for trial in best), default=1.0)

    def _widened(
        self,
        summary: Summary,
        rounds: Sequence[Samples],
        common: float,
        rise: float,
        tick_ns: float,
    ) -> tuple[float, float]:
        """The interval, as far as it must reach; `common` is half that of errors common to all rounds."""
        ms, ci95 = summary.ms, summary.ci95
        factor = math.sqrt((1 + self.lasting) / (1 - self.lasting))
        below = math.hypot(factor * (ms - ci95[0]), common * ms)
        above = math.hypot(factor * (ci95[1] - ms), common * ms)
        low, high = ms - below, ms + above
        medians = [median_of(samples) / 1e6 for samples in rounds]
        for change in sudden_change(medians), gradual_change(medians):
            if change is not None:
                low = min(low, min(change.before, change.after) - below)
                high = max(high, max(change.before, change.after) + above)
        low *= 1 - rise
        return max(low - tick_ns / 1e6, 1e-3 * ms), high + tick_ns / 1e6


def _ticks(trials: Iterable[Trial]) -> dict[str, float]:
    """The tick of the clock of each unit, nanoseconds."""
    samples: dict[str, dict[str, list[Samples]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        samples[trial.unit][trial.workload].append(trial.samples_ns)
    return {unit: tick_of(list(by_workload.values())) for unit, by_workload in samples.items()}


def _rise(workloads: Iterable[Sequence[Trial]]) -> float:
    """The median rise within visits over all workloads; 0 if it may be chance, or if samples fall."""
    each = [rises([one.samples_ns for one in its if one.taint is None]) for its in workloads]
    means = np.array([statistics.fmean(found) for found in each if found])
    if means.size < _RISING_WORKLOADS:
        return 0.0
    middle = float(np.median(means))
    error = MAD_TO_SIGMA * 1.25 * float(np.median(np.abs(means - middle))) / math.sqrt(means.size)
    return 1 - math.exp(-middle) if middle > _RISING_Z * error else 0.0


def _lasting(workloads: Iterable[Sequence[Trial]]) -> float:
    """The autocorrelation of the round medians of all `workloads` together; 0 if it may be chance."""
    found = [
        autocorrelation([trial.median_ms for trial in best])
        for best in workloads
        if len(best) >= MIN_ROUNDS
    ]
    if not found or sum(one.z for one in found) <= _LASTING_Z * math.sqrt(len(found)):
        return 0.0
    return min(_MOST_LASTING, sum(one.lag1 for one in found) / len(found))
