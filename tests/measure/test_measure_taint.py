import dataclasses
from pathlib import Path

import numpy as np
import pytest
from measuring import QUICK, small_plan

from latbench.device.conditions import Conditions
from latbench.device.host.device import HostDevice
from latbench.measure import ConvergenceStatus, Journal, Plan, measure, taint
from latbench.measure.plan import Role
from latbench.measure.records import Run, RunNote


def a_machine(root: Path, limit_khz: int, peak_khz: int) -> HostDevice:
    """This machine, as a copied /sys and /proc describe it."""
    for name, value in {"scaling_max_freq": limit_khz, "cpuinfo_max_freq": peak_khz}.items():
        file = root / "sys/devices/system/cpu/cpu0/cpufreq" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return HostDevice(root)


def test_a_capped_clock_taints_everything_and_still_ends(
    plan: Plan, journal: Journal, tmp_path: Path
) -> None:
    device = a_machine(tmp_path / "root", 1_200_000, 2_400_000)
    report = measure(plan, device, journal)
    assert report.complete
    assert set(report.statuses.values()) == {ConvergenceStatus.NOISY}
    trials = journal.trials(report.run.id)
    ops = [trial for trial in trials if trial.role is Role.OP]
    assert all("core 0 is limited to 1.20 of 2.40 GHz" in str(trial.taint) for trial in ops)
    assert report.tainted == len(trials)
    # Six rounds until the verdict, and the one or two that are under way until the conditions are read again;
    # there are no better trials.
    for workload in plan.workloads:
        result = report.result(workload.key)
        assert 6 <= result.rounds == result.tainted <= 8


def test_a_free_clock_taints_nothing(plan: Plan, journal: Journal, tmp_path: Path) -> None:
    device = a_machine(tmp_path / "root", 2_400_000, 2_400_000)
    report = measure(plan, device, journal)
    reasons = [str(trial.taint) for trial in journal.trials(report.run.id)]
    assert not any("limited" in reason for reason in reasons)
    assert report.complete


def pretend_past(plan: Plan, device: HostDevice, journal: Journal, sentinel_ns: int) -> Run:
    """A run in which the sentinel took that long throughout."""
    described = {
        "name": device.name,
        "unit": device.unit,
        "description": device.description,
        "emulated": device.emulated,
    }
    run = journal.start_run(plan, device=described, note=RunNote(), tool="1")
    assert plan.sentinel is not None
    for _ in range(200):
        journal.add_trial(
            run.id,
            plan.sentinel,
            0,
            samples_ns=np.array([sentinel_ns] * 5),
            started=0.0,
            duration_s=5 * sentinel_ns / 1e9,
            warmups=1,
        )
    return run


def test_a_sentinel_that_was_slow_before_taints_nothing_and_costs_no_wait(
    tmp_path: Path, device: HostDevice
) -> None:
    """A machine that is faster now than at first was slow then."""
    settings = dataclasses.replace(QUICK, cool_down_s=30.0)
    plan = small_plan(tmp_path / "models", 2, settings)
    with Journal(tmp_path / "trials.sqlite") as journal:
        run = pretend_past(plan, device, journal, 10**10)
        report = measure(plan, device, journal)
        assert report.run.id == run.id
        taken = journal.trials(run.id)[200:]
    assert report.complete
    assert {trial.role for trial in taken} == {Role.OP, Role.SENTINEL}
    assert not any("sentinel" in str(trial.taint) for trial in taken)
    assert report.session_wall_s < 15
    assert report.drift is not None
    assert report.drift > 0.5


def test_a_run_waits_for_its_sentinel_but_not_for_ever(tmp_path: Path, device: HostDevice) -> None:
    visits = []
    for number, patience in enumerate((0.0, 0.5)):
        settings = dataclasses.replace(QUICK, cool_down_s=patience)
        plan = small_plan(tmp_path / "models", 2, settings)
        with Journal(tmp_path / f"{number}.sqlite") as journal:
            run = pretend_past(plan, device, journal, 1000)
            report = measure(plan, device, journal)
            taken = journal.trials(run.id)[200:]
        assert report.complete
        assert report.session_wall_s >= patience
        opening = next(place for place, one in enumerate(taken) if one.role is Role.OP)
        visits.append(opening)
    # One visit more at once, and pauses of 0.1, 0.2 and 0.2 s with one each but for the last.
    assert visits == [1, 4]


def test_a_run_does_not_spend_its_budget_on_waiting(tmp_path: Path, device: HostDevice) -> None:
    settings = dataclasses.replace(QUICK, cool_down_s=60.0, budget_s=4.0)
    plan = small_plan(tmp_path / "models", 2, settings)
    with Journal(tmp_path / "trials.sqlite") as journal:
        run = pretend_past(plan, device, journal, 1000)
        measure(plan, device, journal)
        taken = journal.trials(run.id)[200:]
    opening = next(place for place, one in enumerate(taken) if one.role is Role.OP)
    assert taken[opening].started - taken[0].started < 2.0  # of which 0.8 s are waiting


def test_a_tainted_trial_is_taken_again(tmp_path: Path, device: HostDevice) -> None:
    settings = dataclasses.replace(QUICK, budget_s=0.001, max_retakes=30)
    plan = small_plan(tmp_path / "models", 2, settings)
    with Journal(tmp_path / "trials.sqlite") as journal:
        run = measure(plan, device, journal).run
        for round_number in range(3):
            journal.add_trial(
                run.id,
                plan.workloads[0],
                round_number,
                samples_ns=np.array([10**12] * 4),
                started=0.0,
                duration_s=0.0,
                warmups=0,
                taint="thermal: status 3",
            )
        # A noisy machine may taint more; that must not end it early.
        patient = dataclasses.replace(QUICK, max_retakes=30)
        report = measure(dataclasses.replace(plan, settings=patient), device, journal)
        trials = [trial for trial in journal.trials(report.run.id) if trial.workload == "m0"]
    assert report.complete
    assert sum(trial.taint == "thermal: status 3" for trial in trials) == 3  # kept
    assert len(trials) - 3 >= QUICK.min_rounds  # and taken again
    assert report.result("m0").ms < 1000  # not made of them
    assert report.result("m0").tainted >= 3


CALM = Conditions(
    time=100.0,
    affinity=(0, 1),
    clock_limits_khz={0: 2_000_000, 1: 2_000_000},
    clock_peaks_khz={0: 2_000_000, 1: 2_000_000},
    thermal_status=0,
    stolen_s=5.0,
    throttled_s=1.0,
)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, ()),
        ({"thermal_status": 2}, ("thermal",)),
        ({"clock_limits_khz": {0: 1_500_000, 1: 2_000_000}}, ("clock",)),
        ({"affinity": (0,)}, ("affinity",)),
        ({"stolen_s": 5.04}, ()),  # 4 % of the second between the readings
        ({"stolen_s": 5.1}, ("stolen",)),
        ({"time": 110.0, "stolen_s": 5.4}, ()),  # 4 % of ten seconds
        ({"time": 110.0, "stolen_s": 5.6}, ("stolen",)),
        ({"throttled_s": 1.2}, ("throttled",)),
        ({"throttled_s": 1.2, "thermal_status": 1}, ("thermal", "throttled")),
        ({"throttled_s": None, "thermal_status": None, "affinity": None}, ()),
    ],
)
def test_conditions_that_taint_a_trial(change: dict[str, object], kinds: tuple[str, ...]) -> None:
    after = CALM.model_copy(update={"time": 101.0} | change)
    reasons = taint.joined(taint.of_conditions(CALM, after, ()))
    assert (taint.kinds(reasons) if reasons else ()) == kinds


def test_only_caps_of_the_cores_in_use_count() -> None:
    capped = CALM.model_copy(update={"clock_limits_khz": {0: 1_000_000, 1: 2_000_000}})
    assert taint.of_conditions(CALM, capped, (0,))
    assert not taint.of_conditions(CALM, capped, (1,))


def test_a_visit_on_other_cores_is_tainted() -> None:
    assert not taint.of_cores((), (0, 1))
    assert not taint.of_cores((1, 0), (0, 1))
    assert not taint.of_cores((1,), None)
    assert taint.of_cores((1,), (0, 1)) == ["affinity: on cores 0,1 instead of 1"]


@pytest.mark.parametrize(
    ("waited_ms", "duration_s", "tainted"),
    [
        (None, 0.1, False),
        (9.9, 0.1, False),  # less than a tenth of the visit
        (10.1, 0.1, True),
        (0.9, 0.002, False),  # most of a short visit, but less than a millisecond
        (1.1, 0.002, True),
    ],
)
def test_waiting_counts_beyond_a_share_and_a_minimum(
    waited_ms: float | None, duration_s: float, tainted: bool
) -> None:
    assert bool(taint.of_waiting(waited_ms, duration_s)) == tainted


def test_samples_that_rise_and_clocks_that_fall() -> None:
    noise = np.random.default_rng(0).normal(1e6, 1e4, 60)
    steady = noise.astype(np.int64)
    rising = (noise * np.linspace(1, 1.2, 60)).astype(np.int64)
    assert not taint.of_samples(steady, None)
    assert not taint.of_samples(steady[:1], None)
    assert not taint.of_samples(rising[::-1].copy(), None)  # warming up
    (reason,) = taint.of_samples(rising, None)
    assert reason.startswith("trend: samples rose by 1")
    boost = np.array([1_000_000, 3_000_000, 2_950_000])
    assert not taint.of_samples(steady, boost)
    assert taint.of_samples(steady, boost[::-1].copy()) == ["clock: fell by 67%"]
