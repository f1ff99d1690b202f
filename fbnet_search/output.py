"""The files of a finished search: `architecture.json`, and with several targets the front."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fbnet_search.result import SearchResult
from latbench.files import write_atomically
from latbench.lut import Lut


def write_results(results: Sequence[SearchResult], out: Path, luts: Sequence[Lut]) -> None:
    """Write each network's `architecture.json`; with several also `front.json` and `front.html`.

    Raises:
        OutputFailed: a file cannot be written.
    """
    for result in results:
        content = json.dumps(result.to_dict(), indent=1) + "\n"
        write_atomically(result.out / "architecture.json", content)
    if len(results) > 1:
        write_atomically(out / "front.json", json.dumps(front_of(results), indent=1) + "\n")
        write_front_page(out, luts)


def front_of(results: Sequence[SearchResult]) -> list[dict[str, Any]]:
    """The content of `front.json`: the networks of several targets, as a table to plot.

    Their accuracies come from training them (`fbnet-train` on each folder).
    """
    return [
        {
            "target_ms": one.target_ms,
            "predicted_ms": one.prediction.ms,
            "measured_ms": one.measured and one.measured.ms,
            "macs": one.architecture.macs,
            "params": one.architecture.params,
            "layers": one.architecture.notation,
            "folder": one.out.name,
        }
        for one in results
    ]


def write_front_page(folder: Path, luts: Sequence[Lut]) -> Path:
    """Plot the front of the search in `folder` as `front.html`, a page without other files.

    Raises:
        OutputFailed: it cannot be written.
    """
    from latbench.report.html import report_html
    from latbench.report.html.searching import search

    section = search(folder, {str(lut.target): lut for lut in luts})
    page = folder / "front.html"
    write_atomically(page, report_html(f"fbnet-search: the front in {folder.name}", (section,)))
    return page


def front_folders(front: Path) -> list[Path]:
    """The folders of the networks listed in a `front.json`; empty if it is missing or unreadable."""
    try:
        rows = json.loads(front.read_text(encoding="utf-8"))
        return [front.parent / Path(row["folder"]).name for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def result_files(out: Path) -> list[Path]:
    """The result files of an earlier search in `out`; those of a front's networks before the front."""
    folders = (*front_folders(out / "front.json"), out)
    found = [folder / "architecture.json" for folder in folders]
    return [*found, out / "front.html", out / "front.json"]
