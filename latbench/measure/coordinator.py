"""What the units of a run share: the journal, the ledger, the rounds, and when it is over."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from latbench.device.base import Device
from latbench.errors import DeviceLost, DeviceUnavailable, JournalRefused, LatbenchError
from latbench.measure.journal import Journal
from latbench.measure.ledger import ConvergenceStatus, Ledger
from latbench.measure.plan import Plan
from latbench.measure.records import Run, Trial
from latbench.measure.report import Progress
from latbench.measure.scheduler import Scheduler, Visit
from latbench.target import Runtime

_TELL_EVERY_S = 0.1

#: How often a unit that has nothing to do looks whether the budget has ended.
_LOOK_EVERY_S = 0.1


class RunCoordinator:
    """One call of `measure_fleet`: the run, and what its units have in common.

    Its methods may be called from any thread. Who uses `ledger` or `rounds` holds `changed`, which is
    notified of every change.
    """

    def __init__(
        self, plan: Plan, journal: Journal, run: Run, tell: Callable[[Progress], None] | None
    ) -> None:
        self.plan, self.journal, self.run = plan, journal, run
        self.changed = threading.Condition()
        self.ledger = Ledger(plan, journal.trials(run.id))
        self.rounds = Scheduler(plan, self.ledger)
        self.runners_started = 0
        self.over = False  # whether all threads are to end
        self.error: BaseException | None = None  # why, if something ended it
        earlier = self.ledger.trials()
        self.first = len(earlier)
        self._first_visits = sum(not trial.role.watches for trial in earlier)
        self._visits = 0  # to workloads, in this session
        self._started = time.monotonic()
        self._tell, self._tell_at = tell, 0.0
        self._at_work: set[str] = set()
        self._out: dict[str, LatbenchError] = {}  # units that tried to come (back) in vain, and why
        self._open_brackets: set[str] = set()
        self._sentinel_every: tuple[int, int] | None = None  # a round, and what holds in it

    # Visits

    def take(self, unit: str) -> Visit | None:
        """The next visit for `unit`; None if there is none now."""
        with self.changed:
            return self.rounds.take(unit, self._at_work)

    def give_back(self, visit: Visit) -> None:
        """Let another unit make `visit`."""
        with self.changed:
            self.rounds.give_back(visit)
            self.changed.notify_all()

    def end(self, visit: Visit, unit: str) -> None:
        """Take note that `unit` made `visit`, for which its sentinel has still to speak."""
        with self.changed:
            self.rounds.end(visit)
            self._visits += 1
            self._open_brackets.add(unit)
            self.changed.notify_all()

    def close_bracket(self, unit: str) -> None:
        """Take note that the sentinel of `unit` has spoken for all its trials."""
        with self.changed:
            self._open_brackets.discard(unit)
            self.journal.update_run(self.run.id, wall_s=self.wall_s)
            self.changed.notify_all()

    def add(self, trial: Trial) -> None:
        """Take note of a trial that the journal holds."""
        with self.changed:
            self.ledger.add(trial)

    def taint(self, trials: list[int], reason: str) -> None:
        """Distrust `trials`."""
        with self.changed:
            self.journal.taint(trials, reason)
            self.ledger.taint(trials, reason)

    @property
    def pending(self) -> bool:
        """Whether a workload needs more visits."""
        with self.changed:
            return ConvergenceStatus.PENDING in self.ledger.standings().values()

    @property
    def sentinel_every(self) -> int:
        """Visits between two visits to a sentinel: as the plan says, or as many as workloads are left.

        The last workloads need neighbours to tell the level by (`latbench.measure.slowdown`).
        """
        if self.plan.sentinel is None:
            return self.plan.settings.sentinel_every
        with self.changed:
            number = self.rounds.number
            if self._sentinel_every is None or self._sentinel_every[0] != number:
                standings = Counter(self.ledger.standings().values())
                left = max(1, standings[ConvergenceStatus.PENDING])
                self._sentinel_every = number, min(self.plan.settings.sentinel_every, left)
            return self._sentinel_every[1]

    # Units

    def begin(self, unit: str) -> None:
        """Take note that `unit` is ready."""
        with self.changed:
            self._at_work.add(unit)
            self._out.pop(unit, None)

    def drop_out(self, unit: str, error: LatbenchError) -> None:
        """Take note that `unit` cannot go on. With the last one that tried in vain, the run is over."""
        with self.changed:
            self._open_brackets.discard(unit)
            if unit in self._at_work:
                self._at_work.remove(unit)
                units = dict(self.run.device["units"])
                units[unit] = units[unit] | {"dropped_out": units[unit]["dropped_out"] + 1}
                self.run = replace(self.run, device=dict(self.run.device) | {"units": units})
                self.journal.update_run(self.run.id, device=self.run.device)
            else:
                self._out[unit] = error
            self.changed.notify_all()

    def require_some(self, units: int) -> None:
        """Make sure that one of `units` units at least is at work, or may come back.

        Raises:
            DeviceLost: all tried in vain.
        """
        with self.changed:
            if len(self._out) < units:
                return
            raise DeviceLost(
                f"all {units} units are gone:",
                details=[f"{unit}: {error.message}" for unit, error in sorted(self._out.items())],
            )

    def wait_for_work(self) -> bool:
        """Wait until there may be something to do; False if there will be nothing more.

        The run is over once nothing is pending, nothing is under way, and every sentinel has spoken.
        """
        with self.changed:
            if not (self.rounds.under_way or self._open_brackets or self.pending):
                self.ledger.relevel()
                if not self.pending:
                    self.finish()
            if not self.over:
                self.changed.wait(_LOOK_EVERY_S)
            return not self.over

    def finish(self, error: BaseException | None = None) -> None:
        """Let all threads end, because of `error` if there is one; the first one counts."""
        with self.changed:
            if not self.over:
                self.over, self.error = True, error
            self.changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the run is over or its budget ends."""
        until = time.monotonic() + seconds
        with self.changed:
            while not self.over and not self.over_budget and (left := until - time.monotonic()) > 0:
                self.changed.wait(min(left, _LOOK_EVERY_S))

    def greet(self, device: Device, hello: dict[str, Any]) -> None:
        """Take down what a runner says of itself; refuse to mix two versions of the runtime."""
        runtime = self.plan.target.runtime
        now = _engine(hello, runtime)
        if now is None:
            raise DeviceUnavailable(
                f"the runner on {device.name} has no engine for {runtime}",
                hint="install the runtime, or choose another with --runtime",
            )
        with self.changed:
            self.runners_started += 1
            if self.run.hello is None:
                self.journal.update_run(self.run.id, hello=hello)
                self.run = replace(self.run, hello=hello)
                return
        before = _engine(self.run.hello, runtime) or {}
        if any(before.get(mark) != now.get(mark) for mark in ("version", "sha256")):
            where = f"on {device.unit}" if len(self.run.units) > 1 else "now"
            raise JournalRefused(
                f"run {self.run.id} in {self.journal.path} was measured with {runtime} "
                f"{before.get('version')}, but {_another(before, now)} is installed {where}",
                hint="start a new run, with --fresh",
            )

    # Time and progress

    @property
    def elapsed_s(self) -> float:
        """Seconds since this session began."""
        return time.monotonic() - self._started

    @property
    def wall_s(self) -> float:
        """Seconds that measuring took, those of earlier sessions included."""
        return self.run.wall_s + self.elapsed_s

    @property
    def over_budget(self) -> bool:
        """Whether this session has taken its time."""
        budget = self.plan.settings.budget_s
        return budget is not None and self.elapsed_s >= budget

    def report(self, phase: Literal["prepare", "measure", "done"]) -> None:
        """Tell how far the run is; a visit soon after another is not worth telling."""
        now = time.monotonic()
        if self._tell is None:
            return
        if phase == "measure":
            if now < self._tell_at:
                return
            self._tell_at = now + _TELL_EVERY_S
        with self.changed:
            progress = self._progress(phase)
        self._tell(progress)

    def _progress(self, phase: Literal["prepare", "measure", "done"]) -> Progress:
        standings = self.ledger.standings()
        left = sum(map(self.ledger.visits_left, standings))
        done = self._first_visits + self._visits
        remaining = left * self.elapsed_s / self._visits if self._visits else None
        budget = self.plan.settings.budget_s
        if remaining is not None and budget is not None:
            remaining = min(remaining, max(0.0, budget - self.elapsed_s))
        return Progress(
            phase=phase,
            done=done,
            expected=done + left,
            settled=sum(value is not ConvergenceStatus.PENDING for value in standings.values()),
            workloads=len(standings),
            tainted=sum(trial.taint is not None for trial in self.ledger.trials()),
            elapsed_s=self.elapsed_s,
            remaining_s=remaining,
        )


def _engine(hello: Mapping[str, Any], runtime: Runtime) -> Mapping[str, Any] | None:
    """What a runner says of its engine for `runtime`."""
    return next((found for found in hello["engines"] if found["runtime"] == runtime), None)


def _another(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to call an engine that is not the one before."""
    version = str(now["version"])
    return version if version != before.get("version") else "another build of it"
