"""Several units of one device measure one plan together."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fixed_runner
import numpy as np
import psutil
import pytest
from fixed_units import FixedUnit, all_at_work, fixed_plan
from measuring import QUICK, small_plan

from latbench.device.host.device import HostDevice
from latbench.errors import BadRequest, DeviceLost, JournalRefused, OutputFailed
from latbench.measure import Journal, Plan, Progress, Role, Workload, measure, measure_fleet
from latbench.measure.factors import unit_factors
from latbench.measure.ledger import Ledger
from latbench.measure.records import RunNote, RunState, Trial
from latbench.measure.scheduler import Scheduler
from latbench.measure.slowdown import Slowdowns
from latbench.space import SearchSpace, parse_key
from latbench.workflows.build_lut import lut_of_run

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
MACHINES = ("one", "two", "three")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are gone are tried again at once."""
    monkeypatch.setattr("latbench.measure.fleet._FIRST_RETRY_S", 0.01)
    monkeypatch.setattr("latbench.measure.fleet._LONGEST_RETRY_S", 0.05)


def fleet(count: int, **properties: float) -> list[FixedUnit]:
    return [FixedUnit(f"unit{number}", **properties) for number in range(count)]


def ops(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.role is Role.OP]


Calls = list[Callable[[int, str, Role], object]]


@pytest.fixture
def each_trial(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is called before a trial is journalled: with how many visits to ops there were, its unit and
    its role. So what happens when depends on trials, not on time.
    """
    calls: Calls = []
    counted, lock, add = 0, threading.Lock(), Journal.add_trial

    def noticed(self: Journal, run: int, workload: Workload, *rest: Any, **values: Any) -> Trial:
        nonlocal counted
        with lock:
            number = counted
            counted += workload.role is Role.OP
        for call in calls:
            call(number, values["unit"], workload.role)
        return add(self, run, workload, *rest, **values)

    monkeypatch.setattr(Journal, "add_trial", noticed)
    return calls


def assert_nothing_twice(trials: list[Trial]) -> None:
    assert set(Counter((trial.workload, trial.round) for trial in ops(trials)).values()) == {1}


def test_eight_units_measure_one_plan(journal: Journal, each_trial: Calls) -> None:
    units = fleet(8, sleep_s=0.001)
    each_trial.append(all_at_work(units))
    report = measure_fleet(fixed_plan(30), units, journal)
    assert report.complete
    assert report.failed == 0
    trials = journal.trials(report.run.id)
    assert_nothing_twice(trials)
    names = {unit.unit for unit in units}
    assert set(report.units) == set(report.run.units) == {trial.unit for trial in trials} == names
    assert sum(part.trials for part in report.units.values()) == report.trials == len(trials)
    for key in report.statuses:
        visits = Counter(trial.unit for trial in ops(trials) if trial.workload == key)
        # Round after round a workload goes to units that had it less often.
        assert len(visits) >= 3
    watching = Counter(trial.unit for trial in trials if trial.role is Role.SENTINEL)
    assert all(watching[name] >= 3 for name in names)
    assert not psutil.Process().children()
    assert measure_fleet(fixed_plan(30), units[2:3], journal).taken == 0


def test_rounds_of_a_workload_spread_over_units_and_their_runners(journal: Journal) -> None:
    """As handed out to units in turn, without threads."""
    plan = fixed_plan(5, ci=1e-6, max_rounds=18)
    ledger = Ledger(plan, ())
    rounds, units = Scheduler(plan, ledger), ("a", "b", "c")
    taken: Counter[tuple[str, str]] = Counter()
    run = journal.start_run(plan, device=described("a", "b", "c"), note=RunNote(), tool="1")
    for turn in range(5 * 18):
        unit = units[turn % 3]
        visit = rounds.take(unit, units)
        assert visit is not None
        ledger.add(journalled(journal, run.id, visit.workload, visit.round, unit, 1.0 + turn % 7))
        rounds.end(visit)
        taken[visit.workload.key, unit] += 1
    assert rounds.take("a", units) is None
    assert all(5 <= taken[workload.key, unit] <= 7 for workload in plan.workloads for unit in units)


def test_one_unit_has_the_order_of_the_plan(journal: Journal) -> None:
    plan = fixed_plan(9)
    report = measure(plan, FixedUnit("alone"), journal)
    trials = ops(journal.trials(report.run.id))
    for number in range(6):
        order = [trial.workload for trial in trials if trial.round == number]
        assert order == [workload.key for workload in plan.order(number)]
        assert {trial.slot for trial in trials if trial.round == number} == {number % 3}
    assert report.units["alone"].factor == 1


def test_the_few_that_are_left_keep_several_units_busy(journal: Journal) -> None:
    plan = fixed_plan(1, ci=1e-9, max_rounds=12)
    rounds = Scheduler(plan, Ledger(plan, ()))
    handed_out = [rounds.take(unit, "abcdefgh") for unit in "abcdefgh"]
    taken = [visit for visit in handed_out if visit is not None]
    assert [visit.round for visit in taken] == list(range(6))  # as many as it certainly needs
    rounds.give_back(taken[2])
    assert rounds.take("h", "abcdefgh") == taken[2]


def test_a_slower_unit_gives_the_same_results(tmp_path: Path) -> None:
    plan = fixed_plan(12)
    results = []
    for name, slowness in (("even", 1.0), ("uneven", 1.2)):
        units = [*fleet(3, noise=0.0), FixedUnit("slow", slowness=slowness, noise=0.0)]
        with Journal(tmp_path / name) as journal:
            report = measure_fleet(plan, units, journal)
            factors = {unit: part.factor for unit, part in report.units.items()}
        assert factors["slow"] == pytest.approx(slowness, rel=1e-6)  # samples are whole nanoseconds
        results.append(report.results)
    assert results[0].keys() == results[1].keys()
    for key, result in results[0].items():
        assert results[1][key].ms == pytest.approx(result.ms, rel=1e-5)
        assert result.ms == pytest.approx(fixed_runner.latency_ns(f"{key}.onnx") / 1e6, abs=1e-5)
        # Rounds that are all equal leave what no run can show of itself.
        assert results[1][key].relative_half_width == pytest.approx(0.003, rel=0.01)


def test_factors_of_units_are_relative_to_the_median_unit(journal: Journal) -> None:
    plan = fixed_plan(1)
    assert plan.sentinel is not None
    run = journal.start_run(plan, device=described("a", "b", "c"), note=RunNote(), tool="1")
    for unit, ms, taint in (
        *(("a", 10.0, None), ("a", 10.0, None), ("a", 99.0, "trend: up")),
        *(("b", 12.0, None), ("c", 9.0, "trend: up")),
    ):
        journalled(journal, run.id, plan.sentinel, 0, unit, ms, taint)
    factors = unit_factors(journal.trials(run.id))
    assert factors == pytest.approx({"a": 1.0, "b": 1.2, "c": 0.9})
    assert unit_factors([]) == {}


def test_a_unit_that_drops_out_leaves_its_work_and_comes_back(
    journal: Journal, each_trial: Calls
) -> None:
    units, back = fleet(3), threading.Event()
    each_trial.append(all_at_work(units))

    def pull_and_plug_in(number: int, unit: str, role: Role) -> None:
        if number == 60 and role is Role.OP:
            units[1].unplug()
        elif number == 120 and role is Role.OP:
            units[1].plugged_in.set()
        elif number > 120 and unit == "unit1" and role is Role.OP:
            back.set()
        elif number >= 250:
            assert back.wait(60)

    each_trial.append(pull_and_plug_in)
    report = measure_fleet(fixed_plan(40, ci=1e-9, max_rounds=8), units, journal)
    trials = journal.trials(report.run.id)
    assert report.complete
    assert report.failed == 0
    assert_nothing_twice(trials)
    assert len(ops(trials)) == 40 * 8
    dropped_out = {name: part.dropped_out for name, part in report.units.items()}
    assert dropped_out == {"unit0": 0, "unit1": 1, "unit2": 0}
    # It measured before, was away while others did, and measured again. Some visits were under way
    # when it went, and when it came.
    assert "unit1" not in {trial.unit for trial in ops(trials)[80:117]}
    for some in (ops(trials)[:80], ops(trials)[117:]):
        assert "unit1" in {trial.unit for trial in some}
    assert not psutil.Process().children()


def test_a_run_without_units_ends_and_continues_later(journal: Journal, each_trial: Calls) -> None:
    plan, units = fixed_plan(20), fleet(3)

    def pull_all(number: int, *_: object) -> None:
        if number == 30:
            for unit in units:
                unit.unplug()

    each_trial += [all_at_work(units), pull_all]
    with pytest.raises(DeviceLost, match=r"all 3 units are gone; the \d+ trials so far") as lost:
        measure_fleet(plan, units, journal)
    each_trial.clear()
    assert {detail.partition(":")[0] for detail in lost.value.details} == {
        "unit0",
        "unit1",
        "unit2",
    }
    assert "repeat the command" in str(lost.value.hint)
    kept = journal.trials(1)
    assert 30 <= len(ops(kept)) <= 33
    assert journal.run().state is RunState.FAILED
    assert not psutil.Process().children()

    for unit in units:
        unit.plugged_in.set()
    joined = [*units[1:], FixedUnit("new")]  # one is left at home, and another comes
    report = measure_fleet(plan, joined, journal)
    assert report.complete
    assert report.run.id == 1
    assert report.taken == report.trials - len(kept)
    assert report.run.units == ("new", "unit0", "unit1", "unit2")
    assert_nothing_twice(journal.trials(1))


def test_an_absent_unit_does_not_stop_the_others(journal: Journal) -> None:
    units = fleet(3)
    units[0].unplug()
    report = measure_fleet(fixed_plan(10), units, journal)
    assert report.complete
    assert (report.units["unit0"].trials, report.units["unit0"].dropped_out) == (0, 0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_an_error_in_the_main_thread_ends_all_units(
    journal: Journal, kind: type[BaseException]
) -> None:
    def fail(progress: Progress) -> None:
        if progress.phase == "measure":
            raise kind

    before = threading.active_count()
    with pytest.raises(kind):
        measure_fleet(fixed_plan(10), fleet(4, sleep_s=0.005), journal, progress=fail)
    assert not psutil.Process().children()
    assert threading.active_count() == before
    assert journal.run().state is RunState.FAILED
    report = measure_fleet(fixed_plan(10), fleet(4), journal)
    assert report.complete
    assert report.failed == 0
    assert_nothing_twice(journal.trials(1))


def test_units_at_long_visits_are_ended_by_force(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latbench.measure.fleet._GRACE_S", 0.2)
    slow = [FixedUnit(f"unit{number}", sleep_s=60.0) for number in range(2)]

    def tell(progress: Progress) -> None:
        if sum(unit.opened for unit in slow) == 2 and progress.phase == "measure":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_fleet(fixed_plan(3), slow, journal, progress=tell)
    assert not psutil.Process().children()
    assert not [trial for trial in journal.trials(1) if trial.failure]


def test_an_error_of_one_unit_ends_all(journal: Journal, each_trial: Calls) -> None:
    def fill_the_disk(number: int, unit: str, _: Role) -> None:
        if number > 40 and unit == "unit1":
            raise OutputFailed("the disk is full")

    units = fleet(3)
    each_trial += [all_at_work(units), fill_the_disk]
    with pytest.raises(OutputFailed, match="the disk is full"):
        measure_fleet(fixed_plan(40), units, journal)
    assert not psutil.Process().children()


def test_units_with_another_engine_are_refused(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_fleet(fixed_plan(4, budget_s=1e-6), fleet(2), journal)
    other = tmp_path / "other_runner.py"
    other.write_text(Path(fixed_runner.__file__).read_text().replace('"1.0"', '"2.0"'))
    monkeypatch.setattr(fixed_runner, "__file__", str(other))
    with pytest.raises(JournalRefused, match=r"onnx 1\.0, but 2\.0 is installed on unit"):
        measure_fleet(fixed_plan(4), fleet(2), journal)


def test_a_budget_ends_all_units(journal: Journal) -> None:
    report = measure_fleet(fixed_plan(30, budget_s=1e-6), fleet(3), journal)
    assert report.run.state is RunState.STOPPED
    assert not ops(journal.trials(report.run.id))


def test_units_must_be_different_ones_of_one_device(journal: Journal) -> None:
    one, other = fleet(2)
    other.name = "another"
    for devices, reason in (
        ([], "no device"),
        ([one, other], "another, host"),
        ([one, one], "only once"),
    ):
        with pytest.raises(BadRequest, match=reason):
            measure_fleet(fixed_plan(2), devices, journal)


class Named(HostDevice):
    """This machine by another name."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit


def test_real_runners_of_several_units(tmp_path: Path, journal: Journal) -> None:
    plan = small_plan(tmp_path / "models", 4, QUICK)
    report = measure_fleet(plan, [Named(name) for name in MACHINES], journal)
    assert report.complete
    trials = journal.trials(report.run.id)
    assert_nothing_twice(trials)
    assert {trial.unit for trial in trials} == set(MACHINES)
    readings = {name: journal.conditions(report.run.id, name) for name in MACHINES}
    for trial in trials:
        assert trial.before in readings[trial.unit]
        assert trial.after in readings[trial.unit]


def space_plan(**settings: object) -> tuple[Plan, RunNote]:
    """A plan of a space's ops, alone."""
    plan = fixed_plan(1, **settings)
    (template,) = plan.workloads
    workloads = tuple(
        Workload(op.key, Role.OP, Path(f"{op.key}.onnx"), template.sha256)
        for op in SPACE.unique_ops
    )
    return Plan(plan.target, workloads, plan.sentinel, plan.settings), RunNote(
        space=SPACE.to_dict()
    )


def test_the_lut_records_the_part_of_each_unit(journal: Journal) -> None:
    plan, note = space_plan()
    units = [*fleet(2, noise=0.0), FixedUnit("slow", slowness=1.2, noise=0.0)]
    report = measure_fleet(plan, units, journal, note=note)
    lut = lut_of_run(journal, macs=lambda key: parse_key(key).macs)
    assert lut.conditions["unit"] == "slow, unit0, unit1"
    parts = lut.conditions["units"]
    assert parts.keys() == set(report.run.units)
    assert parts["slow"]["factor"] == pytest.approx(1.2, rel=1e-6)
    assert sum(part["trials"] for part in parts.values()) == lut.method["trials"]
    trials = journal.trials(report.run.id)
    slowdowns = Slowdowns.of(trials)
    assert lut.method["rounds_of_units"].keys() == lut.entries.keys()
    for key, entry in lut.entries.items():
        of_units = lut.method["rounds_of_units"][key]
        best = slowdowns.chosen(trial for trial in trials if trial.workload == key)
        assert of_units == dict(Counter(trial.unit for trial in best))
        assert sum(of_units.values()) == entry.rounds
        assert entry.ms == report.result(key).ms
        # The slow unit's trials were normalised by its factor.
        assert entry.ms == pytest.approx(fixed_runner.latency_ns(f"{key}.onnx") / 1e6, rel=1e-5)
    alone = measure(plan, FixedUnit("alone"), journal, note=note)
    lut = lut_of_run(journal, alone.run.id, macs=lambda key: parse_key(key).macs)
    assert lut.conditions["unit"] == "alone"
    assert "units" not in lut.conditions
    assert "rounds_of_units" not in lut.method


def described(*units: str) -> dict[str, object]:
    noted = {unit: {"description": "", "dropped_out": 0} for unit in units}
    name = ", ".join(units)
    return {"name": "host", "unit": name, "description": "", "emulated": True, "units": noted}


def journalled(
    journal: Journal,
    run: int,
    workload: Workload,
    round_number: int,
    unit: str,
    ms: float,
    taint: str | None = None,
) -> Trial:
    return journal.add_trial(
        run,
        workload,
        round_number,
        unit=unit,
        samples_ns=np.array([round(ms * 1e6)] * 4),
        started=0.0,
        duration_s=0.0,
        warmups=0,
        taint=taint,
    )


def test_the_last_workloads_have_the_sentinel_for_a_neighbour(journal: Journal) -> None:
    plan = fixed_plan(12, ci=0.0012, max_rounds=30)
    report = measure(plan, FixedUnit("alone"), journal)
    trials = journal.trials(report.run.id)
    visited = Counter(trial.round for trial in ops(trials))
    few = [number for number in visited if visited[number] <= 3]
    assert len(few) >= 2, "some workloads take longer than others"
    between, longest = 0, 0
    for trial in trials:
        between = 0 if trial.role is Role.SENTINEL else between + 1
        if trial.round in few[1:]:
            longest = max(longest, between)
    assert longest <= 3 < plan.settings.sentinel_every


@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_a_complete_run_is_complete_by_all_its_trials(journal: Journal, seed: str) -> None:
    plan = fixed_plan(30, ci=0.0012, max_rounds=25)
    first = measure(plan, FixedUnit(seed), journal)
    assert first.complete
    again = measure(plan, FixedUnit(seed), journal)
    assert (again.taken, again.statuses) == (0, first.statuses)
