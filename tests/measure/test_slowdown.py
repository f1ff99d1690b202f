"""Slowdowns: trials are normalised by what is common to all trials of a moment."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from latbench.measure.factors import normalised, trial_slowdowns, unit_factors
from latbench.measure.plan import Role
from latbench.measure.records import Failure, Trial
from latbench.measure.slowdown import Slowdowns

NOISE = 0.005
WORKLOADS = {f"op{number}": 0.1 * 1.3**number for number in range(20)} | {"network": 9.0}

Slowness = Callable[[float], float]


def trial(number: int, workload: str, ms: float, started: float, **fields: object) -> Trial:
    role = Role.NETWORK if workload == "network" else Role.OP
    known: dict[str, object] = {
        "role": role, "round": 0, "unit": "a", "slot": 0, "clocks_khz": None, "warmups": 0,
        "duration_s": 0.0,
    }  # fmt: skip
    return Trial(
        id=number,
        run=1,
        workload=workload,
        started=started,
        samples_ns=np.full(5, round(1e6 * ms)),
        **(known | fields),  # type: ignore[arg-type]
    )


def visits(
    slowness: Slowness,
    rounds: int = 8,
    seed: int = 0,
    unit: str = "a",
    sensitivities: Mapping[str, float] | None = None,
) -> list[Trial]:
    """Rounds over all workloads in random order, 20 ms a visit, on a unit of changing speed."""
    rng = random.Random(seed)
    made = []
    for _ in range(rounds):
        for workload in rng.sample(sorted(WORKLOADS), len(WORKLOADS)):
            started = 0.02 * len(made)
            shown = 1.0 if sensitivities is None else sensitivities[workload]
            ms = WORKLOADS[workload] * slowness(started) ** shown * rng.normalvariate(1, NOISE)
            made.append(trial(1000 * ord(unit) + len(made), workload, ms, started, unit=unit))
    return made


def errors(trials: Iterable[Trial], factors: dict[int, float]) -> list[float]:
    """The error of each workload's median, relative, after removing the error common to all."""
    medians: dict[str, list[float]] = defaultdict(list)
    for one in trials:
        medians[one.workload].append(normalised(one, factors).median_ms)
    ratios = {key: statistics.median(of) / WORKLOADS[key] for key, of in medians.items()}
    middle = statistics.median(ratios.values())
    return [abs(ratio / middle - 1) for ratio in ratios.values()]


def two_speeds(seed: int) -> Slowness:
    """A machine that alternates at random between two speeds 30 % apart, every quarter of a second."""
    rng = random.Random(seed)
    slow = [rng.random() < 0.5 for _ in range(100)]
    return lambda now: 1.3 if slow[int(now / 0.25)] else 1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_of_two_speeds_gives_the_results_of_a_quiet_one(seed: int) -> None:
    # With half as many rounds, two of five such machines leave 0.9 % where calm ones leave 0.2 %.
    trials = visits(two_speeds(seed), rounds=16, seed=seed)
    calm = errors(visits(lambda _: 1.0, rounds=16, seed=seed), {})
    found = errors(trials, trial_slowdowns(trials))
    assert statistics.fmean(errors(trials, {})) > 5 * statistics.fmean(found)
    assert statistics.fmean(found) < 3 * statistics.fmean(calm)


@pytest.mark.parametrize("seed", range(5))
def test_insensitive_workloads_are_corrected_less(seed: int) -> None:
    rng = random.Random(seed)
    sensitivities = {workload: rng.uniform(0.6, 1.4) for workload in WORKLOADS}
    speed = two_speeds(seed)
    trials = visits(speed, 24, seed, sensitivities=sensitivities)
    factors = trial_slowdowns(trials)
    for workload in WORKLOADS:
        of_workload = [one for one in trials if one.workload == workload]
        # The medians of few trials are uncertain.
        slow = [factors[one.id] for one in of_workload if speed(one.started) > 1]
        fast = [factors[one.id] for one in of_workload if speed(one.started) == 1]
        seen = statistics.median(slow) / statistics.median(fast)
        assert seen == pytest.approx(1.3 ** sensitivities[workload], rel=0.04)


def test_sensitive_neighbours_have_more_weight() -> None:
    """Many insensitive workloads that are off for a moment do not outvote a few sensitive ones."""
    keys = sorted(WORKLOADS)
    sensitivities = {key: 1.6 if number % 5 < 2 else 0.4 for number, key in enumerate(keys)}

    def speed(now: float) -> float:
        return math.exp(0.3 * (1 + math.sin(2 * math.pi * now / 5)))

    trials = [
        replace(one, samples_ns=np.rint(one.samples_ns * 1.06).astype(np.int64))
        if sensitivities[one.workload] < 1 and 5.0 < one.started < 5.8
        else one
        for one in visits(speed, 24, sensitivities=sensitivities)
    ]
    factors = trial_slowdowns(trials)
    ratios = {
        one.id: math.log(factors[one.id])
        - sensitivities[one.workload] * math.log(speed(one.started))
        for one in trials
        if sensitivities[one.workload] > 1
    }
    everywhere = statistics.median(ratios.values())
    meanwhile = [ratios[one.id] for one in trials if one.id in ratios and 5.1 < one.started < 5.7]
    assert len(meanwhile) > 6
    assert statistics.median(meanwhile) - everywhere == pytest.approx(0, abs=0.05)


def test_trials_of_a_quiet_machine_are_hardly_changed() -> None:
    trials = visits(lambda _: 1.0)
    factors = trial_slowdowns(trials)
    assert factors.keys() == {one.id for one in trials}
    assert statistics.pstdev(factors.values()) < NOISE
    # A quarter of the slowdowns are below 1, within the noise of a trial's neighbours.
    assert statistics.median(factors.values()) == pytest.approx(1, abs=NOISE / 2)


def test_a_drift_of_the_machine_is_followed() -> None:
    trials = visits(lambda now: 1 + now / 5)  # up by 67 % in the end
    factors = trial_slowdowns(trials)
    truth = [1 + one.started / 5 for one in trials]
    ratios = [factors[one.id] / true for one, true in zip(trials, truth, strict=True)]
    assert max(ratios) / min(ratios) < 1.05
    assert statistics.fmean(errors(trials, factors)) < 0.01


def test_a_change_of_one_workload_is_no_slowdown() -> None:
    trials = [
        trial(one.id, one.workload, 2 * one.median_ms, one.started)
        if one.workload == "op3" and one.started > 1.6
        else one
        for one in visits(lambda _: 1.0)
    ]
    factors = trial_slowdowns(trials)
    assert all(factors[one.id] == pytest.approx(1, abs=0.02) for one in trials)


def test_workloads_with_moods_of_their_own_are_worse_neighbours() -> None:
    """8 of 21 workloads spread by 30 % at every visit; the slowdowns of the others hardly suffer."""
    moody = sorted(WORKLOADS)[:8]
    errors_of_seeds = []
    for seed in range(5):
        rng, speed = random.Random(seed), two_speeds(seed)
        trials = [
            replace(one, samples_ns=np.rint(one.samples_ns * rng.lognormvariate(0, 0.3)))
            if one.workload in moody
            else one
            for one in visits(speed, 16, seed)
        ]
        factors = trial_slowdowns(trials)
        found = [
            math.log(factors[one.id] / speed(one.started))
            for one in trials
            if one.workload not in moody
        ]
        middle = statistics.median(found)
        errors_of_seeds.append(statistics.fmean(abs(each - middle) for each in found))
    # 1.5 % where moody workloads count less, and 2.0 % where they count like others.
    assert statistics.fmean(errors_of_seeds) < 0.0175


def test_a_workload_is_no_neighbour_of_itself() -> None:
    alone = [trial(number, "op0", 1 + number // 15, 0.02 * number) for number in range(30)]
    assert set(trial_slowdowns(alone).values()) == {1.0}


def test_trials_beyond_a_pause_are_no_neighbours() -> None:
    half = 84  # four rounds
    trials = visits(lambda now: 1.0 if now < 0.02 * half else 1.3)
    paused = [
        trial(one.id, one.workload, one.median_ms, one.started + (100 if place >= half else 0))
        for place, one in enumerate(trials)
    ]
    factors = [trial_slowdowns(paused)[one.id] for one in paused]
    assert max(factors[:half]) < 1.15 * min(factors[:half])
    assert min(factors[half:]) > 1.1 * max(factors[:half])


def test_the_nearest_neighbours_have_the_most_weight() -> None:
    """Disturbances of five visits each; most of the six neighbours on either side are outside of one."""

    def disturbed(now: float) -> bool:
        return round(now / 0.02) % 50 < 5

    trials = visits(lambda now: 1.3 if disturbed(now) else 1.0, rounds=16)
    factors = trial_slowdowns(trials)
    middles = [factors[one.id] for one in trials if round(one.started / 0.02) % 50 == 2]
    assert len(middles) > 5
    assert statistics.median(middles) == pytest.approx(1.3, rel=0.03)


def test_slow_visits_are_neighbours_too() -> None:
    trials = visits(lambda now: 1 + now / 5)
    slow = [trial(one.id, one.workload, one.median_ms, 150 * one.started) for one in trials]
    assert trial_slowdowns(slow) == pytest.approx(trial_slowdowns(trials), rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_noisy_units_stay_comparable(seed: int) -> None:
    """Two speeds, each about half of the time: the median of a few visits may be either."""
    trials = []
    for unit in "ab":
        speed = two_speeds(10 * seed + ord(unit))
        of_unit = visits(speed, seed=seed, unit=unit)
        trials += of_unit
        trials += [
            trial(
                one.id + 500,
                "sentinel",
                9 * speed(one.started),
                one.started + 0.001,
                role=Role.SENTINEL,
                unit=unit,
            )
            for one in of_unit[::24]
        ]
    factors = trial_slowdowns(trials)
    of_units = []
    for unit in "ab":
        ratios = [
            normalised(one, factors).median_ms / WORKLOADS[one.workload]
            for one in trials
            if one.unit == unit and one.role is not Role.SENTINEL
        ]
        of_units.append(statistics.median(ratios))
    assert of_units[0] == pytest.approx(of_units[1], rel=0.03)


def test_tainted_trials_count_for_slowdowns_and_failed_ones_do_not() -> None:
    speed = two_speeds(2)
    trials = visits(speed, seed=2)
    tainted = [
        trial(
            one.id, one.workload, one.median_ms, one.started, taint="sentinel: +40% from its median"
        )
        for one in trials
    ]
    assert trial_slowdowns(tainted) == pytest.approx(trial_slowdowns(trials))
    failed = trial(7, "op0", 1.0, 0.5, failure=Failure("run", "crash", "gone"))
    assert trial_slowdowns([*trials, failed]) == trial_slowdowns(trials)


def test_the_reference_gets_its_neighbours_slowdown_and_estimates_none() -> None:
    speed = two_speeds(3)
    trials = visits(speed, seed=3)
    reference = [
        trial(number, "reference:numpy", 5.0 * speed(started), started, role=Role.REFERENCE)
        for number in range(30)
        if (started := 0.1 * number + 0.001)
    ]
    factors = trial_slowdowns([*trials, *reference])
    raw = [one.median_ms for one in reference]
    told = [normalised(one, factors).median_ms for one in reference]
    # Where the speed changes between a trial's neighbours, it may be either.
    assert statistics.fmean(abs(ms / 5 - 1) < 0.05 for ms in told) > 0.85
    assert statistics.fmean(abs(ms / 5 - 1) < 0.05 for ms in raw) < 0.7
    assert {one.id: factors[one.id] for one in trials} == trial_slowdowns(trials)


@pytest.mark.parametrize("shown", [0.5, 1.0, 1.5])
def test_the_reference_is_normalised_as_far_as_it_is_sensitive(shown: float) -> None:
    """NumPy and a runtime slow down together, but not alike."""
    rng, busy = random.Random(5), random.Random(6)
    slow = [busy.random() < 0.5 for _ in range(200)]

    def speed(now: float) -> float:
        return 1.4 if slow[int(now / 0.4)] else 1.0

    trials = visits(speed, rounds=24, seed=5)
    reference = []
    for number in range(120):
        started = 0.08 * number + 0.001
        ms = 5.0 * speed(started) ** shown * rng.normalvariate(1, NOISE)
        reference.append(trial(number, "reference:numpy", ms, started, role=Role.REFERENCE))
    factors = trial_slowdowns([*trials, *reference])
    told = [normalised(one, factors).median_ms for one in reference]
    # Where the speed changes between a trial's neighbours, it may be either.
    assert statistics.fmean(abs(ms / 5 - 1) < 0.03 for ms in told) > 0.9
    assert {one.id: factors[one.id] for one in trials} == trial_slowdowns(trials)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_results_do_not_depend_on_how_much_of_a_run_is_disturbed(share: float) -> None:
    """A busy process comes and goes; the rest of the time counts."""
    rng = random.Random(7)
    busy = [rng.random() < share for _ in range(100)]
    trials = visits(lambda now: 1.25 if busy[int(now / 0.25)] else 1.0, rounds=24)
    factors = trial_slowdowns(trials)
    ratios = []
    for workload, ms in WORKLOADS.items():
        of_workload = [one for one in trials if one.workload == workload]
        found = statistics.median(normalised(one, factors).median_ms for one in of_workload)
        ratios.append(found / ms)
    assert statistics.median(ratios) == pytest.approx(1, abs=0.01)


def test_disturbed_trials_count_only_if_there_are_few_others() -> None:
    trials = visits(lambda now: 1.25 if 1.0 < now < 3.0 else 1.0, rounds=24)
    slowdowns = Slowdowns.of(trials)
    of_workload = [one for one in trials if one.workload == "op3"]
    calm = [one for one in of_workload if not 1.0 < one.started < 3.0]
    assert {one.id for one in slowdowns.chosen(of_workload)} == {one.id for one in calm}
    few = [one for one in of_workload if one not in calm[5:]]
    assert {one.id for one in slowdowns.chosen(few)} == {one.id for one in few}
    whole = [one for one in trials if one.workload == "network"]
    assert {one.id for one in slowdowns.chosen(whole)} == {one.id for one in whole}


def test_the_baseline_is_of_trusted_trials() -> None:
    """A phone whose clock is capped most of the time is not at its baseline then."""
    trials = visits(lambda now: 1.5 if now < 2.8 else 1.0)
    capped = [
        trial(one.id, one.workload, one.median_ms, one.started, taint="clock: capped")
        if one.started < 2.8
        else one
        for one in trials
    ]
    factors = trial_slowdowns(capped)
    trusted = [factors[one.id] for one in capped if one.taint is None]
    assert statistics.median(trusted) == pytest.approx(1, abs=0.03)


def test_each_unit_has_its_own_slowdowns() -> None:
    speeds = {"a": two_speeds(4), "b": two_speeds(5), "c": lambda _: 1.0}
    slowness = {"a": 1.0, "b": 1.4, "c": 0.9}
    trials = []
    for unit, speed in speeds.items():
        of_unit = visits(lambda now, s=speed, u=unit: slowness[u] * s(now), unit=unit)  # type: ignore[misc]
        watching = [
            trial(
                one.id + 500,
                "sentinel",
                9 * slowness[unit],
                one.started,
                role=Role.SENTINEL,
                unit=unit,
            )
            for one in of_unit[::24]
        ]
        trials += [*of_unit, *watching]
    units = unit_factors(trials)
    assert units == pytest.approx(slowness, rel=1e-6)
    factors = trial_slowdowns(trials)
    for unit, speed in speeds.items():
        of_unit = [one for one in trials if one.unit == unit and one.role is Role.OP]
        ratios = [factors[one.id] / speed(one.started) for one in of_unit]
        near = [abs(ratio / statistics.median(ratios) - 1) < 0.02 for ratio in ratios]
        assert statistics.fmean(near) > 0.9
    ops = [one for one in trials if one.role is not Role.SENTINEL]
    assert statistics.fmean(errors(ops, factors)) < 0.006


def test_no_trials_have_no_slowdowns() -> None:
    assert trial_slowdowns([]) == {}
    assert unit_factors([]) == {}
