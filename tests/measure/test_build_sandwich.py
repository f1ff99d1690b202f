"""A LUT of sandwiches, frames and networks, from trials with known true latencies."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from latbench.device.conditions import Conditions
from latbench.errors import BadRequest
from latbench.lut import predict_latency
from latbench.measure import Journal, Plan, Role, RunNote, Settings, Workload, summarise
from latbench.measure.records import NetworkNote
from latbench.space import OpSpec, SearchSpace, parse_key
from latbench.space.design import calibration_architectures, varied_architectures
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.target import Precision, Runtime, Target
from latbench.workflows.build_lut import lut_of_run, without_frames
from latbench.workflows.runs import Selection

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
NETWORKS = calibration_architectures(SPACE, 12)
DEVICE = {"name": "host", "unit": "here", "description": "none", "emulated": False}
ROUNDS = 8


def truth(op: OpSpec) -> float:
    """The true latency of an op in a network, ms."""
    return 0.05 + op.macs / 4e7


def network_ms(ops: tuple[OpSpec, ...]) -> float:
    """Whole networks cost more than their ops by a scale and an offset."""
    return 0.1 + 1.05 * sum(map(truth, ops))


def latencies() -> dict[tuple[str, Role], float]:
    """The true latency of every workload of a run, ms."""
    found = {
        (op.key, Role.OP): truth(op) + sum(map(truth, frames_of(op))) for op in SPACE.unique_ops
    }
    for op in SPACE.unique_ops:
        found |= {(frame.key, Role.FRAME): 2 * truth(frame) for frame in frames_of(op)}
    found |= {(f"n{n}", Role.NETWORK): network_ms(net.ops) for n, net in enumerate(NETWORKS)}
    return found


def journalled(
    path: Path,
    workloads: Mapping[tuple[str, Role], float],
    runtime: Runtime = Runtime.TFLITE,
    settings: Settings | None = None,
    slots: Mapping[str, Sequence[float]] | None = None,
) -> Journal:
    """A journal with one run of `workloads`, `ROUNDS` rounds of each; `slots` hold factors by runner slot."""
    target = Target(device="host", runtime=runtime, precision=Precision.FP32)
    networks = tuple(
        NetworkNote(workload=f"n{n}", layers=net.notation, head=net.head)
        for n, net in enumerate(NETWORKS)
    )
    plan = Plan(
        target,
        tuple(Workload(key, role, path, "0" * 64) for key, role in workloads),
        settings=settings or Settings(),
    )
    journal = Journal(path)
    note = RunNote(space=SPACE.to_dict(), context="sandwich", calibration=networks)
    run = journal.start_run(plan, device=DEVICE, note=note, tool="1")
    rng = np.random.default_rng(0)
    for workload in plan.workloads:
        level = workloads[workload.key, workload.role] * 1e6
        factors = (slots or {}).get(workload.key, (1.0, 1.0, 1.0))
        for number in range(ROUNDS):
            noise = factors[number % 3] * rng.normal(1, 0.002) * rng.normal(1, 0.002, 20)
            journal.add_trial(
                run.id,
                workload,
                number,
                samples_ns=np.asarray(level * noise, np.int64),
                started=0.0,
                duration_s=0.0,
                warmups=0,
                slot=number % 3,
            )
    return journal


def macs(key: str) -> int:
    return parse_key(key).macs


def test_entries_exclude_the_frames(tmp_path: Path) -> None:
    with journalled(tmp_path / "trials.sqlite", latencies()) as journal:
        lut = lut_of_run(journal, macs=macs)
    assert set(lut.keys()) == {op.key for op in SPACE.unique_ops}  # frames are no entries
    for op in SPACE.unique_ops:
        entry = lut[op]
        assert entry.context == ("sandwich" if frames_of(op) else "alone")
        # Noise of 0.2 % of everything in the sandwich.
        company = truth(op) + 2 * sum(map(truth, frames_of(op)))
        assert entry.ms == pytest.approx(truth(op), abs=0.005 * company)
        assert entry.ci95[0] < entry.ms < entry.ci95[1]


def test_networks_of_the_run_become_the_correction(tmp_path: Path) -> None:
    with journalled(tmp_path / "trials.sqlite", latencies()) as journal:
        lut = lut_of_run(journal, macs=macs)
    assert lut.correction is not None
    assert [one.layers for one in lut.correction.calibration] == [net.notation for net in NETWORKS]
    for network in varied_architectures(SPACE, 10, seed=4):
        assert predict_latency(lut, network).ms == pytest.approx(network_ms(network.ops), rel=0.01)


@pytest.mark.parametrize(
    ("runtime", "reload", "stays"),
    [
        (Runtime.TFLITE, True, False),
        (Runtime.TFLITE, False, True),
        (Runtime.TORCHSCRIPT, True, True),
    ],
)
def test_where_models_stay_loaded_their_placement_is_an_error(
    runtime: Runtime, reload: bool, stays: bool, tmp_path: Path
) -> None:
    settings = Settings(reload=reload)
    with journalled(tmp_path / "trials.sqlite", latencies(), runtime, settings) as journal:
        lut = lut_of_run(journal, macs=macs)
    for op in SPACE.unique_ops:
        # The placement of the whole sandwich; equal runners leave the smallest error.
        company = truth(op) + sum(map(truth, frames_of(op)))
        least = 0.006 * company / lut[op].ms if stays else 0.0
        assert lut[op].placement == pytest.approx(least, rel=0.02)


def test_runners_that_differ_are_an_error_of_the_entry(tmp_path: Path) -> None:
    op = next(op for op in SPACE.unique_ops if not frames_of(op))
    factors = (1.0, 1.06, 0.97)
    settings = Settings(reload=False)
    with journalled(
        *(tmp_path / "trials.sqlite", latencies(), Runtime.TFLITE, settings),
        slots={op.key: factors},
    ) as journal:
        lut = lut_of_run(journal, macs=macs)
    expected = statistics.stdev(factors) / math.sqrt(3)
    assert expected > 4 * 0.006
    assert lut[op].placement * lut[op].ms == pytest.approx(expected * truth(op), rel=0.1)
    other = next(one for one in SPACE.unique_ops if one is not op and not frames_of(one))
    assert lut[other].placement == pytest.approx(0.006, rel=0.05)  # equal runners may be chance


def test_a_run_that_lacks_frames_is_refused(tmp_path: Path) -> None:
    some = {key: ms for key, ms in latencies().items() if key[1] is not Role.FRAME}
    with (
        journalled(tmp_path / "trials.sqlite", some) as journal,
        pytest.raises(BadRequest, match="lacks the frames of"),
    ):
        lut_of_run(journal, macs=macs)


def test_an_op_that_costs_no_more_than_its_frames_stays_positive() -> None:
    rounds = [np.full(5, 1_000_000 + 1000 * number) for number in range(8)]
    sandwich = summarise(rounds)
    ms, (low, high) = without_frames(sandwich, [sandwich, sandwich])
    assert 0 < low <= ms < high
    assert ms == pytest.approx(0.01 * sandwich.ms)


def test_an_op_that_is_lost_in_its_frames_has_a_warning(tmp_path: Path) -> None:
    op, *others = (op for op in SPACE.unique_ops if frames_of(op))
    taken = latencies() | {(op.key, Role.OP): sum(map(truth, frames_of(op)))}
    with journalled(tmp_path / "trials.sqlite", taken) as journal:
        lut = lut_of_run(journal, macs=macs)
    assert "unresolved" in lut[op].warnings
    assert not any("unresolved" in lut[other].warnings for other in others)


def test_frames_are_timed_in_pairs() -> None:
    ops = SPACE.unique_ops
    chains = {
        (key, role): chain for key, role, chain in Selection(SPACE, ops, sandwiched=True).chains
    }
    for op in ops:
        assert chains[op.key, Role.OP] == sandwich_of(op)
        for frame in frames_of(op):
            assert chains[frame.key, Role.FRAME] == (frame, frame)
    assert len(chains) == len(ops) + len({frame for op in ops for frame in frames_of(op)})
    alone = [chain for _, _, chain in Selection(SPACE, ops).chains]
    assert alone == [(op,) for op in ops]


def test_stolen_time_is_that_of_the_run(tmp_path: Path) -> None:
    with journalled(tmp_path / "trials.sqlite", latencies()) as journal:
        run = journal.run()
        for moment, stolen_s in ((1.0, 100.0), (2.0, 100.5), (3.0, 100.75)):
            reading = Conditions(time=moment, stolen_s=stolen_s)
            journal.add_conditions(run.id, moment, reading.model_dump_json())
        lut = lut_of_run(journal, macs=macs)
    assert lut.conditions["stolen_s"] == 0.75
    assert "throttled_s" not in lut.conditions


def test_errors_of_frames_are_added() -> None:
    sandwich = summarise([np.full(5, 3_000_000 + 1000 * number) for number in range(8)])
    pair, other = (
        summarise([np.full(5, base + 4000 * number) for number in range(8)])
        for base in (1_000_000, 1_100_000)
    )
    ms, (low, high) = without_frames(sandwich, [pair, other])
    assert ms == pytest.approx(sandwich.ms - pair.ms / 2 - other.ms / 2)
    errors = (sandwich.half_width, pair.half_width / 2, other.half_width / 2)
    assert high - low == pytest.approx(2 * math.hypot(*errors))
    # The error of the same pair on both sides counts twice.
    ms, (low, high) = without_frames(sandwich, [pair, pair])
    assert ms == pytest.approx(sandwich.ms - pair.ms)
    assert high - low == pytest.approx(2 * math.hypot(sandwich.half_width, pair.half_width))
