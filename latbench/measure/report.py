"""The report on a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from latbench.errors import LatbenchError, RunnerFailed
from latbench.measure.evidence import Evidence
from latbench.measure.factors import unit_factors
from latbench.measure.ledger import ConvergenceStatus, Ledger, Result
from latbench.measure.plan import Plan
from latbench.measure.records import Failure, Run, RunState, Trial
from latbench.measure.taint import tally


@dataclass(frozen=True)
class UnitPart:
    """The part of one unit in a run.

    Attributes:
        trials, tainted, failed: number of its trials, of the tainted ones, of the failed ones.
        factor: its slowdown relative to the median unit, by which its trials were divided. None without a
            sentinel; its trials were then used unchanged.
        dropped_out: how often it dropped out.
    """

    trials: int
    tainted: int
    failed: int
    factor: float | None
    dropped_out: int


def unit_parts(run: Run, trials: Iterable[Trial]) -> dict[str, UnitPart]:
    """The part of each unit of `run`, whose trials are `trials`."""
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
    """The outcome of a run.

    Attributes:
        run: the run as the journal now holds it.
        statuses: the convergence status of each workload.
        results: the statistic of each workload that has one, sentinel and reference included.
        units: the part of each unit.
        drift: the largest drift of the sentinel on any unit, relative; None without one.
        failures: the last failure of each workload that failed.
        trials: number of trials, those of earlier sessions included.
        taken: number of trials of this session; 0 if nothing was left to measure.
        tainted: number of tainted trials.
        taints: number of trials per kind of taint, the most frequent first.
        failed: number of failed trials.
        runners_started: number of runners that this session started.
        timed_s: sum of the samples of all trials, seconds.
        session_timed_s, session_wall_s: sum of the samples, and wall time, of this session, seconds.
    """

    run: Run
    statuses: Mapping[str, ConvergenceStatus]
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
            RunnerFailed: all its visits failed; the error is that of the last one.
            LatbenchError: the time limit was reached before it was visited.
        """
        if key in self.results:
            return self.results[key]
        if key in self.failures:
            failure = self.failures[key]
            raise RunnerFailed(failure.stage, failure.kind, failure.reason, model=key)
        raise LatbenchError(
            f"{key} was not measured within the time limit", hint="allow more time with --budget"
        )

    def with_status(self, *which: ConvergenceStatus) -> tuple[str, ...]:
        """The keys of the workloads that have one of these statuses, sorted."""
        return tuple(sorted(key for key, status in self.statuses.items() if status in which))

    @property
    def unconverged(self) -> tuple[str, ...]:
        """The workloads whose interval is wider than the plan's target."""
        return tuple(
            sorted(set(self.statuses) - set(self.with_status(ConvergenceStatus.CONVERGED)))
        )

    @property
    def distrusted(self) -> tuple[str, ...]:
        """The workloads that have tainted trials only."""
        return tuple(sorted(key for key, result in self.results.items() if result.distrusted))

    @property
    def given_up(self) -> tuple[str, ...]:
        """The workloads that failed too often."""
        return self.with_status(ConvergenceStatus.GIVEN_UP)


def report_of(
    plan: Plan,
    run: Run,
    ledger: Ledger,
    *,
    first: int = 0,
    runners_started: int = 0,
    wall_s: float = 0.0,
) -> RunReport:
    """The report on `run`, of which `first` trials are of earlier sessions."""
    slowdowns = ledger.slowdowns
    trials = sorted(ledger.trials(), key=lambda trial: trial.id)
    evidence = Evidence.of(trials, slowdowns)
    results = {
        workload.key: result
        for workload in plan.all_workloads
        if (result := evidence.result(ledger.trials(workload.key))) is not None
    }
    failures = {trial.workload: trial.failure for trial in trials if trial.failure is not None}
    return RunReport(
        run=run,
        statuses=ledger.statuses(),
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
