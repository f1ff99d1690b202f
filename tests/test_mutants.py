"""The mutants of tests/mutants fit the code, and the program that runs them tells what became of each."""

import ast
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants import ROOT, Mutant, load_mutants
from tests.mutants.__main__ import Outcome, run_mutants

MUTANTS = load_mutants()


def test_there_are_enough_mutants_with_different_names() -> None:
    assert len(MUTANTS) >= 60
    assert [name for name, count in Counter(one.name for one in MUTANTS).items() if count > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_is_another_valid_program(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    mutated = mutant.applied_to(source)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_the_tests_of_a_mutant_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function.partition('[')[0]}(" in text, test


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of one function and its test."""
    (tmp_path / "half.py").write_text("def half(x):\n    return x / 2 if x else 0\n")
    (tmp_path / "test_half.py").write_text(
        "from half import half\n\n\ndef test_half():\n    assert half(4) == 2\n"
    )
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def _mutant(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, "half.py", old, new, ("test_half.py",))


def test_mutants_are_killed_survive_or_are_broken(checkout: Path) -> None:
    mutants = [
        _mutant("another factor", "x / 2", "x / 3"),
        _mutant("another value for nothing", "else 0", "else 1"),
        _mutant("no function", "def half", "def third"),
        _mutant("an exact half", "x / 2", "x * 2"),
    ]
    before = (checkout / "half.py").read_text()
    verdicts = run_mutants(checkout, mutants, workers=2)
    assert [verdict.outcome for verdict in verdicts] == [
        Outcome.KILLED,
        Outcome.SURVIVED,
        Outcome.BROKEN,
        Outcome.KILLED,
    ]
    assert "test_half" in verdicts[0].reason
    assert (checkout / "half.py").read_text() == before


def test_a_mutant_that_does_not_end_is_killed(checkout: Path) -> None:
    endless = _mutant("endless", "    return", "    while True: pass\n    return")
    # However slow the machine is, the tests do not end.
    [verdict] = run_mutants(checkout, [endless], timeout_s=5, check=False)
    assert verdict.outcome is Outcome.KILLED
    assert "no end within 5 s" in verdict.reason


def test_tests_that_fail_without_a_mutant_are_an_error(checkout: Path) -> None:
    (checkout / "test_half.py").write_text("def test_half():\n    assert False\n")
    with pytest.raises(RuntimeError, match="fail without a mutant"):
        run_mutants(checkout, [_mutant("another factor", "x / 2", "x / 3")])


def test_text_that_does_not_occur_once_is_an_error() -> None:
    mutant = _mutant("two places", "x", "y")
    with pytest.raises(ValueError, match=r"once in half\.py, found 3"):
        mutant.applied_to("def half(x):\n    return x / 2 if x else 0\n")
