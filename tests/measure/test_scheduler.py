"""Which visit is next, and when a workload is done, from trials that were made up."""

import random
import statistics

import numpy as np
import pytest
from fixed_units import fixed_plan

from latbench.measure.ledger import ConvergenceStatus, Ledger
from latbench.measure.plan import Plan
from latbench.measure.records import Trial
from latbench.measure.scheduler import Scheduler


def trials_of(plan: Plan, rounds: int, *, alternating: bool) -> list[Trial]:
    """Visits of 20 ms each; the machine may be 8 % slower every other half second."""
    rng = random.Random(0)
    made: list[Trial] = []
    for number in range(rounds):
        for workload in plan.order(number):
            started = 0.02 * len(made)
            slowdown = 1.08 if alternating and int(2 * started) % 2 else 1.0
            ns = 1e6 * slowdown * rng.normalvariate(1, 0.002)
            made.append(
                Trial(
                    id=len(made) + 1,
                    run=1,
                    workload=workload.key,
                    role=workload.role,
                    round=number,
                    unit="a",
                    slot=0,
                    samples_ns=np.full(4, round(ns)),
                    clocks_khz=None,
                    warmups=0,
                    started=started,
                    duration_s=0.02,
                )
            )
    return made


def test_intervals_are_those_of_normalised_trials() -> None:
    plan = fixed_plan(16, ci=0.02)
    trials = trials_of(plan, 16, alternating=True)
    ledger = Ledger(plan, trials)
    half_widths = [ledger.half_width(workload.key) for workload in plan.workloads]
    # Not normalised they are about 0.04, half of what the machine alternates by, which disturbs no trial.
    assert statistics.median(half_widths) < 0.01
    assert max(half_widths) < 0.03
    assert list(ledger.statuses().values()).count(ConvergenceStatus.CONVERGED) > 10


def test_a_ledger_that_is_asked_all_the_while_says_what_a_new_one_says() -> None:
    plan = fixed_plan(16, ci=0.002)
    trials = trials_of(plan, 12, alternating=True)
    asked = Ledger(plan, [])
    for trial in trials:
        asked.add(trial)
        if trial.id % 8 == 0:
            asked.taint([trial.id - 3], "waiting: others had the core")
        for workload in plan.workloads:
            asked.visits_left(workload.key)
    asked.estimate_slowdowns()
    new = Ledger(plan, asked.trials())
    new.estimate_slowdowns()
    keys = [workload.key for workload in plan.workloads]
    assert set(asked.statuses().values()) >= {
        ConvergenceStatus.CONVERGED,
        ConvergenceStatus.PENDING,
    }
    assert asked.statuses() == new.statuses()
    assert [asked.visits_left(key) for key in keys] == [new.visits_left(key) for key in keys]


def test_a_visit_that_is_given_back_is_the_next() -> None:
    plan = fixed_plan(4)
    scheduler = Scheduler(plan, Ledger(plan, []))
    first = scheduler.take("a", ["a"])
    assert first is not None
    assert scheduler.under_way == 1
    scheduler.give_back(first)
    assert scheduler.under_way == 0
    again = [scheduler.take("a", ["a"]) for _ in range(4)]
    assert again[0] == first
    assert len(set(again)) == 4


@pytest.mark.parametrize(("done", "every"), [(0, 8), (12, 4), (16, 1)])
def test_the_last_workloads_have_more_visits_to_the_sentinel(done: int, every: int) -> None:
    plan = fixed_plan(16, ci=0.02, sentinel_every=8)
    keys = {f"op{number}" for number in range(done)}
    trials = [one for one in trials_of(plan, 16, alternating=False) if one.workload in keys]
    assert Scheduler(plan, Ledger(plan, trials)).sentinel_every == every
