"""A drift report for people and programs.

`render` writes a `DriftReport` as text for a terminal of 80 columns, as JSON, as JUnit XML (a test case for
the overall change, for each network and for each op), as GitHub-flavoured Markdown for a job summary, or as
GitHub workflow commands, which become annotations. Other differences always come before the numbers.

The overall change is called `level` in JSON and JUnit, the name that these formats were introduced with.
"""

import json
from collections.abc import Callable
from typing import Any

from latbench.lut.drift import DriftReport
from latbench.lut.ratios import Verdict
from latbench.report.drift_ci import as_annotations, as_junit, as_markdown
from latbench.report.drift_text import DRIFTED, as_text, remarks_on


def as_json(report: DriftReport) -> str:
    """The report as JSON; see `to_dict`."""
    return json.dumps(to_dict(report), indent=1, sort_keys=True)


def to_dict(report: DriftReport) -> dict[str, Any]:
    """The report as JSON data; docs/drift.md describes the keys."""
    overall = report.overall
    return {
        "baseline": vars(report.baseline),
        "current": vars(report.current),
        "tolerance": report.tolerance,
        "level_tolerance": report.level_tolerance,
        "strict_level": report.strict_level,
        "comparable": report.comparable,
        "drifted": report.drifted,
        "changes": [vars(change) for change in report.changes],
        "reference_ratio": report.reference_ratio,
        "level": None if overall is None else vars(overall) | {"drifted": report.level_drifted},
        "machine": None if report.machine is None else vars(report.machine),
        "beyond": None if report.beyond is None else vars(report.beyond),
        "entries": [
            {
                "key": entry.key,
                "baseline_ms": entry.baseline_ms,
                "current_ms": entry.current_ms,
                **(vars(entry.change) if entry.change else _NO_RATIO),
                "q": entry.q,
                "verdict": entry.verdict,
            }
            for entry in report.entries
        ],
        "networks": [
            {
                "name": network.name,
                "baseline_ms": network.baseline_ms,
                "current_ms": network.current_ms,
                **vars(network.change),
            }
            for network in report.networks
        ],
        **{str(verdict): [entry.key for entry in report.of(verdict)] for verdict in _LISTED},
        "remarks": remarks_on(report),
    }


_NO_RATIO = dict.fromkeys(("ratio", "low", "high", "p", "detectable"))
_LISTED = (*DRIFTED, Verdict.NEW)


#: Format -> the function that writes it.
FORMATS: dict[str, Callable[[DriftReport], str]] = {
    "text": as_text,
    "json": as_json,
    "junit": as_junit,
    "markdown": as_markdown,
    "github": as_annotations,
}


def render(report: DriftReport, form: str) -> str:
    """Return the report in one of `FORMATS`, without a final newline.

    Raises:
        KeyError: the format is unknown.
    """
    return FORMATS[form](report)
