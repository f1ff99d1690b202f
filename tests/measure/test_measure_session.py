import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import psutil
import pytest
from fixed_units import FixedUnit, fixed_plan
from measuring import QUICK, small_plan, workload, write_endless_model, write_model

from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import Loaded
from latbench.errors import JournalRefused, LatbenchError, RunnerFailed
from latbench.measure import ConvergenceStatus, Journal, Plan, Progress, measure
from latbench.measure.ledger import Ledger
from latbench.measure.plan import Role
from latbench.measure.records import RunNote, RunState, Trial
from latbench.runtime.registry import descriptor
from latbench.statistics import summarise
from latbench.target import Runtime

SETTLED = {ConvergenceStatus.CONVERGED, ConvergenceStatus.EXHAUSTED, ConvergenceStatus.NOISY}


def visits(trials: list[Trial]) -> Counter[tuple[str, int]]:
    return Counter((trial.workload, trial.round) for trial in trials if trial.role is Role.OP)


def workers() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_a_complete_run(plan: Plan, device: HostDevice, journal: Journal) -> None:
    told: list[Progress] = []
    report = measure(
        plan, device, journal, progress=told.append, note=RunNote.model_validate({"for": "a test"})
    )

    assert report.complete
    assert set(report.statuses.values()) <= SETTLED
    assert set(report.results) == {workload.key for workload in plan.all_workloads}
    trials = journal.trials(report.run.id)
    assert report.trials == report.taken == len(trials)
    assert set(visits(trials).values()) == {1}
    for key in report.statuses:
        result = report.result(key)
        low, high = result.ci95
        assert 0 < low <= result.ms <= high
        of_key = [trial for trial in trials if trial.workload == key]
        assert len(of_key) >= plan.settings.min_rounds
        assert all(trial.samples_ns.size >= plan.settings.min_samples for trial in of_key)
    assert report.timed_s == pytest.approx(sum(trial.timed_s for trial in trials))
    assert json.loads(report.run.note.to_json()) == {"for": "a test"}
    assert report.run.hello is not None
    assert "onnx" in {engine["runtime"] for engine in report.run.hello["engines"]}
    assert report.run.wall_s >= report.session_timed_s
    assert not workers()

    assert [told[0].phase, told[-1].phase] == ["prepare", "done"]
    assert told[-1].done == told[-1].expected == sum(visits(trials).values())
    assert told[-1].settled == told[-1].workloads == len(plan.workloads)
    assert all(earlier.done <= later.done for earlier, later in itertools.pairwise(told))


def test_rounds_are_interleaved_and_the_sentinel_stands_between(
    plan: Plan, device: HostDevice, journal: Journal
) -> None:
    trials = journal.trials(measure(plan, device, journal).run.id)
    order = [trial.workload for trial in trials if trial.round == 0 and trial.role is Role.OP]
    assert order == [workload.key for workload in plan.order(0)]
    assert order != [workload.key for workload in plan.order(1)]
    roles = [trial.role for trial in trials]
    assert roles[0] is roles[-1] is Role.SENTINEL
    longest = max(map(len, "".join("s" if r is Role.SENTINEL else "o" for r in roles).split("s")))
    assert longest <= plan.settings.sentinel_every


def test_every_trial_stands_between_two_readings(
    plan: Plan, device: HostDevice, journal: Journal
) -> None:
    run = measure(plan, device, journal).run.id
    readings = journal.conditions(run)
    for trial in journal.trials(run):
        assert trial.before is not None
        assert trial.after is not None
        assert readings[trial.before]["time"] <= trial.started <= readings[trial.after]["time"]


def test_a_workload_is_visited_until_it_converges_and_no_longer(journal: Journal) -> None:
    plan = fixed_plan(4)
    report = measure(plan, FixedUnit("steady", noise=0.002), journal)
    trials = journal.trials(report.run.id)
    assert set(report.statuses.values()) == {ConvergenceStatus.CONVERGED}
    for key in report.statuses:
        of_key = [trial for trial in trials if trial.workload == key]
        assert len(of_key) == plan.settings.min_rounds
        assert Ledger(plan, of_key[:-1]).status(key) is ConvergenceStatus.PENDING
        assert Ledger(plan, of_key).status(key) is ConvergenceStatus.CONVERGED


def test_a_noisy_workload_gets_more_visits(journal: Journal) -> None:
    plan = fixed_plan(4, ci=0.01)
    report = measure(plan, FixedUnit("noisy", noise=0.1), journal)
    trials = journal.trials(report.run.id)
    for key, status in report.statuses.items():
        of_key = [trial for trial in trials if trial.workload == key]
        assert len(of_key) == plan.settings.max_rounds
        assert status is ConvergenceStatus.EXHAUSTED


def test_the_status_follows_from_the_trials(plan: Plan, journal: Journal) -> None:
    run = journal.start_run(
        plan,
        device={"name": "host", "unit": "u", "description": "", "emulated": False},
        note=RunNote(),
        tool="1",
    )

    def visit(number: int, round_number: int, ms: float, taint: str | None = None) -> None:
        journal.add_trial(
            run.id,
            plan.workloads[number],
            round_number,
            samples_ns=np.array([int(ms * 1e6)] * 4),
            started=0.0,
            duration_s=0.0,
            warmups=0,
            taint=taint,
        )

    for round_number in range(7):
        visit(0, round_number, 1 + 0.01 * (round_number % 2))  # calm
        visit(1, round_number, 1 + 3 * (round_number % 2))  # wild
        visit(2, round_number, 1, "clock: capped")  # distrusted
        if round_number < 5:
            visit(3, round_number, 1)  # calm, but too few rounds
    ledger = Ledger(plan, journal.trials(run.id))
    statuses = [ledger.status(f"m{number}") for number in range(4)]
    pending = ConvergenceStatus.PENDING
    assert statuses == [ConvergenceStatus.CONVERGED, pending, ConvergenceStatus.NOISY, pending]
    assert ledger.visits_left("m0") == 0
    assert ledger.visits_left("m1") > 1
    assert ledger.visits_left("m3") == 1
    strict = dataclasses.replace(plan, settings=dataclasses.replace(QUICK, max_rounds=7))
    assert Ledger(strict, journal.trials(run.id)).status("m1") is ConvergenceStatus.EXHAUSTED


@pytest.mark.parametrize(
    ("trusted", "tainted", "max_retakes", "status"),
    [
        (8, 6, 6, ConvergenceStatus.PENDING),  # enough tainted trials, but not the majority
        (8, 8, 6, ConvergenceStatus.PENDING),
        (8, 9, 6, ConvergenceStatus.NOISY),
        (2, 5, 6, ConvergenceStatus.PENDING),  # the majority, but not enough of them
        (2, 6, 6, ConvergenceStatus.NOISY),
        (0, 6, 6, ConvergenceStatus.NOISY),
        (1, 4, 3, ConvergenceStatus.PENDING),  # fewer trials than a statistic needs
        (2, 4, 3, ConvergenceStatus.NOISY),
    ],
)
def test_a_workload_is_noisy_if_tainted_trials_outnumber_trusted_ones(
    trusted: int,
    tainted: int,
    max_retakes: int,
    status: ConvergenceStatus,
    plan: Plan,
    journal: Journal,
) -> None:
    device = {"name": "host", "unit": "u", "description": "", "emulated": False}
    run = journal.start_run(plan, device=device, note=RunNote(), tool="1")
    for number in range(trusted + tainted):
        journal.add_trial(
            run.id,
            plan.workloads[0],
            number,
            samples_ns=np.array([1_000_000 * (1 + 3 * (number % 2))] * 4),  # never converges
            started=0.0,
            duration_s=0.0,
            warmups=0,
            taint=None if number < trusted else "clock: capped",
        )
    settings = dataclasses.replace(QUICK, max_retakes=max_retakes)
    ledger = Ledger(dataclasses.replace(plan, settings=settings), journal.trials(run.id))
    assert ledger.status("m0") is status


def test_a_few_tainted_trials_are_too_few_for_a_verdict(plan: Plan, journal: Journal) -> None:
    device = {"name": "host", "unit": "u", "description": "", "emulated": False}
    run = journal.start_run(plan, device=device, note=RunNote(), tool="1")
    settings = dataclasses.replace(QUICK, max_retakes=1)
    for number in range(6):
        journal.add_trial(
            run.id,
            plan.workloads[0],
            number,
            samples_ns=np.array([1_000_000] * 4),
            started=0.0,
            duration_s=0.0,
            warmups=0,
            taint="clock: capped",
        )
        ledger = Ledger(dataclasses.replace(plan, settings=settings), journal.trials(run.id))
        enough = number + 1 >= settings.min_rounds
        expected = ConvergenceStatus.NOISY if enough else ConvergenceStatus.PENDING
        assert ledger.status("m0") is expected


def test_a_workload_converges_by_the_half_width_of_its_interval(
    plan: Plan, journal: Journal
) -> None:
    device = {"name": "host", "unit": "u", "description": "", "emulated": False}
    run = journal.start_run(plan, device=device, note=RunNote(), tool="1")
    for number in range(12):
        journal.add_trial(
            run.id,
            plan.workloads[0],
            number,
            samples_ns=np.array([1_000_000 + 10_000 * number] * 4),
            started=0.0,
            duration_s=0.0,
            warmups=0,
        )
    trials = journal.trials(run.id)
    ledger = Ledger(plan, trials)
    result = summarise([trial.samples_ns for trial in trials])
    low, high = result.ci95
    assert ledger.half_width("m0") == pytest.approx((high - low) / (2 * result.ms))

    def with_target(ci: float) -> Ledger:
        settings = dataclasses.replace(QUICK, ci=ci, max_rounds=1000)
        return Ledger(dataclasses.replace(plan, settings=settings), trials)

    half = result.relative_half_width
    assert with_target(1.01 * half).status("m0") is ConvergenceStatus.CONVERGED
    assert with_target(0.99 * half).status("m0") is ConvergenceStatus.PENDING
    # Intervals narrow with the square root of the rounds: a third of the width takes nine times as many.
    assert with_target(1.0001 * half / 3).visits_left("m0") == 9 * 12 - 12


def test_trials_that_are_tainted_later_leave_the_baseline(plan: Plan, journal: Journal) -> None:
    run = journal.start_run(
        plan,
        device={"name": "host", "unit": "u", "description": "", "emulated": False},
        note=RunNote(),
        tool="1",
    )
    rng = np.random.default_rng(0)
    fast = []
    for number in range(120):
        round_number, workload = divmod(number, 4)
        slowness = 1.0 if round_number < 9 else 1.3
        trial = journal.add_trial(
            run.id,
            plan.workloads[workload],
            round_number,
            samples_ns=np.array([int(slowness * rng.normal(1e6, 1e4))] * 4),
            started=0.02 * number,
            duration_s=0.0,
            warmups=0,
        )
        if slowness == 1.0 and workload:
            fast.append(trial.id)
    ledger = Ledger(plan, journal.trials(run.id))
    ledger.estimate_slowdowns()
    before = ledger.half_width("m0")  # of the nine fast ones: those after them are disturbed
    journal.taint(fast, "clock: of another rule")
    ledger.taint(fast, "clock: of another rule")
    ledger.estimate_slowdowns()
    resumed = Ledger(plan, journal.trials(run.id))
    resumed.estimate_slowdowns()
    assert ledger.half_width("m0") == resumed.half_width("m0") != before


def test_rounds_take_turns_at_the_runners(
    tmp_path: Path, device: HostDevice, journal: Journal
) -> None:
    plan = small_plan(tmp_path / "models", 2, dataclasses.replace(QUICK, runners=3))
    report = measure(plan, device, journal)
    assert report.complete
    assert report.runners_started == 3


def test_a_complete_run_is_not_repeated(
    plan: Plan, device: HostDevice, journal: Journal, tmp_path: Path
) -> None:
    first = measure(plan, device, journal)
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "models", moved)
    (tmp_path / "models").rename(tmp_path / "gone")
    again = small_plan(moved)
    second = measure(dataclasses.replace(again, workloads=again.workloads[::-1]), device, journal)
    assert (second.taken, second.runners_started) == (0, 0)
    assert second.run.id == first.run.id
    assert second.results == first.results

    fresh = measure(again, device, journal, fresh=True)
    assert fresh.run.id != first.run.id
    assert fresh.taken > 0


def test_another_plan_is_another_run(plan: Plan, device: HostDevice, journal: Journal) -> None:
    first = measure(plan, device, journal)
    threads = plan.target.model_copy(update={"threads": 2})
    second = measure(dataclasses.replace(plan, target=threads), device, journal)
    assert second.run.id != first.run.id
    assert second.taken > 0


def test_the_budget_stops_a_run_that_another_call_continues(
    plan: Plan, device: HostDevice, journal: Journal
) -> None:
    short = dataclasses.replace(QUICK, budget_s=0.001)
    stopped = measure(dataclasses.replace(plan, settings=short), device, journal)
    assert stopped.run.state is RunState.STOPPED
    assert not stopped.complete
    assert set(stopped.unconverged) == {workload.key for workload in plan.workloads}
    with pytest.raises(LatbenchError, match="within the time limit"):
        stopped.result("m0")
    finished = measure(plan, device, journal)
    assert finished.run.id == stopped.run.id
    assert finished.complete


def test_a_killed_runner_costs_one_trial(plan: Plan, device: HostDevice, journal: Journal) -> None:
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        if progress.phase == "measure" and not killed:
            (worker,) = workers()
            worker.kill()
            killed.append(worker.pid)

    report = measure(plan, device, journal, progress=kill_once)
    assert killed
    assert report.complete
    assert report.runners_started == 2
    assert report.failed <= 1  # none, if it struck a reading of the conditions
    assert set(report.statuses.values()) <= SETTLED
    failed = [trial.failure for trial in journal.trials(report.run.id) if trial.failure]
    assert all(failure.kind == "crashed" and "SIGKILL" in str(failure) for failure in failed)


def test_a_model_that_does_not_load_is_given_up_and_listed(
    plan: Plan, device: HostDevice, journal: Journal, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    report = measure(
        dataclasses.replace(plan, workloads=(*plan.workloads, workload("broken", broken))),
        device,
        journal,
    )
    assert report.complete
    assert report.given_up == ("broken",)
    assert (report.failed, report.runners_started) == (3, 1)
    assert report.failures["broken"].stage == "load"
    with pytest.raises(RunnerFailed, match=r"broken\.onnx"):
        report.result("broken")
    assert set(report.results) == {workload.key for workload in plan.all_workloads}


def test_a_model_that_never_ends_is_given_up_and_the_rest_measured(
    plan: Plan, device: HostDevice, journal: Journal, tmp_path: Path
) -> None:
    endless = workload("endless", write_endless_model(tmp_path / "endless.onnx"))
    patient = dataclasses.replace(QUICK, timeout_s=2.0)
    workloads = (*plan.workloads, endless)
    report = measure(
        dataclasses.replace(plan, workloads=workloads, settings=patient), device, journal
    )
    assert report.complete
    assert report.given_up == ("endless",)
    assert report.failures["endless"].kind == "hung"
    assert report.runners_started == 1 + report.failed
    assert set(report.results) == {workload.key for workload in plan.all_workloads}
    assert not workers()


def test_a_sentinel_that_does_not_load_leaves_the_ops_measured(
    plan: Plan, device: HostDevice, journal: Journal, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    sentinel = workload("network", broken, Role.SENTINEL)
    report = measure(dataclasses.replace(plan, sentinel=sentinel), device, journal)
    assert report.complete
    assert report.drift is None
    assert "network" in report.failures
    assert set(report.results) == {workload.key for workload in plan.workloads}


def test_one_model_without_a_sentinel(
    plan: Plan, device: HostDevice, journal: Journal, tmp_path: Path
) -> None:
    model = workload("mine", write_model(tmp_path / "mine.onnx", 8, 8), Role.NETWORK)
    report = measure(Plan(plan.target, (model,), settings=QUICK), device, journal)
    assert report.complete
    assert report.result("mine").rounds >= QUICK.min_rounds
    assert report.drift is None


def test_ctrl_c_leaves_a_continuable_journal_and_no_runner(
    plan: Plan, device: HostDevice, journal: Journal
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.phase == "measure":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(plan, device, journal, progress=interrupt)
    assert not workers()
    assert journal.run().state is RunState.FAILED
    kept = journal.trials(journal.run().id)
    report = measure(plan, device, journal)
    assert report.complete
    assert report.taken == report.trials - len(kept)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_nothing_and_repeats_nothing(
    how: signal.Signals, tmp_path: Path, device: HostDevice
) -> None:
    path = tmp_path / "trials.sqlite"
    process = subprocess.Popen(
        [sys.executable, measuring.__file__, str(tmp_path / "models"), str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    try:
        seen = wait_for_trials(path, 25, process)
        (worker,) = psutil.Process(process.pid).children()
    finally:
        process.send_signal(how)
        process.communicate()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()

    with Journal(path) as journal:
        run = journal.run()
        assert run.state is (RunState.RUNNING if how is signal.SIGKILL else RunState.FAILED)
        before = journal.trials(run.id)
        assert [trial.id for trial in before[: len(seen)]] == [trial.id for trial in seen]
        settings = dataclasses.replace(QUICK, ci=1e-6, max_rounds=2000, budget_s=1.0)
        settings = dataclasses.replace(settings, max_samples=200)
        plan = small_plan(tmp_path / "models", settings=settings)
        report = measure(plan, device, journal)
        assert report.run.id == run.id
        after = journal.trials(run.id)
    assert report.taken == len(after) - len(before) > 0
    assert set(visits(after).values()) == {1}
    for old, new in zip(before, after, strict=False):
        assert (old.id, old.samples_ns.tolist()) == (new.id, new.samples_ns.tolist())
    # It continued in the middle of the round in which it was killed.
    last = max(trial.round for trial in before)
    in_last = [trial.workload for trial in after if trial.round == last and trial.role is Role.OP]
    assert in_last == [workload.key for workload in plan.order(last)][: len(in_last)]


def wait_for_trials(path: Path, count: int, process: "subprocess.Popen[bytes]") -> list[Trial]:
    """The trials that a process has journalled, once there are `count`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        try:
            with Journal(path, readonly=True) as reader:
                trials = reader.trials(1)
        except JournalRefused:  # it is not there yet
            continue
        if len(trials) >= count:
            return trials
    raise AssertionError(f"the measuring process did not get to {count} trials")


def test_another_version_of_the_runtime_does_not_continue_a_run(
    plan: Plan, device: HostDevice, journal: Journal
) -> None:
    short = dataclasses.replace(plan, settings=dataclasses.replace(QUICK, budget_s=0.001))
    run = measure(short, device, journal).run
    assert run.hello is not None
    engines = [engine | {"version": "0.1"} for engine in run.hello["engines"]]
    journal.update_run(run.id, hello=run.hello | {"engines": engines})
    with pytest.raises(JournalRefused, match=r"measured with onnx 0\.1") as refused:
        measure(plan, device, journal)
    assert "--fresh" in str(refused.value.hint)
    assert not workers()
    assert measure(plan, device, journal, fresh=True).complete


class NotingDevice(HostDevice):
    """A host that counts what its runners load, and how much is loaded at once."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: Counter[str] = Counter()
        self.again: set[bool] = set()
        self.loaded: set[str] = set()
        self.most = 0

    def open_runner(self) -> RunnerClient:
        runner = super().open_runner()
        load, unload = runner.load, runner.unload

        def noted_load(path: str, *arguments: Any, **named: Any) -> Loaded:
            loaded = load(path, *arguments, **named)
            self.again.add(named["again"])
            self.loads[Path(path).stem] += 1
            self.loaded.add(loaded.handle)
            self.most = max(self.most, len(self.loaded))
            return loaded

        def noted_unload(handle: str) -> None:
            unload(handle)
            self.loaded.remove(handle)

        runner.load, runner.unload = noted_load, noted_unload  # type: ignore[method-assign]
        return runner


def test_models_except_the_sentinel_are_loaded_for_every_visit(
    plan: Plan, journal: Journal
) -> None:
    device = NotingDevice()
    report = measure(plan, device, journal)
    assert report.complete
    made = Counter(trial.workload for trial in journal.trials(report.run.id))
    assert device.loads.pop("network") == 1 < made.pop("network")
    assert device.loads == made
    assert device.most == 2
    # Runs ask a runner to keep what it computes only where that changes no latency.
    assert device.again == {descriptor(plan.target.runtime).reloads_alike}


@pytest.mark.parametrize("most", [2, 512])
def test_without_reloading_models_stay_loaded_and_the_oldest_goes_first(
    plan: Plan, journal: Journal, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("latbench.measure.runner_pool.MAX_LOADED", most)
    kept = dataclasses.replace(plan, settings=dataclasses.replace(QUICK, reload=False))
    device = NotingDevice()
    report = measure(kept, device, journal)
    assert report.complete
    assert (report.failed, report.runners_started) == (0, 1)
    assert device.again == {False}
    assert device.most == min(most, len(plan.all_workloads))
    assert (set(device.loads.values()) == {1}) == (most > len(plan.all_workloads))


@pytest.mark.parametrize(
    ("runtime", "accelerator", "reloads"),
    [
        ("onnx", "cpu", True),
        ("tflite", "cpu", True),
        ("torchscript", "cpu", False),
        ("executorch", "cpu", True),
        ("tflite", "gpu", False),
    ],
)
def test_models_that_compile_when_loaded_stay_loaded(
    plan: Plan, runtime: str, accelerator: str, reloads: bool
) -> None:
    target = plan.target.model_copy(
        update={"runtime": Runtime(runtime), "accelerator": accelerator}
    )
    assert dataclasses.replace(plan, target=target).reloads == reloads


def test_tflite_and_onnx_targets_do_not_mix(plan: Plan) -> None:
    other = plan.target.model_copy(update={"runtime": Runtime.TFLITE})
    assert dataclasses.replace(plan, target=other).identity != plan.identity
