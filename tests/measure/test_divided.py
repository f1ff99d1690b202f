"""Runs in which some ops change their speed while others do not, and honest runs."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from latbench.measure.divided import is_divided
from latbench.measure.plan import Role
from latbench.measure.records import Trial
from latbench.measure.slowdown import Slowdowns

OPS = [f"op{number:02}" for number in range(40)]
VISIT_S = 0.01
ROUND_S = VISIT_S * len(OPS)

Slowness = Callable[[int, float], float]


def run(slowness: Slowness, rounds: int = 8, noise: float = 0.005, seed: int = 0) -> list[Trial]:
    """Rounds over all ops in random order; `slowness` of an op (its number) at a moment."""
    rng = random.Random(seed)
    made: list[Trial] = []
    for number in range(rounds):
        for op in rng.sample(OPS, len(OPS)):
            started = VISIT_S * len(made)
            ms = 1.05 ** int(op[2:]) * slowness(int(op[2:]), started) * rng.lognormvariate(0, noise)
            made.append(
                Trial(
                    id=len(made),
                    run=1,
                    workload=op,
                    role=Role.OP,
                    round=number,
                    unit="a",
                    slot=0,
                    samples_ns=np.full(5, round(1e6 * ms)),
                    clocks_khz=None,
                    started=started,
                    duration_s=VISIT_S,
                    warmups=0,
                )
            )
    return made


def divided(trials: list[Trial]) -> bool:
    return is_divided(trials, Slowdowns.of(trials))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("factor", [1.15, 1.5, 3.0])
@pytest.mark.parametrize("rounds", [1.5, 4.0, 6.5])
@pytest.mark.parametrize("later", [True, False])
def test_a_run_is_divided_if_some_ops_change(
    share: float, factor: float, rounds: float, later: bool
) -> None:
    changed = set(random.Random(4).sample(range(len(OPS)), round(share * len(OPS))))

    def slowness(op: int, now: float) -> float:
        return factor if op in changed and (now >= rounds * ROUND_S) is later else 1.0

    assert divided(run(slowness))


@pytest.mark.parametrize("seed", range(6))
def test_a_machine_whose_speed_changes_for_all_ops_is_not_divided(seed: int) -> None:
    rng = random.Random(seed)
    slow = [rng.random() < 0.4 for _ in range(40)]
    sensitivities = [rng.uniform(0.6, 1.5) for _ in OPS]
    factor = rng.uniform(1.1, 2.0)

    def switching(op: int, now: float) -> float:
        return factor ** sensitivities[op] if slow[int(now / 0.15)] else 1.0

    def stepping(op: int, now: float) -> float:
        return factor ** sensitivities[op] if now > 3 * ROUND_S else 1.0

    assert not divided(run(switching, seed=seed))
    assert not divided(run(stepping, seed=seed))
    assert not divided(run(lambda op, now: 1.0, noise=0.03, seed=seed))


def test_outliers_and_moods_of_single_ops_divide_no_run() -> None:
    rng = random.Random(9)

    def slowness(op: int, now: float) -> float:
        return 1.4 if rng.random() < 0.08 or (op < 3 and now > 4 * ROUND_S) else 1.0

    assert not divided(run(slowness))


def test_few_ops_divide_no_run() -> None:
    trials = run(lambda op, now: 1.5 if op % 2 and now > 4 * ROUND_S else 1.0)
    assert divided(trials)
    assert not divided([one for one in trials if one.workload in OPS[:10]])
    assert not divided([])
