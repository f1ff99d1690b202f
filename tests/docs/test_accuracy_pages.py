"""The tables of README.md and docs/accuracy.md are what the files in bench/results hold."""

import re
from pathlib import Path

import pytest

from bench.accuracy_results import FOLDER, Range, Results, all_results, summary_of
from bench.accuracy_tables import PAGES, rendered

FILES = all_results()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert rendered(text, page) == text, "write them with: python bench/accuracy_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_worse_machine_shows_on_every_page(page: Path) -> None:
    """The figure of the worst machine appears as soon as there is a file for it."""
    text = page.read_text(encoding="utf-8")
    path, one = next((path, one) for path, one in FILES.items() if one.kind == "reported")
    row = max(one.rows, key=lambda row: row.summary.mape.high if row.summary.mape else 0.0)
    summary = row.summary.model_copy(update={"mape": Range(low=87.3, high=98.7)})
    worse = row.model_copy(update={"summary": summary})
    machine = one.machine.model_copy(update={"cpu": "Worse"})
    added = one.model_copy(update={"machine": machine, "rows": (worse,)})
    written = rendered(text, page, FILES | {path.with_name("worse.json"): added})
    assert "98.7" in written
    assert "Worse" in written


def test_a_table_without_a_file_is_an_error() -> None:
    text = "<!-- table: additivity/none -->\n<!-- end of table -->"
    with pytest.raises(ValueError, match="asks for a table 'additivity/none'"):
        rendered(text, PAGES[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_summaries_are_those_of_the_validations_in_the_file(path: Path) -> None:
    results = FILES[path]
    for row in results.rows:
        assert bool(row.luts) == (results.kind == "measured")
        if row.luts:
            assert row.summary == summary_of(row.luts)
    assert Results.model_validate_json(results.to_json()) == results


def test_no_file_of_figures_names_a_path_of_a_machine() -> None:
    for path in FOLDER.parent.glob("*/*.json"):
        assert not re.search(r"[\"' ]/(home|root|tmp|work|mnt)/", path.read_text()), path
