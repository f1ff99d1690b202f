"""What one unit does in a run: visits, between visits to its sentinel, and readings of its conditions.

Every trial is committed to the journal before anything is made of it. A runner's crash costs the trial in
flight. A trial that something speaks against is tainted: it stays in the journal and its workload is
visited again in a later round, up to the plan's bounds.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from latbench.device.base import Device
from latbench.device.conditions import Conditions
from latbench.errors import RunnerFailed
from latbench.measure import taint
from latbench.measure.coordinator import RunCoordinator
from latbench.measure.ledger import MAX_FAILURES
from latbench.measure.plan import Role, Workload
from latbench.measure.records import Failure, Trial
from latbench.measure.runner_pool import RunnerPool
from latbench.measure.scheduler import Visit

#: A level needs a few visits before anything can be off it.
_OPENING_VISITS = 3

#: The first pause before a sentinel that is off its level is visited again, seconds; each further one
#: is twice as long. What is short is over after a few; a hot phone needs the long ones.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 16.0

#: Conditions are read after every trial where a reading is faster than this, else at the sentinel.
_CHEAP_READING_S = 0.001
_PROBE_READINGS = 3

#: The reference may take this share of a unit's time, once its visits took longer than these seconds: a slow
#: phone, or an emulated one, would do little else.
_REFERENCE_SHARE = 0.25
_REFERENCE_FREE_S = 2.0

#: The stages at which a runner fails before it can be asked for anything.
_NOT_STARTED = ("start", "hello")


class UnitWorker:
    """One unit of a run; see `work`. What it knows of itself it keeps while it is away.

    Args:
        visited: is called after every visit to a workload.
    """

    def __init__(self, shared: RunCoordinator, device: Device, visited: Callable[[], None]) -> None:
        self.name = device.unit
        self._shared, self._visited = shared, visited
        self._plan = shared.plan
        self._bench = RunnerPool(shared.plan, device, lambda hello: shared.greet(device, hello))
        self.begun = 0  # how often it got so far as to visit workloads
        self._since_sentinel: list[int] = []  # ids of trials
        self._visits_since_sentinel = 0
        self._visits_since_reference = 0
        self._reference_s = 0.0  # what its visits took
        self._opened = time.monotonic()
        self._since_reading: list[int] = []
        self._cooled_s = 0.0
        self._off: str | None = None  # why trials are distrusted as they are taken
        self._reading: tuple[int, Conditions] | None = None  # the last one, and its id
        self._reads_every_trial = False
        self._reading_failures = 0

    def work(self) -> None:
        """Take visits and make them until the run needs none, is over, or its budget ends.

        A visit that cannot be ended is given back.

        Raises:
            DeviceUnavailable: the unit cannot be reached; `DeviceLost` if it went away meanwhile.
            RunnerFailed: no runner can be started. What a running one fails at is journalled instead.
            OutputFailed: the journal cannot be written.
            JournalRefused: the run was measured with another version of the runtime.
        """
        by_force = True
        try:
            self._open()
            self._visit_until_done()
            by_force = self._shared.over and self._shared.error is not None
        finally:
            self._bench.close(by_force=by_force)

    def abandon(self) -> None:
        """End what runs on the unit now, from another thread; `work` then raises what comes of it."""
        self._bench.abandon()

    def _open(self) -> None:
        self._bench.send()
        self._probe()
        with self._shared.changed:
            known = len(self._shared.ledger.sentinel_levels(self.name))
        for _ in range(max(1, _OPENING_VISITS - known)):
            if not self._shared.over:
                self._close_bracket()
        self._shared.begin(self.name)
        self.begun += 1

    def _visit_until_done(self) -> None:
        while not self._shared.over:
            if self._shared.over_budget:
                if self._visits_since_sentinel:
                    self._close_bracket()
                return
            if self._visits_since_sentinel >= self._shared.sentinel_every:
                self._close_bracket()
            visit = self._shared.take(self.name)
            if visit is not None:
                self._make(visit)
            elif self._visits_since_sentinel:
                # The last trials count only once the sentinel has spoken for them.
                self._close_bracket()
            elif not self._shared.wait_for_work():
                return

    def _make(self, visit: Visit) -> None:
        try:
            self._visit(visit.workload, visit.round)
        except BaseException:
            self._shared.give_back(visit)
            raise
        self._visits_since_sentinel += 1
        self._visits_since_reference += 1
        self._shared.end(visit, self.name)
        self._visited()

    def _visit(self, workload: Workload, round_number: int) -> Trial:
        """Time `workload` once and commit what came of it."""
        # The sentinel's level is that of one place; workloads take turns at all of them.
        watching = workload.role is Role.SENTINEL
        with self._shared.changed:
            turn = self._shared.ledger.visits(workload.key, self.name)
        place = 0 if watching else turn % self._plan.settings.runners
        reasons = [self._off] if self._off and not watching else []
        samples, clocks, failure = np.empty(0, np.int64), None, None
        started, clock = time.time(), time.perf_counter()
        try:
            handle = self._bench.load(workload, place)
            clock = time.perf_counter()
            reply = self._bench.run(workload, handle, place)
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED or self._shared.over:
                raise
            failure = Failure(error.stage, error.kind, error.reason)
            reasons = []
        else:
            samples = np.array(reply.samples_ns, np.int64)
            if reply.clocks_khz is not None:
                clocks = np.array(reply.clocks_khz, np.int64)
            reasons += taint.of_cores(self._plan.target.cores, reply.cores_observed)
            reasons += taint.of_samples(samples, clocks)
            reasons += taint.of_waiting(reply.waited_ms, time.perf_counter() - clock)
        duration_s = time.perf_counter() - clock
        trial = self._shared.journal.add_trial(
            self._shared.run.id,
            workload,
            round_number,
            unit=self.name,
            place=place,
            samples_ns=samples,
            clocks_khz=clocks,
            started=started,
            duration_s=duration_s,
            warmups=self._plan.settings.warmups_of(workload.role),
            before=None if self._reading is None else self._reading[0],
            taint=taint.joined(reasons),
            failure=failure,
        )
        self._shared.add(trial)
        self._since_reading.append(trial.id)
        if not watching:
            self._since_sentinel.append(trial.id)
        if self._reads_every_trial:
            self._read()
        return trial

    # The sentinel

    def _close_bracket(self) -> None:
        """Visit the sentinel, and distrust the trials around it if it is off its level.

        A sentinel that is off is visited again at once: one bad visit is a blip, of which a round
        median takes care; two in a row are a state, and taint the trials since the visit before.
        Then the unit waits, each time longer, until it is back; once `cool_down_s` is spent it goes on,
        and the trials that follow are tainted as long as the sentinel stays off.
        """
        with self._shared.changed:
            round_number = self._shared.rounds.number
        off, confirmed = self._sentinel_off(round_number), None
        pause = 0.0
        while off is not None and not self._shared.over:
            self._shared.pause(pause)
            self._cooled_s += pause
            off = self._sentinel_off(round_number)
            confirmed = off or confirmed
            left = self._plan.settings.cool_down_s - self._cooled_s
            if left <= 0 or self._shared.over_budget:
                break
            pause = min(max(_FIRST_PAUSE_S, 2 * pause), _LONGEST_PAUSE_S, left)
        if confirmed is not None:
            self._shared.taint(self._since_sentinel, confirmed)
        self._off = off
        self._since_sentinel = []
        self._visit_reference(round_number)
        self._visits_since_sentinel = 0
        if not self._reads_every_trial:
            self._read()
        self._shared.close_bracket(self.name)

    def _sentinel_off(self, round_number: int) -> str | None:
        """Visit the sentinel once; returns how far it is off the median of its visits before."""
        sentinel = self._plan.sentinel
        if sentinel is None or self._given_up(sentinel):
            return None
        with self._shared.changed:
            levels = self._shared.ledger.sentinel_levels(self.name)
            level = statistics.median(levels) if levels else None
        trial = self._visit(sentinel, round_number)
        if trial.failure is not None or level is None:
            return None
        deviation = trial.median_ms / level - 1
        if abs(deviation) <= taint.SENTINEL_TOLERANCE:
            return None
        reason = f"sentinel: {deviation:+.0%} off its level"
        self._shared.taint([trial.id], reason)
        return reason

    def _visit_reference(self, round_number: int) -> None:
        """Visit the reference, in the next place each time; what taints its neighbours taints it.

        It is as long in coming back as the sentinel is where much is left to visit, and longer where it
        would take more than its share of the unit's time.
        """
        reference, since = self._plan.reference, self._visits_since_reference
        if reference is None or self._given_up(reference):
            return
        share_s = _REFERENCE_SHARE * (time.monotonic() - self._opened)
        if self._reference_s > max(_REFERENCE_FREE_S, share_s):
            return
        if since == 0 or since >= self._plan.settings.sentinel_every:
            trial = self._visit(reference, round_number)
            self._reference_s += trial.duration_s
            self._visits_since_reference = 0

    def _given_up(self, watching: Workload) -> bool:
        with self._shared.changed:
            return len(self._shared.ledger.failures(watching.key, self.name)) >= MAX_FAILURES

    # Conditions

    def _probe(self) -> None:
        """See what a reading costs, and take the first."""
        costs = []
        for _ in range(_PROBE_READINGS):
            clock = time.perf_counter()
            self._read()
            costs.append(time.perf_counter() - clock)
        self._reads_every_trial = statistics.median(costs) < _CHEAP_READING_S

    def _read(self) -> None:
        """Read the conditions and judge the trials since the last reading by both."""
        if self._reading_failures >= MAX_FAILURES:
            return
        try:
            now = self._bench.conditions()
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED:
                raise
            self._reading_failures += 1
            return
        number = self._shared.journal.add_conditions(
            self._shared.run.id, now.time, now.model_dump_json(exclude_none=True), self.name
        )
        if self._since_reading and self._reading is not None:
            self._shared.journal.close_trials(self._since_reading, number)
            cores = self._plan.target.cores
            reason = taint.joined(taint.of_conditions(self._reading[1], now, cores))
            if reason is not None:
                self._shared.taint(self._since_reading, reason)
        self._since_reading = []
        self._reading = (number, now)
