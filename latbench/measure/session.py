"""The measuring loop: interleaved rounds, a sentinel between them, until every interval is narrow.

Every trial is committed to the journal before anything is made of it, and everything is decided
from the journal's trials alone; so a run that was killed continues as if it had not been. A
runner's crash costs the trial in flight. A trial that something speaks against is tainted: it stays
in the journal and its subject is visited again in a later round, up to the plan's bounds.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from latbench import __version__
from latbench.device.base import Conditions, Device
from latbench.errors import DeviceUnavailable, JournalRefused, LatbenchError, RunnerFailed
from latbench.measure import taint
from latbench.measure.journal import Journal
from latbench.measure.ledger import MAX_FAILURES, Ledger, Standing
from latbench.measure.plan import Plan, Role, Subject
from latbench.measure.records import Failure, Run, RunState, Trial
from latbench.measure.report import Progress, RunReport, report_of
from latbench.measure.workbench import Workbench
from latbench.target import Runtime

__all__ = ["Progress", "RunReport", "measure"]

#: A level needs a few visits before anything can be off it.
_OPENING_VISITS = 3

#: The first pause before a sentinel that is off its level is visited again, seconds; each further one
#: is twice as long. What is short is over after a few; a hot phone needs the long ones.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 16.0

#: Conditions are read after every trial where a reading is faster than this, else at the sentinel.
_CHEAP_READING_S = 0.001
_PROBE_READINGS = 3

#: The stages at which a runner fails before it can be asked for anything.
_NOT_STARTED = ("start", "hello")

_TELL_EVERY_S = 0.1


def measure(
    plan: Plan,
    device: Device,
    journal: Journal,
    *,
    progress: Callable[[Progress], None] | None = None,
    about: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> RunReport:
    """Measure `plan` on `device` until every subject is settled or the budget ends.

    A run of the same plan on the same unit that is in the journal is continued: what it holds is
    not measured again, and if nothing is left no runner is started.

    Args:
        progress: is told how far the run is, about ten times a second.
        about: what the caller wants to find in the run's record again, as JSON data.
        fresh: start a new run, whatever the journal holds.

    Raises:
        DeviceUnavailable: the unit cannot be reached.
        RunnerFailed: no runner can be started. What a running one fails at is journalled instead.
        OutputFailed: the journal cannot be written.
        JournalRefused: the run in the journal was measured with another version of the runtime.
    """
    run = None if fresh else journal.find_run(plan.identity, device.unit)
    if run is None:
        described = {
            "name": device.name,
            "unit": device.unit,
            "description": device.description,
            "emulated": device.emulated,
        }
        run = journal.start_run(plan, device=described, about=about or {}, tool=__version__)
    else:
        journal.update_run(run.id, about=about)
    session = _Session(plan, device, journal, run, progress)
    return session.measure()


class _Session:
    """One call of `measure`: the run, what is known of it, and the runner."""

    def __init__(
        self,
        plan: Plan,
        device: Device,
        journal: Journal,
        run: Run,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan, self._device, self._journal, self._run = plan, device, journal, run
        self._tell = progress
        self._started = time.monotonic()
        self._ledger = Ledger(plan, journal.trials(run.id))
        earlier = self._ledger.trials()
        self._first = len(earlier)
        self._first_visits = sum(not trial.role.watches for trial in earlier)
        self._visits = 0  # to subjects, in this session
        self._runners = 0
        self._since_sentinel: list[int] = []  # ids of trials
        self._visits_since_sentinel = 0
        self._since_reading: list[int] = []
        self._references = 0  # visits to the reference
        self._cooled_s = 0.0
        self._off: str | None = None  # why trials are distrusted as they are taken
        self._reading: tuple[int, Conditions] | None = None  # the last one, and its id
        self._reads_every_trial = False
        self._reading_failures = 0
        self._tell_at = 0.0

    def measure(self) -> RunReport:
        state = RunState.FINISHED
        if self._pending():
            state = self._measure_pending()
        self._journal.update_run(self._run.id, state=state, wall_s=self._wall_s())
        self._report("done")
        return report_of(
            self._plan,
            self._journal.run(self._run.id),
            self._ledger,
            first=self._first,
            runners_started=self._runners,
            wall_s=self._elapsed(),
        )

    def _measure_pending(self) -> RunState:
        self._report("prepare")
        files = {one.key: one.path for one in self._plan.all_subjects if one.path is not None}
        paths = self._device.send(list(files.values()))
        bench = Workbench(
            self._plan,
            self._device,
            {key: paths[path] for key, path in files.items()},
            self._greeted,
        )
        self._journal.update_run(self._run.id, state=RunState.RUNNING)
        by_force = True
        try:
            state = self._rounds(bench)
            by_force = False
        except BaseException:
            # Ctrl-C comes by here too. What ended the run matters more than a note of it that
            # cannot be written either.
            with contextlib.suppress(LatbenchError):
                self._journal.update_run(self._run.id, state=RunState.FAILED, wall_s=self._wall_s())
            raise
        finally:
            bench.close(by_force=by_force)
        return state

    # Rounds

    def _rounds(self, bench: Workbench) -> RunState:
        self._open(bench)
        round_number = self._ledger.last_round
        while self._pending():
            for subject in self._plan.order(round_number):
                if self._ledger.visited(subject.key, round_number):
                    continue
                if self._ledger.standing(subject.key) is not Standing.PENDING:
                    continue
                if self._over_budget():
                    self._close_bracket(bench, round_number)
                    return RunState.STOPPED if self._pending() else RunState.FINISHED
                if self._visits_since_sentinel >= self._plan.settings.sentinel_every:
                    self._close_bracket(bench, round_number)
                self._visit(bench, subject, round_number)
                self._visits += 1
                self._visits_since_sentinel += 1
                self._report("measure")
            if not self._pending():
                # The last trials count only once the sentinel has spoken for them.
                self._close_bracket(bench, round_number)
            round_number += 1
        return RunState.FINISHED

    def _open(self, bench: Workbench) -> None:
        self._probe(bench)
        visits = max(1, _OPENING_VISITS - len(self._ledger.sentinel_levels))
        for _ in range(visits):
            self._close_bracket(bench, self._ledger.last_round)

    def _pending(self) -> bool:
        return Standing.PENDING in self._ledger.standings().values()

    def _visit(self, bench: Workbench, subject: Subject, round_number: int) -> Trial:
        """Time `subject` once and commit what came of it."""
        # The sentinel's level is that of one place; subjects take turns at all of them.
        watching = subject.role is Role.SENTINEL
        turn = self._references if subject.role is Role.REFERENCE else round_number
        place = 0 if watching else turn % self._plan.settings.runners
        reasons = [self._off] if self._off and not watching else []
        samples, clocks, failure = np.empty(0, np.int64), None, None
        started, clock = time.time(), time.perf_counter()
        try:
            handle = bench.load(subject, place)
            clock = time.perf_counter()
            reply = bench.run(subject, handle, place)
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED:
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
        trial = self._journal.add_trial(
            self._run.id,
            subject,
            round_number,
            samples_ns=samples,
            clocks_khz=clocks,
            started=started,
            duration_s=time.perf_counter() - clock,
            warmups=self._plan.settings.warmups_of(subject.role),
            before=None if self._reading is None else self._reading[0],
            taint=taint.joined(reasons),
            failure=failure,
        )
        self._ledger.add(trial)
        self._runners = bench.runners_started
        self._since_reading.append(trial.id)
        if subject.role is not Role.SENTINEL:
            self._since_sentinel.append(trial.id)
        if self._reads_every_trial:
            self._read(bench)
        return trial

    # The sentinel

    def _close_bracket(self, bench: Workbench, round_number: int) -> None:
        """Visit the sentinel, and distrust the trials around it if it is off its level.

        A sentinel that is off is visited again at once: one bad visit is a blip, of which a round
        median takes care; two in a row are a state, and taint the trials since the visit before.
        Then the run waits, each time longer, until it is back; once `cool_down_s` is spent it goes on,
        and the trials that follow are tainted as long as the sentinel stays off.
        """
        off, confirmed = self._sentinel_off(bench, round_number), None
        pause = 0.0
        while off is not None:
            time.sleep(pause)
            self._cooled_s += pause
            off = self._sentinel_off(bench, round_number)
            confirmed = off or confirmed
            left = self._plan.settings.cool_down_s - self._cooled_s
            if left <= 0 or self._over_budget():
                break
            pause = min(max(_FIRST_PAUSE_S, 2 * pause), _LONGEST_PAUSE_S, left)
        if confirmed is not None:
            self._taint(self._since_sentinel, confirmed)
        self._off = off
        self._since_sentinel = []
        self._visit_reference(bench, round_number)
        self._visits_since_sentinel = 0
        if not self._reads_every_trial:
            self._read(bench)
        self._journal.update_run(self._run.id, wall_s=self._wall_s())

    def _sentinel_off(self, bench: Workbench, round_number: int) -> str | None:
        """Visit the sentinel once; returns how far it is off the median of its visits before."""
        sentinel, levels = self._plan.sentinel, self._ledger.sentinel_levels
        if sentinel is None or len(self._ledger.failures(sentinel.key)) >= MAX_FAILURES:
            return None
        level = statistics.median(levels) if levels else None
        trial = self._visit(bench, sentinel, round_number)
        if trial.failure is not None or level is None:
            return None
        deviation = trial.median_ms / level - 1
        if abs(deviation) <= taint.SENTINEL_TOLERANCE:
            return None
        reason = f"sentinel: {deviation:+.0%} off its level"
        self._taint([trial.id], reason)
        return reason

    def _visit_reference(self, bench: Workbench, round_number: int) -> None:
        """Visit the reference, in the next place each time; what taints its neighbours taints it."""
        reference = self._plan.reference
        if reference is None or len(self._ledger.failures(reference.key)) >= MAX_FAILURES:
            return
        self._visit(bench, reference, round_number)
        self._references += 1

    def _taint(self, trials: list[int], reason: str) -> None:
        self._journal.taint(trials, reason)
        self._ledger.taint(trials, reason)

    # Conditions

    def _probe(self, bench: Workbench) -> None:
        """See what a reading costs, and take the first."""
        costs = []
        for _ in range(_PROBE_READINGS):
            clock = time.perf_counter()
            self._read(bench)
            costs.append(time.perf_counter() - clock)
        self._reads_every_trial = statistics.median(costs) < _CHEAP_READING_S

    def _read(self, bench: Workbench) -> None:
        """Read the conditions and judge the trials since the last reading by both."""
        if self._reading_failures >= MAX_FAILURES:
            return
        try:
            now = bench.conditions()
        except RunnerFailed as error:
            if error.stage in _NOT_STARTED:
                raise
            self._reading_failures += 1
            return
        number = self._journal.add_conditions(
            self._run.id, now.time, now.model_dump_json(exclude_none=True)
        )
        if self._since_reading and self._reading is not None:
            self._journal.close_trials(self._since_reading, number)
            cores = self._plan.target.cores
            reason = taint.joined(taint.of_conditions(self._reading[1], now, cores))
            if reason is not None:
                self._taint(self._since_reading, reason)
        self._since_reading = []
        self._reading = (number, now)

    # Time, versions, progress

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _wall_s(self) -> float:
        return self._run.wall_s + self._elapsed()

    def _over_budget(self) -> bool:
        budget = self._plan.settings.budget_s
        return budget is not None and self._elapsed() >= budget

    def _greeted(self, hello: dict[str, Any]) -> None:
        """Take down what a runner says of itself; refuse to mix two versions of the runtime."""
        runtime = self._plan.target.runtime
        now = _engine(hello, runtime)
        if now is None:
            raise DeviceUnavailable(
                f"the runner on {self._device.name} has no engine for {runtime}",
                hint="install the runtime, or choose another with --runtime",
            )
        if self._run.hello is None:
            self._journal.update_run(self._run.id, hello=hello)
            self._run = replace(self._run, hello=hello)
            return
        before = _engine(self._run.hello, runtime) or {}
        if before.get("version") != now["version"]:
            raise JournalRefused(
                f"run {self._run.id} in {self._journal.path} was measured with {runtime} "
                f"{before.get('version')}, but {now['version']} is installed now",
                hint="start a new run, with --fresh",
            )

    def _report(self, phase: Literal["prepare", "measure", "done"]) -> None:
        """Tell how far the run is; a visit soon after another is not worth telling."""
        now = time.monotonic()
        if self._tell is None:
            return
        if phase == "measure":
            if now < self._tell_at:
                return
            self._tell_at = now + _TELL_EVERY_S
        standings = self._ledger.standings()
        left = sum(map(self._ledger.visits_left, standings))
        done = self._first_visits + self._visits
        remaining = left * self._elapsed() / self._visits if self._visits else None
        budget = self._plan.settings.budget_s
        if remaining is not None and budget is not None:
            remaining = min(remaining, max(0.0, budget - self._elapsed()))
        self._tell(
            Progress(
                phase=phase,
                done=done,
                expected=done + left,
                settled=sum(value is not Standing.PENDING for value in standings.values()),
                subjects=len(standings),
                tainted=sum(trial.taint is not None for trial in self._ledger.trials()),
                elapsed_s=self._elapsed(),
                remaining_s=remaining,
            )
        )


def _engine(hello: Mapping[str, Any], runtime: Runtime) -> Mapping[str, Any] | None:
    """What a runner says of its engine for `runtime`."""
    return next((found for found in hello["engines"] if found["runtime"] == runtime), None)
