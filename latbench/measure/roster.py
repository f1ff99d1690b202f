"""The units of a run: which are at work, which are gone, and which still have to visit their sentinel."""

from collections.abc import Collection

from latbench.errors import DeviceLost, LatbenchError


class UnitRoster:
    """The state of each unit of a run. Not thread-safe: `latbench.measure.coordinator` holds the lock."""

    def __init__(self) -> None:
        self._at_work: set[str] = set()
        self._gone: dict[str, LatbenchError] = {}  # units that failed to start (again), and why
        self._open_brackets: set[str] = set()

    @property
    def at_work(self) -> Collection[str]:
        """The units that make visits."""
        return self._at_work

    @property
    def has_open_brackets(self) -> bool:
        """Whether trials await the next visit to their unit's sentinel."""
        return bool(self._open_brackets)

    def begin(self, unit: str) -> None:
        """`unit` starts to make visits."""
        self._at_work.add(unit)
        self._gone.pop(unit, None)

    def drop_out(self, unit: str, error: LatbenchError) -> bool:
        """`unit` stops because of `error`; returns whether it was at work."""
        self._open_brackets.discard(unit)
        if unit not in self._at_work:
            self._gone[unit] = error
            return False
        self._at_work.remove(unit)
        return True

    def open_bracket(self, unit: str) -> None:
        """`unit` made a visit after its last visit to the sentinel."""
        self._open_brackets.add(unit)

    def close_bracket(self, unit: str) -> None:
        """`unit` visited its sentinel."""
        self._open_brackets.discard(unit)

    def require_some(self, units: int) -> None:
        """Make sure that at least one of `units` units is at work or has not failed to start again.

        Raises:
            DeviceLost: all are gone.
        """
        if len(self._gone) < units:
            return
        raise DeviceLost(
            f"all {units} units are gone:",
            details=[f"{unit}: {error.message}" for unit, error in sorted(self._gone.items())],
        )
