"""The HTML report of `latbench report`: LUTs, a run and a search in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latbench.lut import Lut
from latbench.report.html.comparing import comparison, drift
from latbench.report.html.luts import heat_maps, networks, overview, rooflines
from latbench.report.html.page import Section, render
from latbench.report.html.running import conditions
from latbench.report.html.searching import search

__all__ = ["report_html", "report_sections"]


def report_sections(
    luts: Mapping[str, Lut],
    *,
    journal: Path | None = None,
    search_folder: Path | None = None,
    validation: Mapping[str, Any] | None = None,
) -> tuple[Section, ...]:
    """Return the sections that have something to show.

    Args:
        luts: one LUT or more, by display name; the others are compared with the first.
        journal: the journal that the first LUT was built from.
        search_folder: a folder that `fbnet-search --out` wrote.
        validation: the output of `latbench validate --json` for the first LUT.

    Raises:
        JournalRefused, BadRequest, LatbenchError: the journal or the folder cannot be read, or does not
            belong to the first LUT.
    """
    several = len(luts) > 1
    found = (
        overview(luts),
        heat_maps(luts),
        rooflines(luts),
        comparison(luts) if several else None,
        networks(luts, validation),
        drift(luts) if several else None,
        conditions(luts, journal),
        search(search_folder, luts) if search_folder is not None else None,
    )
    return tuple(one for one in found if one is not None)


def report_html(title: str, sections: tuple[Section, ...]) -> str:
    """Return the HTML document of `sections`; it loads nothing from anywhere."""
    return render(title, sections)
