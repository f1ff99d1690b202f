"""Runs on machines whose truth is known (`standin_scenarios`) are covered, named, or refused.

A third of a space is measured; `python bench/synthetic.py` plays the same scenarios on all of it.
"""

from pathlib import Path

import pytest
from standin_play import Stage, Verdict, play, stage
from standin_scenarios import SCENARIOS

#: Scenarios that must give the undisturbed latencies, and hardly a warning: what happens in them can be told
#: from the latencies and is taken out.
SEEN_THROUGH = (
    *("calm", "step-down", "step-down-small", "slow-start", "slow-moment", "bursts", "ripples"),
    *("throttled-first", "throttled-last", "throttled-middle", "throttled-quickly"),
    *("throttled-uneven", "sentinel-alone", "sentinel-spared-throttled", "reference-alone"),
    *("unlike-units", "equal", "1us"),
)

#: Scenarios with moments too slow to be compared, whose trials are tainted: those at the start too, which
#: were the fastest seen so far when they were taken.
TOO_SLOW = ("step-up", "step-down", "slow-start", "throttled-first", "throttled-last")

#: What must be named where it happens: the warning, and how many of the entries have it at least.
NAMED = {
    "fifth-slower": ("step", 0.15),
    "fifth-heats": ("trend", 0.15),
    "fast-moment": ("unsteady", 1.0),
    "ramp": ("unsteady", 1.0),
    "1ms": ("coarse-timer", 1.0),
    "15ms-down": ("coarse-timer", 1.0),
    "heating": ("heating", 0.8),
    "third-heating": ("heating", 0.3),
    "half-heating": ("heating", 0.45),
    "third-slower": ("divided", 1.0),
    "half-slower": ("divided", 1.0),
    "half-slower-early": ("divided", 1.0),
    "half-little-slower": ("divided", 1.0),
    "some-faster-late": ("divided", 1.0),
    "some-slower-early": ("divided", 1.0),
}


@pytest.fixture(scope="module")
def small() -> Stage:
    return stage(budget_s=5.0, networks=12, thin=True)


_played: dict[str, Verdict] = {}


def verdict_on(name: str, small: Stage, folder: Path) -> Verdict:
    """The verdict on a scenario, which is played once."""
    if name not in _played:
        _played[name] = play(name, small, folder / "journal.sqlite")
    return _played[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_scenario_is_silently_wrong(name: str, small: Stage, tmp_path: Path) -> None:
    verdict = verdict_on(name, small, tmp_path)
    assert verdict.passed, verdict
    if name in SEEN_THROUGH:
        assert abs(verdict.bias) < 0.005, verdict
        assert verdict.warned <= 0.15 * verdict.entries, verdict
    assert not (name in TOO_SLOW and verdict.tainted == 0), verdict
    if name in NAMED:
        kind, share = NAMED[name]
        assert verdict.warnings is not None
        assert verdict.warnings.get(kind, 0) >= share * verdict.entries, verdict


def test_the_same_seed_gives_the_same_run(small: Stage, tmp_path: Path) -> None:
    one, two = (
        play("unlike-units", small, tmp_path / f"{number}.sqlite", seed=8) for number in range(2)
    )
    assert one.trials == two.trials
    assert (one.bias, one.error, one.run_s) == (two.bias, two.error, two.run_s)


def test_runner_processes_in_real_time(small: Stage, tmp_path: Path) -> None:
    """How long this machine takes for a visit decides how many are slow, and nothing else."""
    verdict = play("throttled-first", small, tmp_path / "journal.sqlite", real_time=True)
    assert verdict.passed, verdict
