"""The table of docs/drift.md is what the files in bench/results/drift hold."""

import pytest

from bench.drift_power import PAGE, RESULTS, Results, rendered

FILES = sorted(RESULTS.glob("*.json"))


def test_the_table_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "<!-- table: drift -->" in text
    assert rendered(text) == text, "write it with: python bench/drift_power.py --page"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_where_its_rates_come_from(path: object) -> None:
    results = Results.model_validate_json(PAGE.parent.joinpath(str(path)).read_text())
    assert results.command.startswith("python bench/drift_power.py")
    for one in results.targets:
        count = len(one.runs)
        assert one.all_runs.pairs == count * (count - 1) // 2
        assert one.all_runs.runs == count
        if one.judged is not None:
            assert one.judged.runs < count
