"""The HTML report: `latbench report`; one file that shows LUTs, a run and a search."""

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
    """The sections that there is something to show in.

    Args:
        luts: at least one, by the name to show; the first is the one that others are compared with.
        journal: of the run that the first was built from.
        search_folder: what `fbnet-search` wrote.
        validation: what `latbench validate --json` printed of the first.

    Raises:
        JournalRefused, BadRequest, LatbenchError: the journal or the folder cannot be read.
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
    """Return the HTML document of `sections`; it needs no network and no other file."""
    return render(title, sections)
