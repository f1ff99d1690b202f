"""Measuring on one unit: a fleet of one (`latbench.measure.fleet`)."""

from collections.abc import Callable, Mapping
from typing import Any

from latbench.device.base import Device
from latbench.measure.fleet import measure_fleet
from latbench.measure.journal import Journal
from latbench.measure.plan import Plan
from latbench.measure.report import Progress, RunReport

__all__ = ["Progress", "RunReport", "measure"]


def measure(
    plan: Plan,
    device: Device,
    journal: Journal,
    *,
    progress: Callable[[Progress], None] | None = None,
    about: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> RunReport:
    """Measure `plan` on `device` until every workload is settled or the budget ends.

    A run of the same plan on the same unit that is in the journal is continued: what it holds is
    not measured again, and if nothing is left no runner is started. Arguments and errors as those of
    `measure_fleet`.
    """
    return measure_fleet(plan, [device], journal, progress=progress, about=about, fresh=fresh)
