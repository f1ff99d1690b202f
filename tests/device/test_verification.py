"""Numerics on a unit are compared with PyTorch, and wrong ops are named."""

from dataclasses import replace
from pathlib import Path

import pytest

from latbench.device.host.device import HostDevice
from latbench.errors import BadRequest, LatbenchError
from latbench.export import ArtifactStore, export_ops
from latbench.export.check import FP16_ERROR_OP, INT8_SNR_NETWORK
from latbench.space import SearchSpace
from latbench.space.sandwich import sandwich_of
from latbench.target import Precision, Runtime, Target
from latbench.workflows.numerics import Verified, verify

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)


def exported(target: Target, *, sandwiched: bool) -> list[Verified]:
    """The stem, three blocks, of which two have one shape, and the classifier."""
    blocks = [op for op in SPACE.unique_ops if op.key.startswith("ir_k3") and op.stride == 1][:2]
    twin = next(
        op
        for op in SPACE.unique_ops
        if op.key.startswith("ir_k5") and op.output_shape == blocks[0].output_shape
    )
    found = []
    for op in (SPACE.unique_ops[0], *blocks, twin, SPACE.unique_ops[-1]):
        chain = sandwich_of(op) if sandwiched else (op,)
        made = export_ops(chain, op.key, target.runtime, target.precision, ArtifactStore())
        found.append(Verified(op.key, chain, made.path))
    return found


def target_of(runtime: Runtime, precision: Precision) -> Target:
    return Target(device="host", runtime=runtime, precision=precision)


@pytest.mark.parametrize("runtime", [Runtime.TFLITE, Runtime.ONNX])
def test_right_ops_are_counted_and_wrong_ones_are_named(runtime: Runtime) -> None:
    target = target_of(runtime, Precision.FP32)
    ops = exported(target, sandwiched=True)
    seen: list[tuple[int, int]] = []
    verified = verify(HostDevice(), target, ops, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert set(verified.errors) == {op.key for op in ops}
    assert 0 < verified.errors[verified.worst] < 1e-4
    assert verified.errors[verified.worst] == max(verified.errors.values())
    swapped = [ops[0], replace(ops[1], path=ops[3].path), *ops[2:]]
    with pytest.raises(LatbenchError, match="outputs of 1 of 5 ops on") as wrong:
        verify(HostDevice(), target, swapped)
    (said,) = wrong.value.details
    assert said.startswith(f"{ops[1].key}: a relative error of ")


def test_int8_is_held_to_a_signal_to_noise_ratio() -> None:
    target = target_of(Runtime.TFLITE, Precision.INT8)
    ops = exported(target, sandwiched=True)
    verified = verify(HostDevice(), target, ops)
    assert verified.errors[verified.worst] == min(verified.errors.values()) >= INT8_SNR_NETWORK
    with pytest.raises(LatbenchError, match="2 of 5 ops") as wrong:
        verify(
            HostDevice(),
            target,
            [
                replace(ops[1], path=ops[3].path),
                replace(ops[3], path=ops[1].path),
                *ops[2::2],
                ops[0],
            ],
        )
    assert "signal-to-noise ratio" in wrong.value.details[0]


@pytest.mark.parametrize("runtime", [Runtime.TFLITE, Runtime.ONNX])
def test_fp16_is_held_to_an_error_of_its_own(runtime: Runtime) -> None:
    target = target_of(runtime, Precision.FP16)
    verified = verify(HostDevice(), target, exported(target, sandwiched=True))
    assert 1e-4 < max(verified.errors.values()) < FP16_ERROR_OP


def test_int8_in_onnx_is_refused() -> None:
    with pytest.raises(BadRequest, match="cannot check numerics of ONNX models in int8"):
        verify(HostDevice(), target_of(Runtime.ONNX, Precision.INT8), [])


def test_a_file_that_does_not_load_is_named(tmp_path: Path) -> None:
    target = target_of(Runtime.ONNX, Precision.FP32)
    ops = exported(target, sandwiched=False)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(LatbenchError, match="1 of 5 ops") as wrong:
        verify(HostDevice(), target, [replace(ops[0], path=broken), *ops[1:]])
    assert wrong.value.details[0].startswith(f"{ops[0].key}: cannot load the model")
