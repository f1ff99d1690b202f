"""The time that a run goes by: the clock, and what one session of a run takes of its budget."""

import threading
import time


class Clock:
    """This machine's clock. Runs on stand-in devices go by a simulated one."""

    def now(self) -> float:
        """Seconds of a clock that only moves forward."""
        return time.perf_counter()

    def date(self) -> float:
        """Unix time, seconds."""
        return time.time()

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        """Wait until `condition`, which is held, is notified, but no longer than `seconds`."""
        condition.wait(seconds)


class SessionClock:
    """Starts when it is made. Never changes afterwards, so any thread may read it.

    Args:
        clock: what it goes by.
        budget_s: time limit of the session, seconds; None for no limit.
        earlier_s: seconds that earlier sessions of the run took.
    """

    def __init__(self, clock: Clock, budget_s: float | None, earlier_s: float) -> None:
        self._clock, self._budget_s, self._earlier_s = clock, budget_s, earlier_s
        self._started = clock.now()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session started."""
        return self._clock.now() - self._started

    @property
    def wall_s(self) -> float:
        """Seconds that all sessions of the run took so far."""
        return self._earlier_s + self.elapsed_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the budget ends, at least 0; None if there is no limit."""
        return None if self._budget_s is None else max(0.0, self._budget_s - self.elapsed_s)

    @property
    def over_budget(self) -> bool:
        """Whether the budget has ended."""
        return self.left_s == 0.0
