"""Measuring on one unit: a fleet of one (`latbench.measure.fleet`)."""

from collections.abc import Callable

from latbench.device.base import Device
from latbench.measure.clock import Clock
from latbench.measure.fleet import measure_fleet
from latbench.measure.journal import Journal
from latbench.measure.plan import Plan
from latbench.measure.progress import Progress
from latbench.measure.records import RunNote
from latbench.measure.report import RunReport


def measure(
    plan: Plan,
    device: Device,
    journal: Journal,
    *,
    progress: Callable[[Progress], None] | None = None,
    note: RunNote | None = None,
    fresh: bool = False,
    clock: Clock | None = None,
) -> RunReport:
    """Measure `plan` on `device` until every workload is finished or the budget ends.

    Arguments, return value and errors are those of `measure_fleet`.
    """
    return measure_fleet(
        plan, [device], journal, progress=progress, note=note, fresh=fresh, clock=clock
    )
