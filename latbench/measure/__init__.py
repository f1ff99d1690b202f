"""Measuring: what is visited in which order, until when, and what is made of the samples.

Nothing here knows what a subject's file holds; `latbench.device` brings it to a runner.
"""

from latbench.measure.fleet import measure_fleet
from latbench.measure.journal import Journal
from latbench.measure.ledger import Result, Standing
from latbench.measure.plan import Plan, Role, Settings, Subject
from latbench.measure.report import Progress, RunReport, UnitPart
from latbench.measure.session import measure
from latbench.statistics import Summary, summarise

__all__ = [
    "Journal",
    "Plan",
    "Progress",
    "Result",
    "Role",
    "RunReport",
    "Settings",
    "Standing",
    "Subject",
    "Summary",
    "UnitPart",
    "measure",
    "measure_fleet",
    "summarise",
]
