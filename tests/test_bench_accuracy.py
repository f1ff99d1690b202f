"""bench/accuracy.py evaluates stored sessions, from trials with known true latencies."""

from pathlib import Path

import numpy as np
import pytest

import bench.accuracy
from bench.accuracy import Note, main
from bench.accuracy_results import Results, Session
from latbench.measure import Journal, Plan, Role, RunNote, Settings, Workload
from latbench.measure.records import NetworkNote
from latbench.space import Architecture, OpSpec, SearchSpace
from latbench.space.design import calibration_architectures, varied_architectures
from latbench.space.sandwich import frames_of
from latbench.target import Precision, Runtime, Target
from latbench.workflows.runs import network_key

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
FITTED = calibration_architectures(SPACE, 12)
UNSEEN = [
    network
    for network in varied_architectures(SPACE, 20, seed=8)
    if network.notation not in {one.notation for one in FITTED}
][:8]
TARGET = Target(device="host", runtime=Runtime.TFLITE, precision=Precision.FP32)
DEVICE = {"name": "host", "unit": "here", "description": "none", "emulated": False}
SMALL = ["--space", "fbnet-cifar", "--input", "16", "--width", "0.35"]
ROUNDS = 8


def truth(op: OpSpec) -> float:
    """The true latency of an op in a network, ms."""
    return 0.05 + op.macs / 4e7


def network_ms(network: Architecture) -> float:
    """Whole networks cost more than their ops by a scale and an offset."""
    return 0.1 + 1.05 * sum(map(truth, network.ops))


def write_run(
    path: Path, latencies: dict[tuple[str, Role], float], note: RunNote, *, taint: str | None = None
) -> None:
    """Append a run of these workloads (ms) to a journal, visits of 20 ms one after the other."""
    workloads = [Workload(key, role, path, "0" * 64) for key, role in latencies]
    ordinary = tuple(one for one in workloads if one.role is not Role.SENTINEL)
    sentinel = next(one for one in workloads if one.role is Role.SENTINEL)
    plan = Plan(TARGET, ordinary, sentinel, Settings())
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Journal(path) as journal:
        run = journal.start_run(plan, device=DEVICE, note=note, tool="1")
        journal.update_run(run.id, wall_s=10.0)
        started = 0.0
        for number in range(ROUNDS):
            for workload in plan.all_workloads:
                noise = rng.normal(1, 0.002) * rng.normal(1, 0.002, 20)
                ms = latencies[workload.key, workload.role]
                journal.add_trial(
                    run.id,
                    workload,
                    number,
                    samples_ns=np.asarray(1e6 * ms * noise, np.int64),
                    started=started,
                    duration_s=0.02,
                    warmups=0,
                    slot=number % 3,
                    taint=taint,
                )
                started += 0.02


def networks_of(networks: list[Architecture], slowdown: float) -> dict[tuple[str, Role], float]:
    """The true latencies of networks and of the sentinel, ms."""
    found = {(network_key(one), Role.NETWORK): slowdown * network_ms(one) for one in networks}
    return found | {(f"sentinel:{FITTED[0]}", Role.SENTINEL): slowdown * network_ms(FITTED[0])}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one profile and a validation at which all was 10 % slower; measuring more fails."""
    monkeypatch.setenv("LATBENCH_HOME", str(tmp_path))  # which the bench sets, restored afterwards
    for name in ("profile", "validate"):
        monkeypatch.setattr(bench.accuracy, name, None)
    notes = [
        NetworkNote(workload=network_key(one), layers=one.notation, head=one.head) for one in FITTED
    ]
    note = RunNote(
        space=SPACE.to_dict(), context="sandwich", sentinel=notes[0], calibration=tuple(notes)
    )
    ops = {op: frames_of(op) for op in SPACE.unique_ops}
    latencies = {(op.key, Role.OP): truth(op) + sum(map(truth, ops[op])) for op in ops}
    latencies |= {(one.key, Role.FRAME): 2 * truth(one) for op in ops for one in ops[op]}
    latencies |= networks_of(FITTED, 1.0)
    write_run(tmp_path / "tflite-fp32-1" / "profile-1.sqlite", latencies, note)
    write_run(
        tmp_path / "home/journals/networks.sqlite", networks_of(FITTED + UNSEEN, 1.1), RunNote()
    )
    leave_note(tmp_path, "profile-1")
    leave_note(tmp_path, "validation-1-1", seed=101, run=1)
    return tmp_path


def leave_note(folder: Path, name: str, **details: int) -> None:
    """Leave the note of a finished session."""
    session = Session(
        started="2026-11-30T12:00:00+00:00", latbench="1", load_average=0.5, whole_s=9
    )
    note = Note(
        runtime=TARGET.runtime,
        precision=TARGET.precision,
        threads=1,
        beside=None,
        session=session,
        **details,
    )
    (folder / "tflite-fp32-1" / f"{name}.json").write_text(note.model_dump_json())


def test_stored_sessions_are_evaluated_and_nothing_is_measured(folder: Path) -> None:
    out = folder / "out.json"
    command = ["--journals", str(folder), "--out", str(out), *SMALL]
    main([*command, "--runtime", "tflite"])
    (row,) = Results.read(out).rows
    ((lut,), (validation,)) = row.luts, row.luts[0].validations
    assert lut.wall_s == 10
    assert lut.trials == ROUNDS * (len(SPACE.unique_ops) + len(FITTED) + 1 + len(frames()))
    assert validation.refused is None
    assert validation.figures["networks"] == len(UNSEEN)
    assert validation.figures["level"] == pytest.approx(10, abs=0.5)
    assert validation.figures["mape"] < 1
    assert row.summary.moved_mape is not None  # at another level than the LUT's run
    assert row.summary.equal_mape is None
    text = out.read_text()
    main(command)
    assert out.read_text().replace(" --runtime tflite", "") == text.replace(" --runtime tflite", "")


def frames() -> set[str]:
    """The keys of all frames."""
    return {frame.key for op in SPACE.unique_ops for frame in frames_of(op)}


def test_a_refused_validation_is_counted(folder: Path) -> None:
    write_run(
        folder / "home/journals/networks.sqlite",
        networks_of(FITTED + UNSEEN, 1.0),
        RunNote(),
        taint="waiting: others had the core",
    )
    leave_note(folder, "validation-1-2", seed=102, run=2)
    main(["--journals", str(folder), "--out", str(folder / "out.json"), *SMALL])
    (row,) = Results.read(folder / "out.json").rows
    assert (row.summary.validations, row.summary.refused) == (2, 1)
    refused = row.luts[0].validations[1].refused
    assert refused is not None
    assert "tainted trials only" in refused
    assert row.summary.mape is not None
    assert row.summary.mape.high < 1  # of the other one


def test_other_rows_of_a_file_are_kept(folder: Path) -> None:
    out = folder / "out.json"
    command = ["--journals", str(folder), "--out", str(out), *SMALL]
    main(command)
    results = Results.read(out)
    other = results.rows[0].model_copy(update={"threads": 2})
    out.write_text(results.model_copy(update={"rows": (other,)}).to_json())
    main(command)
    assert [row.threads for row in Results.read(out).rows] == [1, 2]


def test_figures_of_another_space_do_not_go_to_the_pages(folder: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--journals", str(folder), *SMALL])


def test_a_profile_without_a_lut_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_note(folder, "profile-2")  # its journal is gone
    main(["--journals", str(folder), "--out", str(folder / "out.json"), *SMALL])
    assert "profile-2 is left out: there is no journal" in capsys.readouterr().out
    (row,) = Results.read(folder / "out.json").rows
    assert row.summary.luts == 1
