"""The work of one unit in a run: visits to workloads, to its sentinel, and readings of its conditions.

Every trial is committed to the journal before it is used, so a crash of a runner costs the trial in flight
only. A trial with evidence against it is tainted: it stays in the journal, and its workload is visited
again in a later round, within the plan's limits.
"""

import math
import statistics
from collections.abc import Callable

import numpy as np

from latbench.device.base import Device
from latbench.device.conditions import Conditions
from latbench.device.protocol.messages import RunReply
from latbench.errors import RunnerFailed
from latbench.measure import taint
from latbench.measure.coordinator import RunCoordinator
from latbench.measure.ledger import MAX_FAILURES
from latbench.measure.moments import BASELINE_SHARE
from latbench.measure.plan import Role, Workload
from latbench.measure.records import Failure, Samples, Trial
from latbench.measure.runner_pool import RunnerPool
from latbench.measure.scheduler import Visit

#: Visits to the sentinel before the first workload: a few are needed before one can be called slow.
_OPENING_VISITS = 3

#: The first pause before a slow sentinel is visited again, seconds; each further pause is twice as
#: long. A short disturbance ends within the first few; a hot phone needs the long ones.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 16.0

#: The share of a run's budget that a unit may wait.
_WAITING_SHARE = 0.2

#: Readings of conditions between two visits to the sentinel may take this share of the time. On a host, where
#: one takes a millisecond, conditions are then read five times a second; on a phone with the sentinel only.
_READING_SHARE = 0.005
_PROBE_READINGS = 3

#: The reference may take this share of a unit's time once its visits took longer than this many seconds: a
#: slow or emulated phone would do little else.
_REFERENCE_SHARE = 0.25
_REFERENCE_FREE_S = 2.0

#: The stages at which a runner fails before it accepts requests.
_NOT_STARTED = ("start", "hello")

_NO_SAMPLES: Samples = np.empty(0, np.int64)


class UnitWorker:
    """One unit of a run; see `work`. Its state survives an absence of the unit.

    Args:
        visited: called after every visit to a workload.
    """

    def __init__(self, run: RunCoordinator, device: Device, visited: Callable[[], None]) -> None:
        self.name = device.unit
        self._run, self._visited = run, visited
        self._plan = run.plan
        self._pool = RunnerPool(run.plan, device, lambda hello: run.add_runner(device, hello))
        self.starts = 0  # how often it got as far as visiting workloads
        self._since_sentinel: list[int] = []  # ids of trials
        self._visits_since_sentinel = 0
        self._visits_since_reference = 0
        self._reference_s = 0.0  # that its visits took
        self._opened = run.time.now()
        self._since_reading: list[int] = []
        self._waited_s = 0.0
        self._reading: tuple[int, Conditions] | None = None  # the last one, and its id
        self._reading_s = 0.0  # that one takes
        self._read_at = 0.0  # when the last one was complete, by the run's clock
        self._reading_failures = 0

    def work(self) -> None:
        """Make visits until the run needs no more, is over, or its budget ends.

        A visit that cannot be completed is given back.

        Raises:
            DeviceUnavailable: the unit cannot be reached; `DeviceLost` if it went away meanwhile.
            RunnerFailed: no runner can be started. Failures of a running one are journalled instead.
            OutputFailed: the journal cannot be written.
            JournalRefused: the run was measured with another version of the runtime.
        """
        by_force = True
        try:
            self._open()
            self._visit_until_done()
            by_force = self._run.over and self._run.error is not None
        finally:
            self._pool.close(by_force=by_force)

    def abandon(self) -> None:
        """Kill the unit's runners from another thread; `work` then raises."""
        self._pool.abandon()

    def _open(self) -> None:
        self._pool.send()
        self._probe()
        known = len(self._run.sentinel_medians(self.name))
        for _ in range(max(1, _OPENING_VISITS - known)):
            if not self._run.over:
                self._close_bracket()
        self._run.begin(self.name)
        self.starts += 1

    def _visit_until_done(self) -> None:
        while not self._run.over:
            if self._run.clock.over_budget:
                if self._visits_since_sentinel:
                    self._close_bracket()
                return
            if self._visits_since_sentinel >= self._run.sentinel_every:
                self._close_bracket()
            visit = self._run.take(self.name)
            if visit is not None:
                self._make(visit)
            elif self._visits_since_sentinel:
                # The last trials count only once the sentinel has confirmed them.
                self._close_bracket()
            elif not self._run.wait_for_work():
                return

    def _make(self, visit: Visit) -> None:
        try:
            self._visit(visit.workload, visit.round)
        except BaseException:
            self._run.give_back(visit)
            raise
        self._visits_since_sentinel += 1
        self._visits_since_reference += 1
        self._run.end(visit, self.name)
        self._visited()

    def _visit(self, workload: Workload, round_number: int) -> Trial:
        """Time `workload` once and commit the trial."""
        slot = self._slot_of(workload)
        is_sentinel = workload.role is Role.SENTINEL
        reasons: list[str] = []
        samples, clocks, failure = _NO_SAMPLES, None, None
        now = self._run.time.now
        started, clock = self._run.time.date(), now()
        try:
            handle = self._pool.load(workload, slot)
            clock = now()
            reply = self._pool.run(workload, handle, slot)
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED or self._run.over:
                raise
            failure = Failure(error.stage, error.kind, error.reason)
        else:
            samples, clocks = _arrays_of(reply)
            reasons = taint.of_cores(self._plan.target.cores, reply.cores_observed)
            reasons += taint.of_samples(samples, clocks)
            reasons += taint.of_waiting(reply.waited_ms, now() - clock)
        duration_s = now() - clock
        trial = self._run.journal.add_trial(
            self._run.run_id,
            workload,
            round_number,
            unit=self.name,
            slot=slot,
            samples_ns=samples,
            clocks_khz=clocks,
            started=started,
            duration_s=duration_s,
            warmups=self._plan.settings.warmups_of(workload.role),
            before=None if self._reading is None else self._reading[0],
            taint=taint.joined(reasons),
            failure=failure,
        )
        self._run.add(trial)
        self._since_reading.append(trial.id)
        if not is_sentinel:
            self._since_sentinel.append(trial.id)
        if self._reading_s < _READING_SHARE * (self._run.time.now() - self._read_at):
            self._read()
        return trial

    def _slot_of(self, workload: Workload) -> int:
        """The runner slot of the next visit: workloads alternate between all, the sentinel keeps one."""
        if workload.role is Role.SENTINEL:
            return 0
        return self._run.visits(workload.key, self.name) % self._plan.settings.runners

    # The sentinel and the reference

    def _close_bracket(self) -> None:
        """Visit the sentinel, and wait while the unit is slow.

        A slow sentinel is visited again at once: a single bad visit is an outlier. Then the unit pauses,
        each time longer, until the sentinel is back or the run's patience is spent. Which trials were taken
        too slowly to be used, all trials of the run tell (`latbench.measure.slowdown`).
        """
        round_number = self._run.round_number
        pause = 0.0
        while self._is_slow(round_number) and not self._run.over:
            self._run.pause(pause)
            self._waited_s += pause
            left = self._patience_s - self._waited_s
            if left <= 0 or self._run.clock.over_budget:
                break
            pause = min(max(_FIRST_PAUSE_S, 2 * pause), _LONGEST_PAUSE_S, left)
        self._since_sentinel = []
        self._visit_reference(round_number)
        self._visits_since_sentinel = 0
        self._read()
        self._run.close_bracket(self.name)

    @property
    def _patience_s(self) -> float:
        """The longest wait for a slow unit, seconds: a run must not spend its budget on waiting."""
        settings = self._plan.settings
        if settings.budget_s is None:
            return settings.cool_down_s
        return min(settings.cool_down_s, _WAITING_SHARE * settings.budget_s)

    def _is_slow(self, round_number: int) -> bool:
        """Visit the sentinel once; returns whether it and the trials since its last visit are slow.

        The sentinel is compared with its fastest quarter, as all trials are, so that a run that begins in a
        slow moment does not take that for normal.
        """
        sentinel = self._plan.sentinel
        if sentinel is None or self._run.has_given_up(sentinel.key, self.name):
            return False
        medians = self._run.sentinel_medians(self.name)
        trial = self._visit(sentinel, round_number)
        if trial.failure is not None or not medians:
            return False
        baseline = float(np.quantile(medians, BASELINE_SHARE))
        if trial.median_ms <= (1 + taint.SLOWDOWN_TOLERANCE) * baseline:
            return False
        # What changed only the sentinel is no reason to wait.
        others = self._run.slowdown_of(self._since_sentinel)
        return others is None or others > math.sqrt(1 + taint.SLOWDOWN_TOLERANCE)

    def _visit_reference(self, round_number: int) -> None:
        """Visit the reference, in the next slot each time; what taints its neighbours taints it.

        It is due as often as the sentinel while many workloads are pending, and less often if it would
        take more than its share of the unit's time.
        """
        reference, since = self._plan.reference, self._visits_since_reference
        if reference is None or self._run.has_given_up(reference.key, self.name):
            return
        share_s = _REFERENCE_SHARE * (self._run.time.now() - self._opened)
        if self._reference_s > max(_REFERENCE_FREE_S, share_s):
            return
        if since == 0 or since >= self._plan.settings.sentinel_every:
            trial = self._visit(reference, round_number)
            self._reference_s += trial.duration_s
            self._visits_since_reference = 0

    # Conditions

    def _probe(self) -> None:
        """Measure how long a reading takes, and take the first."""
        costs = []
        for _ in range(_PROBE_READINGS):
            clock = self._run.time.now()
            self._read()
            costs.append(self._run.time.now() - clock)
        self._reading_s = statistics.median(costs)

    def _read(self) -> None:
        """Read the conditions, and check the trials since the last reading against both readings."""
        if self._reading_failures >= MAX_FAILURES:
            return
        try:
            now = self._pool.conditions()
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED:
                raise
            self._reading_failures += 1
            return
        journal = self._run.journal
        number = journal.add_conditions(
            self._run.run_id, now.time, now.model_dump_json(exclude_none=True), self.name
        )
        if self._since_reading and self._reading is not None:
            journal.close_trials(self._since_reading, number)
            cores = self._plan.target.cores
            reason = taint.joined(taint.of_conditions(self._reading[1], now, cores))
            if reason is not None:
                self._run.taint(self._since_reading, reason)
        self._since_reading = []
        self._reading = (number, now)
        self._read_at = self._run.time.now()


def _arrays_of(reply: RunReply) -> tuple[Samples, Samples | None]:
    """The samples of a reply, nanoseconds, and the clock at each, kHz, if it was readable."""
    clocks = None if reply.clocks_khz is None else np.array(reply.clocks_khz, np.int64)
    return np.array(reply.samples_ns, np.int64), clocks
