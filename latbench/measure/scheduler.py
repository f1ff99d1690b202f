"""Who visits what next: the rounds of a plan, handed out visit by visit to units that are free.

A unit takes the next workload that is not done in the order of the round, and passes over those that it
has visited more often than other units have, as long as there are others. So the rounds of a workload
spread over all units. With one unit that is the plan's order.

The next round may begin while visits of the last are under way. A workload is under way no more often
than it probably needs visits, so no unit waits, and hardly a visit is too many.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from latbench.measure.ledger import Ledger
from latbench.measure.plan import Plan, Workload


@dataclass(frozen=True)
class Visit:
    """One workload's turn in one round."""

    workload: Workload
    round: int


class Scheduler:
    """The visits of a run that are still to be made. Not for two threads at once.

    `number` is the round that is being handed out.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan, self._ledger = plan, ledger
        self.number = ledger.last_round
        self._waiting = self._of_round(self.number)
        self._under_way: dict[Visit, str] = {}  # and on which unit
        self._counts: Counter[tuple[str, str]] = Counter()  # of those, by workload and unit

    @property
    def under_way(self) -> int:
        """How many visits were handed out and neither ended nor came back."""
        return len(self._under_way)

    def take(self, unit: str, units: Collection[str]) -> Visit | None:
        """The next visit for `unit`, None if there is none now; `units` are all that are at work."""
        while True:
            visit = self._chosen(unit, units)
            if visit is not None:
                self._waiting.remove(visit)
                self._under_way[visit] = unit
                self._counts[visit.workload.key, unit] += 1
                return visit
            if self._waiting or not any(self._wanted(one.key) for one in self._plan.workloads):
                return None
            self.number += 1
            self._waiting = self._of_round(self.number)

    def end(self, visit: Visit) -> None:
        """Take note that `visit` was made; the ledger knows of it."""
        self._counts[visit.workload.key, self._under_way.pop(visit)] -= 1

    def give_back(self, visit: Visit) -> None:
        """Take note that `visit` was broken off; if it was not made, it is the next to be handed out."""
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
        """The first of the waiting visits in which `unit` is least ahead of the others."""
        chosen: Visit | None = None
        least = 0
        for visit in list(self._waiting):
            key = visit.workload.key
            left = self._ledger.visits_left(key)
            if left == 0:
                self._waiting.remove(visit)  # its turn is over
            if left <= self._under_way_of(key):
                continue
            ahead = self._visits(key, unit) - min(self._visits(key, one) for one in units)
            if chosen is None or ahead < least:
                chosen, least = visit, ahead
            if least == 0:
                break
        return chosen

    def _wanted(self, key: str) -> bool:
        return self._ledger.visits_left(key) > self._under_way_of(key)

    def _under_way_of(self, key: str) -> int:
        return sum(visit.workload.key == key for visit in self._under_way)

    def _visits(self, key: str, unit: str) -> int:
        return self._ledger.visits(key, unit) + self._counts[key, unit]
