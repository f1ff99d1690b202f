import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from measuring import QUICK

from latbench.device.host.device import HostDevice
from latbench.errors import BadRequest, MissingOps
from latbench.export import ArtifactStore, export_architecture, export_op
from latbench.lut import Lut, predict_latency
from latbench.measure import Journal, Plan, Role, RunNote, RunReport, Settings, Workload, measure
from latbench.measure.records import NetworkNote
from latbench.space import Architecture, SearchSpace, parse_key, published
from latbench.target import Precision, Runtime, Target
from latbench.workflows.build_lut import lut_of_run

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
SENTINEL = published("fbnet_b", space=SPACE)
NOTE = RunNote(
    space=SPACE.to_dict(),
    sentinel=NetworkNote(layers=SENTINEL.notation, head=SENTINEL.head),
)
SHORT = Settings(ci=0.5, seconds=0.001, min_samples=3, max_samples=50)


def macs(key: str) -> int:
    return parse_key(key).macs


@pytest.fixture(scope="module")
def space_plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    workloads = []
    for op in SPACE.unique_ops:
        made = export_op(op, Runtime.TFLITE, Precision.FP32, store)
        workloads.append(Workload(op.key, Role.OP, made.path, made.sha256))
    network = export_architecture(SENTINEL, Runtime.TFLITE, Precision.FP32, store)
    return Plan(
        Target(device="host", runtime=Runtime.TFLITE, precision=Precision.FP32),
        tuple(workloads),
        Workload("sentinel", Role.SENTINEL, network.path, network.sha256),
        SHORT,
    )


@pytest.fixture(scope="module")
def profiled(
    space_plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Journal, RunReport]]:
    with Journal(tmp_path_factory.mktemp("journals") / "trials.sqlite") as journal:
        yield journal, measure(space_plan, HostDevice(), journal, note=NOTE)


def test_from_trials_to_a_prediction(
    profiled: tuple[Journal, RunReport], space_plan: Plan, tmp_path: Path
) -> None:
    journal, report = profiled
    lut_of_run(journal, macs=macs).save(tmp_path / "host.json")
    lut = Lut.load(tmp_path / "host.json")
    assert (lut.provenance, lut.target, lut.search_space) == ("measured", space_plan.target, SPACE)
    assert set(lut.keys()) == {op.key for op in SPACE.unique_ops}
    for workload in space_plan.workloads:
        entry, result = lut[workload.key], report.result(workload.key)
        assert (entry.ms, entry.ci95) == (result.ms, result.ci95)
        assert (entry.samples, entry.rounds, entry.tainted) == (
            result.samples,
            result.rounds,
            result.tainted,
        )
        assert entry.artifact_sha256 == workload.sha256
        assert entry.macs == parse_key(workload.key).macs

    # The correction is fitted to the sentinel alone, so it predicts the sentinel exactly.
    assert lut.sentinel is not None
    assert lut.sentinel.ms == report.result("sentinel").ms
    assert Architecture.parse(lut.sentinel.architecture, SPACE).ops == SENTINEL.ops
    prediction = predict_latency(lut, SENTINEL)
    assert prediction.ms == pytest.approx(lut.sentinel.ms)
    assert prediction.low < prediction.ms < prediction.high
    assert lut.correction is not None
    assert lut.correction.residual == pytest.approx(abs(1 - lut.correction.scale))
    assert lut.correction.networks == 1
    other = predict_latency(lut, published("fbnet_a", space=SPACE))
    summed = sum(lut[op].ms for op in published("fbnet_a", space=SPACE).ops)
    assert other.ms == pytest.approx(lut.correction.scale * summed)


def test_it_records_how_it_was_measured(profiled: tuple[Journal, RunReport]) -> None:
    journal, report = profiled
    lut = lut_of_run(journal, macs=macs)
    assert lut.method["settings"] == SHORT.determining
    assert lut.method["trials"] == report.trials
    assert lut.method["timed_seconds"] == pytest.approx(report.timed_s, abs=1e-3)
    assert lut.method["wall_seconds"] >= lut.method["timed_seconds"]
    assert lut.method["run_state"] == "finished"
    assert lut.tool["name"] == "latbench"
    assert lut.tool["runtime_version"][0].isdigit()
    assert lut.conditions["emulated"] is False
    assert lut.conditions["unit"] == HostDevice().unit
    assert lut.conditions["tainted_trials"] == report.tainted
    assert lut.conditions["readings"] > 0


def test_a_lut_can_be_built_while_the_journal_is_in_use(
    profiled: tuple[Journal, RunReport],
) -> None:
    journal, _ = profiled
    with Journal(journal.path, readonly=True) as reader:
        assert lut_of_run(reader, macs=macs).entries == lut_of_run(journal, macs=macs).entries


def test_a_run_that_lacks_ops_is_refused_unless_partial(space_plan: Plan, journal: Journal) -> None:
    few = dataclasses.replace(
        space_plan, workloads=space_plan.workloads[:3], settings=dataclasses.replace(QUICK, ci=0.25)
    )
    measure(few, HostDevice(), journal, note=NOTE)
    with pytest.raises(MissingOps) as refused:
        lut_of_run(journal, macs=macs)
    wanted = [op.key for op in SPACE.unique_ops]
    assert list(refused.value.missing) == wanted[3:]
    assert f"{len(wanted) - 3} of the {len(wanted)} ops" in refused.value.message
    command = refused.value.command
    assert command.startswith("latbench profile --device host --runtime tflite --precision fp32")
    assert "--space fbnet-cifar --input 16 --width 0.35" in command
    assert command.endswith(f"--calibrate 0 --ci 0.25 --journal {journal.path}")

    lut = lut_of_run(journal, macs=macs, partial=True)
    assert list(lut.keys()) == sorted(wanted[:3])
    assert lut.sentinel is not None
    assert lut.correction is None  # not all ops of the sentinel have an entry


def test_a_run_with_nothing_in_it_is_refused_even_if_partial(
    space_plan: Plan, journal: Journal, device: HostDevice
) -> None:
    no_time = dataclasses.replace(SHORT, budget_s=1e-6)
    measure(dataclasses.replace(space_plan, settings=no_time), device, journal, note=NOTE)
    with pytest.raises(MissingOps):
        lut_of_run(journal, macs=macs, partial=True)


def test_the_error_says_why_an_op_is_missing(
    space_plan: Plan, journal: Journal, device: HostDevice, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    first, *rest = space_plan.workloads[:4]
    workloads = (dataclasses.replace(first, path=broken, sha256="0" * 64), *rest)
    plan = dataclasses.replace(space_plan, workloads=workloads, sentinel=None)
    measure(plan, device, journal, note=RunNote(space=SPACE.to_dict()))
    with pytest.raises(MissingOps) as refused:
        lut_of_run(journal, macs=macs)
    assert any(
        first.key in line and "cannot load the model" in line for line in refused.value.details
    )


def test_tainted_trials_are_used_only_where_there_is_nothing_else(
    space_plan: Plan, journal: Journal
) -> None:
    run = journal.start_run(
        space_plan,
        device={"name": "host", "unit": "u", "description": "d", "emulated": True},
        note=RunNote(space=SPACE.to_dict()),
        tool="1",
    )
    first, second = space_plan.workloads[:2]
    for workload, taints in ((first, ["a: b", None, None]), (second, ["a: b", "a: b; c: d"])):
        for number, taint in enumerate(taints):
            journal.add_trial(
                run.id,
                workload,
                number,
                samples_ns=np.array([1_000_000 if taint is None else 3_000_000] * 4),
                started=0.0,
                duration_s=0.1,
                warmups=2,
                taint=taint,
            )
    lut = lut_of_run(journal, macs=macs, partial=True)
    assert (lut[first.key].ms, lut[first.key].rounds, lut[first.key].tainted) == (1.0, 2, 1)
    assert (lut[second.key].ms, lut[second.key].rounds, lut[second.key].tainted) == (3.0, 2, 2)
    assert "distrusted" not in lut[first.key].warnings
    assert "distrusted" in lut[second.key].warnings
    assert lut.conditions["tainted_by"] == {"a": 3, "c": 1}
    assert lut.conditions["emulated"] is True
    assert lut.sentinel is None


def test_only_runs_of_a_space_make_a_lut(plan: Plan, journal: Journal, device: HostDevice) -> None:
    with pytest.raises(BadRequest, match=r"holds no run$"):
        lut_of_run(journal, macs=macs)
    measure(plan, device, journal)
    with pytest.raises(BadRequest, match="has no search space"):
        lut_of_run(journal, macs=macs)
    with pytest.raises(BadRequest, match="holds no run 7"):
        lut_of_run(journal, 7, macs=macs)
