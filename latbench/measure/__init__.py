"""Measurement: the order of visits, when they end, and the statistics of their samples.

Nothing here depends on the content of a workload's file; `latbench.device` brings it to a runner.
"""

from latbench.measure.fleet import measure_fleet
from latbench.measure.journal import Journal
from latbench.measure.ledger import ConvergenceStatus, Result
from latbench.measure.plan import Plan, Role, Settings, Workload
from latbench.measure.progress import Progress
from latbench.measure.records import RunNote
from latbench.measure.report import RunReport, UnitPart
from latbench.measure.session import measure
from latbench.statistics import Summary, summarise

__all__ = [
    "ConvergenceStatus",
    "Journal",
    "Plan",
    "Progress",
    "Result",
    "Role",
    "RunNote",
    "RunReport",
    "Settings",
    "Summary",
    "UnitPart",
    "Workload",
    "measure",
    "measure_fleet",
    "summarise",
]
