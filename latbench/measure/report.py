"""What `measure` tells while it runs, and when it ends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from latbench.errors import LatbenchError, RunnerFailed
from latbench.measure.ledger import ConvergenceStatus, Ledger, Result, result_of
from latbench.measure.plan import Plan
from latbench.measure.records import Failure, Run, RunState, Trial
from latbench.measure.slowdown import unit_factors
from latbench.measure.taint import tally


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        phase: prepare (a runner starts, artifacts are sent), measure, or done.
        done: visits to workloads so far, those of earlier sessions included.
        expected: `done` and the visits that are probably still needed.
        settled: workloads that need no more visits.
        workloads: how many there are, the sentinel excepted.
        tainted: trials distrusted so far.
        elapsed_s: seconds since this session began.
        remaining_s: seconds that are probably left, None before the first visit.
    """

    phase: Literal["prepare", "measure", "done"]
    done: int
    expected: int
    settled: int
    workloads: int
    tainted: int
    elapsed_s: float
    remaining_s: float | None


@dataclass(frozen=True)
class UnitPart:
    """What one unit did in a run.

    Args:
        trials, tainted, failed: how many trials it took, and how many are distrusted or failed.
        factor: how slow it is relative to the middle of all units; its trials were divided by it. None
            where no sentinel told, so they were taken as they are.
        dropped_out: how often it went away, or could not go on, and others got its work.
    """

    trials: int
    tainted: int
    failed: int
    factor: float | None
    dropped_out: int


def unit_parts(run: Run, trials: Iterable[Trial]) -> dict[str, UnitPart]:
    """What each unit that takes part in `run` did; `trials` are those of the run, as journalled."""
    trials = list(trials)
    factors = unit_factors(trials)
    noted = run.device.get("units", {})
    parts = {}
    for unit in run.units:
        own = [trial for trial in trials if trial.unit == unit]
        parts[unit] = UnitPart(
            trials=len(own),
            tainted=sum(trial.taint is not None for trial in own),
            failed=sum(trial.failure is not None for trial in own),
            factor=factors.get(unit),
            dropped_out=noted.get(unit, {}).get("dropped_out", 0),
        )
    return parts


@dataclass(frozen=True)
class RunReport:
    """What came of a plan.

    Args:
        run: the run as the journal now holds it.
        standings: where each workload stands (`latbench.measure.ledger.ConvergenceStatus`).
        results: the statistic of each workload that has one, the sentinel included.
        units: what each unit did.
        drift: how far the sentinel's level wandered, relative, on the unit where it did most; None
            without one.
        failures: why workloads failed last, by key; those given up are among them.
        trials: trials in the journal, those of earlier sessions included.
        taken: how many of them this session took; 0 if there was nothing left to measure.
        tainted: how many are distrusted.
        taints: how many for each kind of reason, the commonest first.
        failed: how many failed.
        runners_started: runners that this session started.
        timed_s: seconds that the samples of all trials add up to.
        session_timed_s, session_wall_s: samples and wall time of this session alone.
    """

    run: Run
    standings: Mapping[str, ConvergenceStatus]
    results: Mapping[str, Result]
    units: Mapping[str, UnitPart]
    drift: float | None
    failures: Mapping[str, Failure]
    trials: int
    taken: int
    tainted: int
    taints: Mapping[str, int]
    failed: int
    runners_started: int
    timed_s: float
    session_timed_s: float
    session_wall_s: float

    @property
    def complete(self) -> bool:
        """Whether no workload needs more visits."""
        return self.run.state is RunState.FINISHED

    def result(self, key: str) -> Result:
        """The statistic of the workload `key`.

        Raises:
            RunnerFailed: it failed at every visit; this is why it did the last time.
            LatbenchError: the budget ended before it was visited.
        """
        if key in self.results:
            return self.results[key]
        if key in self.failures:
            failure = self.failures[key]
            raise RunnerFailed(failure.stage, failure.kind, failure.reason)
        raise LatbenchError(
            f"{key} was not measured before the budget ended", hint="allow more, with --budget"
        )

    def standing(self, *which: ConvergenceStatus) -> tuple[str, ...]:
        """The keys of the workloads that stand so, sorted."""
        return tuple(sorted(key for key, value in self.standings.items() if value in which))

    @property
    def unconverged(self) -> tuple[str, ...]:
        """The workloads whose interval is wider than the plan asks for, whatever the reason."""
        return tuple(sorted(set(self.standings) - set(self.standing(ConvergenceStatus.CONVERGED))))

    @property
    def distrusted(self) -> tuple[str, ...]:
        """The workloads that only tainted trials tell of."""
        return tuple(sorted(key for key, result in self.results.items() if result.distrusted))

    @property
    def given_up(self) -> tuple[str, ...]:
        """The workloads that failed too often."""
        return self.standing(ConvergenceStatus.GIVEN_UP)


def report_of(
    plan: Plan,
    run: Run,
    ledger: Ledger,
    *,
    first: int = 0,
    runners_started: int = 0,
    wall_s: float = 0.0,
) -> RunReport:
    """Report on `run`; `first` trials of it were there before this session."""
    levels = ledger.levels
    trials = sorted(ledger.trials(), key=lambda trial: trial.id)
    results = {
        workload.key: result
        for workload in plan.all_workloads
        if (result := result_of(ledger.trials(workload.key), levels)) is not None
    }
    failures = {trial.workload: trial.failure for trial in trials if trial.failure is not None}
    return RunReport(
        run=run,
        standings=ledger.standings(),
        results=results,
        units=unit_parts(run, trials),
        drift=ledger.drift,
        failures=failures,
        trials=len(trials),
        taken=len(trials) - first,
        tainted=sum(trial.taint is not None for trial in trials),
        taints=tally(trial.taint for trial in trials),
        failed=sum(trial.failure is not None for trial in trials),
        runners_started=runners_started,
        timed_s=sum(trial.timed_s for trial in trials),
        session_timed_s=sum(trial.timed_s for trial in trials[first:]),
        session_wall_s=wall_s,
    )
