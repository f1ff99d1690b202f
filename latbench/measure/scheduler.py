"""Which unit makes which visit next: the rounds of a plan, handed out visit by visit to free units.

A unit takes the next unfinished workload in the order of the round. It skips those that it visited more
often than other units did, as long as there are others, so that the rounds of a workload spread over all
units. With one unit this is the plan's order.

The next round may begin while visits of the last one are under way. No workload has more visits under way
than it is expected to need, so units do not wait and few visits are superfluous.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from latbench.measure.ledger import ConvergenceStatus, Ledger
from latbench.measure.plan import Plan, Workload


@dataclass(frozen=True)
class Visit:
    """One workload's turn in one round."""

    workload: Workload
    round: int


class Scheduler:
    """The visits of a run that are still to be made. Not thread-safe.

    Attributes:
        number: the round whose visits are handed out.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan, self._ledger = plan, ledger
        self.number = ledger.last_round
        self._waiting = self._of_round(self.number)
        self._under_way: dict[Visit, str] = {}  # visit -> unit
        self._counts: Counter[tuple[str, str]] = Counter()  # of those, by workload and unit
        self._sentinel_every: tuple[int, int] | None = None  # a round, and its value

    @property
    def under_way(self) -> int:
        """The number of visits that were handed out and neither completed nor given back."""
        return len(self._under_way)

    @property
    def sentinel_every(self) -> int:
        """Visits of a unit between two visits to its sentinel: constant within a round.

        It is the plan's value, or the number of pending workloads if that is smaller: the last workloads
        need neighbours to estimate the slowdown from (`latbench.measure.moments`).
        """
        planned = self._plan.settings.sentinel_every
        if self._plan.sentinel is None:
            return planned
        if self._sentinel_every is None or self._sentinel_every[0] != self.number:
            statuses = Counter(self._ledger.statuses().values())
            pending = max(1, statuses[ConvergenceStatus.PENDING])
            self._sentinel_every = self.number, min(planned, pending)
        return self._sentinel_every[1]

    def take(self, unit: str, units: Collection[str]) -> Visit | None:
        """The next visit for `unit`, or None if there is none now; `units` are all that are at work."""
        while True:
            visit = self._chosen(unit, units)
            if visit is not None:
                self._waiting.remove(visit)
                self._under_way[visit] = unit
                self._counts[visit.workload.key, unit] += 1
                return visit
            if self._waiting or not any(self._needs_visit(one.key) for one in self._plan.workloads):
                return None
            self.number += 1
            self._waiting = self._of_round(self.number)

    def end(self, visit: Visit) -> None:
        """`visit` was completed; its trial is in the ledger."""
        self._counts[visit.workload.key, self._under_way.pop(visit)] -= 1

    def give_back(self, visit: Visit) -> None:
        """`visit` was broken off; unless its trial is in the ledger, it is the next to be handed out."""
        self.end(visit)
        if not self._ledger.visited(visit.workload.key, visit.round):
            self._waiting.insert(0, visit)

    def _of_round(self, number: int) -> list[Visit]:
        return [
            Visit(workload, number)
            for workload in self._plan.order(number)
            if not self._ledger.visited(workload.key, number)
        ]

    def _chosen(self, unit: str, units: Collection[str]) -> Visit | None:
        """The first waiting visit among those in which `unit` is least ahead of the others."""
        chosen: Visit | None = None
        least = 0
        for visit in list(self._waiting):
            key = visit.workload.key
            left = self._ledger.visits_left(key)
            if left == 0:
                self._waiting.remove(visit)  # the workload is finished
            if left <= self._under_way_of(key):
                continue
            ahead = self._visits(key, unit) - min(self._visits(key, other) for other in units)
            if chosen is None or ahead < least:
                chosen, least = visit, ahead
            if least == 0:
                break
        return chosen

    def _needs_visit(self, key: str) -> bool:
        return self._ledger.visits_left(key) > self._under_way_of(key)

    def _under_way_of(self, key: str) -> int:
        return sum(visit.workload.key == key for visit in self._under_way)

    def _visits(self, key: str, unit: str) -> int:
        return self._ledger.visits(key, unit) + self._counts[key, unit]
