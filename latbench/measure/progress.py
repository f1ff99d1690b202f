"""How far a run is, reported while it lasts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from latbench.measure.clock import SessionClock
from latbench.measure.ledger import ConvergenceStatus, Ledger

Phase = Literal["prepare", "measure", "done"]

_REPORT_EVERY_S = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        phase: prepare (runners start, artifacts are sent), measure, or done.
        done: visits to workloads so far, those of earlier sessions included.
        expected: `done` and the expected number of further visits.
        settled: workloads that need no more visits.
        workloads: number of workloads, without sentinel and reference.
        tainted: tainted trials so far.
        elapsed_s: seconds since this session started.
        remaining_s: expected seconds left, None before the first visit.
    """

    phase: Phase
    done: int
    expected: int
    settled: int
    workloads: int
    tainted: int
    elapsed_s: float
    remaining_s: float | None


class ProgressMeter:
    """Counts visits and makes `Progress` of them. Not thread-safe, except `is_due`.

    Args:
        earlier_visits: visits to workloads in earlier sessions.
        report: gets each progress; None if nobody listens.
    """

    def __init__(
        self, clock: SessionClock, earlier_visits: int, report: Callable[[Progress], None] | None
    ) -> None:
        self._clock, self._earlier_visits, self.report = clock, earlier_visits, report
        self._visits = 0
        self._next_report = 0.0

    def count_visit(self) -> None:
        """A workload was visited."""
        self._visits += 1

    def is_due(self, phase: Phase) -> bool:
        """Whether to report now: always between phases, about ten times a second while measuring."""
        if self.report is None:
            return False
        now = time.monotonic()
        if phase == "measure" and now < self._next_report:
            return False
        self._next_report = now + _REPORT_EVERY_S
        return True

    def progress(self, phase: Phase, ledger: Ledger) -> Progress:
        """How far the run is whose trials are in `ledger`."""
        statuses = ledger.statuses()
        left = sum(map(ledger.visits_left, statuses))
        done = self._earlier_visits + self._visits
        return Progress(
            phase=phase,
            done=done,
            expected=done + left,
            settled=sum(status is not ConvergenceStatus.PENDING for status in statuses.values()),
            workloads=len(statuses),
            tainted=sum(trial.taint is not None for trial in ledger.trials()),
            elapsed_s=self._clock.elapsed_s,
            remaining_s=self._remaining_s(left),
        )

    def _remaining_s(self, visits_left: int) -> float | None:
        if not self._visits:
            return None
        expected = visits_left * self._clock.elapsed_s / self._visits
        budget = self._clock.left_s
        return expected if budget is None else min(expected, budget)
