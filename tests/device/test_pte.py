"""ExecuTorch's programs are read without ExecuTorch."""

import random
from pathlib import Path

import pytest
from tinymodels import Models

from latbench.errors import BadRequest, RuntimeFailed
from latbench.export.metadata import read_metadata
from latbench.runtime.executorch.program import read_pte
from latbench.runtime.registry import describe_model
from latbench.target import Runtime


@pytest.fixture
def program(models: Models) -> Path:
    return models.of[Runtime.EXECUTORCH]


def test_a_program_describes_itself(program: Path) -> None:
    forward, description = read_pte(program)
    assert (forward.name, description.name) == ("forward", "latbench")
    assert [(tensor.shape, tensor.dtype) for tensor in forward.inputs] == [
        ((1, 3, 8, 8), "float32")
    ]
    assert [(tensor.shape, tensor.dtype) for tensor in forward.outputs] == [
        ((1, 4, 8, 8), "float32")
    ]
    assert (forward.delegate_calls, forward.kernel_calls) == (1, 0), "XNNPACK has all of it"
    assert description.constants == ('{"key": "conv"}',)
    assert read_metadata(program) == {"key": "conv"}


def test_its_shapes_are_its_own(program: Path) -> None:
    (given,), (made,) = describe_model(Runtime.EXECUTORCH, program, [(1, 3, 8, 8)])
    assert (given.name, made.name) == ("input0", "output0")
    with pytest.raises(BadRequest, match="does not fit the model's input 1x3x8x8"):
        describe_model(Runtime.EXECUTORCH, program, [(1, 3, 9, 9)])


def test_what_is_no_program_is_refused(models: Models, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="is not an ExecuTorch program"):
        read_pte(models.of[Runtime.ONNX])
    with pytest.raises(RuntimeFailed, match="cannot read"):
        read_pte(tmp_path / "absent.pte")
    empty = tmp_path / "empty.pte"
    empty.write_bytes(b"\x00\x00\x00\x00ET12")
    with pytest.raises(RuntimeFailed, match="without a method"):
        read_pte(empty)


def test_a_damaged_program_is_told_or_read(program: Path, tmp_path: Path) -> None:
    whole, broken = program.read_bytes(), tmp_path / "broken.pte"
    reported = read_pte(program)
    refused = 0
    for length in range(0, len(whole), 7):
        broken.write_bytes(whole[:length])
        try:
            assert read_pte(broken) == reported  # the weights lie at its end
        except RuntimeFailed:
            refused += 1
            assert read_metadata(broken) == {}
    assert refused > 100
    refused = 0
    for seed in range(500):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(4):
            data[chance.randrange(len(data))] = chance.randrange(256)
        broken.write_bytes(data)
        try:
            read_pte(broken)
        except RuntimeFailed:
            refused += 1
    assert 0 < refused < 500
