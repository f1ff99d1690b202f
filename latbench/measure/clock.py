"""The time that one session of a run has taken, and its budget."""

import time


class SessionClock:
    """Starts when it is made. Never changes afterwards, so any thread may read it.

    Args:
        budget_s: time limit of the session, seconds; None for no limit.
        earlier_s: seconds that earlier sessions of the run took.
    """

    def __init__(self, budget_s: float | None, earlier_s: float) -> None:
        self._budget_s, self._earlier_s = budget_s, earlier_s
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session started."""
        return time.monotonic() - self._started

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
