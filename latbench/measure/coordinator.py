"""What the units of a run share, behind one lock.

Lock discipline: `RunCoordinator` holds the only lock of a run, a condition that is notified of every
change. The ledger, the scheduler, the roster, the record and the progress meter know nothing of threads;
only methods of the coordinator reach them, with the lock held. The clock never changes, and the journal
has a lock of its own, which is always taken last.
"""

import threading
from collections.abc import Callable, Collection
from typing import Any

from latbench.device.base import Device
from latbench.errors import LatbenchError
from latbench.measure.clock import Clock, SessionClock
from latbench.measure.journal import Journal
from latbench.measure.ledger import MAX_FAILURES, ConvergenceStatus, Ledger
from latbench.measure.plan import Plan
from latbench.measure.progress import Phase, Progress, ProgressMeter
from latbench.measure.records import Run, RunState, Trial
from latbench.measure.report import RunReport, report_of
from latbench.measure.roster import UnitRoster
from latbench.measure.run_record import RunRecord
from latbench.measure.scheduler import Scheduler, Visit

#: The longest wait before a unit without work checks the budget again, seconds.
_CHECK_EVERY_S = 0.1


class RunCoordinator:
    """One session of a run. Its methods may be called from any thread.

    Attributes:
        plan, time, clock, run_id: never change.
        journal: has its own lock.
        over: whether all units are to stop.
        error: what ended the run early, or None.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        run: Run,
        progress: Callable[[Progress], None] | None,
        time: Clock,
    ) -> None:
        earlier = journal.trials(run.id)
        self.plan, self.journal, self.run_id, self.time = plan, journal, run.id, time
        self.clock = SessionClock(time, plan.settings.budget_s, run.wall_s)
        self.over = False
        self.error: BaseException | None = None
        self._changed = threading.Condition()
        self._ledger = Ledger(plan, earlier)
        self._scheduler = Scheduler(plan, self._ledger)
        self._roster = UnitRoster()
        self._record = RunRecord(journal, run)
        visits = sum(not trial.role.watches for trial in earlier)
        self._meter = ProgressMeter(self.clock, visits, progress)
        self._earlier = len(earlier)

    # Visits

    def take(self, unit: str) -> Visit | None:
        """The next visit for `unit`, or None if there is none now."""
        with self._changed:
            return self._scheduler.take(unit, self._roster.at_work)

    def give_back(self, visit: Visit) -> None:
        """`visit` was not completed: another unit may make it."""
        with self._changed:
            self._scheduler.give_back(visit)
            self._changed.notify_all()

    def end(self, visit: Visit, unit: str) -> None:
        """`unit` completed `visit`; its sentinel has still to confirm it."""
        with self._changed:
            self._scheduler.end(visit)
            self._meter.count_visit()
            self._roster.open_bracket(unit)
            self._changed.notify_all()

    def close_bracket(self, unit: str) -> None:
        """The sentinel of `unit` was visited after all its trials."""
        with self._changed:
            self._roster.close_bracket(unit)
            self._record.save(wall_s=self.clock.wall_s)
            self._changed.notify_all()

    def add(self, trial: Trial) -> None:
        """Add a trial that is in the journal."""
        with self._changed:
            self._ledger.add(trial)

    def taint(self, trials: list[int], reason: str) -> None:
        """Taint `trials` (ids), in the journal too."""
        with self._changed:
            self.journal.taint(trials, reason)
            self._ledger.taint(trials, reason)

    @property
    def round_number(self) -> int:
        """The round whose visits are handed out."""
        with self._changed:
            return self._scheduler.number

    @property
    def sentinel_every(self) -> int:
        """Visits of a unit between two visits to its sentinel, in this round."""
        with self._changed:
            return self._scheduler.sentinel_every

    @property
    def pending(self) -> bool:
        """Whether a workload needs more visits."""
        with self._changed:
            return self._pending

    @property
    def _pending(self) -> bool:
        return ConvergenceStatus.PENDING in self._ledger.statuses().values()

    # Earlier trials

    def visits(self, key: str, unit: str) -> int:
        """The number of visits of `unit` to a workload, failed ones included."""
        with self._changed:
            return self._ledger.visits(key, unit)

    def sentinel_medians(self, unit: str) -> tuple[float, ...]:
        """The medians of all visits of `unit` to its sentinel, milliseconds."""
        with self._changed:
            return tuple(self._ledger.sentinel_medians(unit))

    def slowdown_of(self, trials: Collection[int]) -> float | None:
        """How much slower `trials` (ids) are than other visits (`Ledger.slowdown_of`)."""
        with self._changed:
            return self._ledger.slowdown_of(trials)

    def has_given_up(self, key: str, unit: str) -> bool:
        """Whether a workload failed too often on `unit`."""
        with self._changed:
            return len(self._ledger.failures(key, unit)) >= MAX_FAILURES

    # Units

    def begin(self, unit: str) -> None:
        """`unit` starts to make visits."""
        with self._changed:
            self._roster.begin(unit)

    def drop_out(self, unit: str, error: LatbenchError, units: int) -> None:
        """`unit`, one of `units`, stops because of `error`.

        Raises:
            DeviceLost: no unit is left.
        """
        with self._changed:
            if self._roster.drop_out(unit, error):
                self._record.count_drop_out(unit)
            self._changed.notify_all()
            self._roster.require_some(units)

    def add_runner(self, device: Device, hello: dict[str, Any]) -> None:
        """Note how a runner introduced itself; raises as `RunRecord.add_runner`."""
        with self._changed:
            self._record.add_runner(device, self.plan.target.runtime, hello)

    def wait_for_work(self) -> bool:
        """Wait until there may be work; returns False if the run is over.

        It is over once nothing is pending or under way and every sentinel has confirmed its unit's trials.
        """
        with self._changed:
            if not (self._scheduler.under_way or self._roster.has_open_brackets or self._pending):
                self._ledger.estimate_slowdowns()
                if not self._pending:
                    self.finish()
            if not self.over:
                self.time.wait(self._changed, _CHECK_EVERY_S)
            return not self.over

    def finish(self, error: BaseException | None = None) -> None:
        """End the run for all units, because of `error` if there is one; only the first call counts."""
        with self._changed:
            if not self.over:
                self.over, self.error = True, error
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the run is over or its budget ends."""
        until = self.time.now() + seconds
        with self._changed:
            while not (self.over or self.clock.over_budget):
                left = until - self.time.now()
                if left <= 0:
                    return
                self.time.wait(self._changed, min(left, _CHECK_EVERY_S))

    # Reports

    def save(self, state: RunState) -> None:
        """Write the state of the run and the time it took into the journal."""
        with self._changed:
            self._record.save(state=state, wall_s=self.clock.wall_s)

    def tell_progress(self, phase: Phase) -> None:
        """Report how far the run is, unless that was done just now."""
        if self._meter.report is None:
            return
        with self._changed:
            if not self._meter.is_due(phase):
                return
            progress = self._meter.progress(phase, self._ledger)
        self._meter.report(progress)

    @property
    def trials(self) -> int:
        """The number of trials of the run so far."""
        with self._changed:
            return len(self._ledger.trials())

    def report(self) -> RunReport:
        """The report on the run so far."""
        with self._changed:
            return report_of(
                self.plan,
                self.journal.run(self.run_id),
                self._ledger,
                first=self._earlier,
                runners_started=self._record.runners_started,
                wall_s=self.clock.elapsed_s,
            )
