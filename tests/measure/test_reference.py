"""The reference: a workload without a runtime that is timed throughout a run, in every runner slot."""

import dataclasses
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from fixed_units import FixedUnit, fixed_plan
from measuring import QUICK, small_plan

from latbench.device.host.device import HostDevice
from latbench.device.host.reference import ReferenceWorkload
from latbench.errors import BadRequest, RunnerFailed
from latbench.measure import Journal, Plan, Role, measure
from latbench.measure.journal_file import APPLICATION_ID, UPDATES, VERSION
from latbench.measure.plan import reference_workload
from latbench.measure.slowdown import Slowdowns
from latbench.workflows.estimate import network_ops


def with_reference(plan: Plan, workload: str) -> Plan:
    return dataclasses.replace(plan, reference=reference_workload(workload))


def test_the_reference_is_timed_between_the_others_in_every_slot(
    tmp_path: Path, device: HostDevice, journal: Journal
) -> None:
    settings = dataclasses.replace(QUICK, runners=2, sentinel_every=3)
    assert device.reference is not None
    plan = with_reference(small_plan(tmp_path / "models", settings=settings), device.reference)
    assert plan.reference is not None
    report = measure(plan, device, journal)
    assert report.complete
    trials = journal.trials(report.run.id)
    watching = [trial.role for trial in trials if trial.role.watches]
    assert watching.count(Role.REFERENCE) >= len(plan.workloads)
    result = report.results[plan.reference.key]
    of_reference = [trial for trial in trials if trial.role is Role.REFERENCE]
    slowdowns = Slowdowns.of(trials)
    assert result.rounds == len(slowdowns.chosen(of_reference))
    # Slow moments are judged when all trials are known, so a journal need not hold their taint.
    assert result.tainted == sum(slowdowns.judged(t).taint is not None for t in of_reference)
    assert plan.reference.key not in report.statuses  # nobody waits for it to converge
    assert not [trial for trial in trials if trial.failure]
    assert not [trial for trial in trials if "affinity" in (trial.taint or "")]
    again = measure(plan, device, journal)
    assert again.taken == 0


@pytest.mark.parametrize("free_s", [0.0, 1e9])
def test_a_slow_reference_takes_no_more_than_its_share(
    free_s: float, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latbench.measure.unit_worker._REFERENCE_FREE_S", free_s)
    plan = with_reference(fixed_plan(8, min_rounds=6), "a dear one")
    unit = FixedUnit("slow", sleep_s=0.005, reference_s=0.4)
    started = time.monotonic()
    report = measure(plan, unit, journal)
    took_s = time.monotonic() - started
    trials = journal.trials(report.run.id)
    visits = sum(trial.role is Role.REFERENCE for trial in trials)
    assert report.complete
    if free_s:
        assert 0.4 * visits > 0.3 * took_s, "it would take more"
    else:
        assert 1 <= visits <= 1 + 0.25 * took_s / 0.4


def test_a_runner_runs_it_without_loading_anything(device: HostDevice) -> None:
    with device.open_runner() as runner:
        reply = runner.run("reference", warmups=1, min_samples=3, max_samples=3)
        assert len(reply.samples_ns) == 3
        with pytest.raises(RunnerFailed):
            runner.unload("reference")


def test_it_computes_the_1x1_convolutions_of_mobilenet_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    macs: list[int] = []

    def product(left: Any, right: Any, out: Any) -> None:
        assert left.shape[1] == right.shape[0]
        assert out.shape == (left.shape[0], right.shape[1])
        macs.append(left.size * right.shape[1])

    monkeypatch.setattr("latbench.device.host.reference.np.matmul", product)
    ReferenceWorkload().run()
    expected: list[int] = []
    for op in network_ops("mobilenet_v2"):
        inputs, outputs = math.prod(op.input_shape[2:]), math.prod(op.output_shape[2:])
        if op.kind == "ir":
            expected.append(op.in_channels * op.in_channels * op.expansion * inputs)
        if op.is_block:
            expected.append(op.middle * op.out_channels * outputs)
        if op.kind == "head":
            expected.append(op.macs)
    assert macs == expected


def test_it_is_part_of_the_identity_of_a_plan(tmp_path: Path) -> None:
    plan = small_plan(tmp_path / "models")
    named = {with_reference(plan, workload).identity for workload in ("one", "another")}
    assert len(named | {plan.identity}) == 3


def test_only_the_reference_has_no_file(tmp_path: Path) -> None:
    plan = small_plan(tmp_path / "models")
    without = dataclasses.replace(plan.workloads[0], path=None)
    with pytest.raises(BadRequest, match="must have a file"):
        dataclasses.replace(plan, workloads=(without, *plan.workloads[1:]))
    with pytest.raises(BadRequest, match="role of a reference"):
        dataclasses.replace(plan, reference=dataclasses.replace(plan.workloads[0], key="another"))


def test_a_journal_of_version_1_is_upgraded(tmp_path: Path, device: HostDevice) -> None:
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    for statement in UPDATES[0]:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    assert device.reference is not None
    plan = with_reference(small_plan(tmp_path / "models", workloads=2), device.reference)
    with Journal(path) as journal:
        report = measure(plan, device, journal)  # visits the reference more than once a round
    assert report.complete
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (VERSION,)
