"""Measuring: what is visited in which order, until when, and what is made of the samples.

Nothing here knows what a workload's file holds; `latbench.device` brings it to a runner.
"""

from latbench.measure.fleet import measure_fleet
from latbench.measure.journal import Journal
from latbench.measure.ledger import ConvergenceStatus, Result
from latbench.measure.plan import Plan, Role, Settings, Workload
from latbench.measure.report import Progress, RunReport, UnitPart
from latbench.measure.session import measure
from latbench.statistics import Summary, summarise

__all__ = [
    "ConvergenceStatus",
    "Journal",
    "Plan",
    "Progress",
    "Result",
    "Role",
    "RunReport",
    "Settings",
    "Summary",
    "UnitPart",
    "Workload",
    "measure",
    "measure_fleet",
    "summarise",
]
