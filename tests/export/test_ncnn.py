"""ncnn's models compute what PyTorch does, and this machine checks and times them.

ncnn and pnnx are an optional extra; pnnx has no package for Linux on ARM.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from latbench.device.host.device import HostDevice
from latbench.errors import BadRequest, ExportFailed, LatbenchError, RuntimeFailed
from latbench.export import (
    ArtifactStore,
    export_architecture,
    export_op,
    export_ops,
    require_writer,
)
from latbench.export.check import FP32_RELATIVE_ERROR
from latbench.export.metadata import read_metadata
from latbench.runtime.registry import load_model, runtime_library, runtime_version
from latbench.space import SearchSpace, parse_key, read_architecture
from latbench.space.sandwich import sandwich_of
from latbench.target import Precision, Runtime, Target
from latbench.workflows.measure import measure_latency
from latbench.workflows.numerics import Verified, verify

HERE = all(importlib.util.find_spec(name) is not None for name in ("ncnn", "pnnx"))
needed = pytest.mark.skipif(not HERE, reason="pip install latbench[ncnn]")
SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
SHUFFLED = parse_key("ir_k5_e6_g2_s1_i16_o16_h14_w14")


def exported(key: str = SHUFFLED.key) -> Path:
    return export_op(parse_key(key), Runtime.NCNN, Precision.FP32, ArtifactStore()).path


@pytest.fixture
def param(tmp_path: Path) -> Path:
    """A .param with its .bin beside it, as pnnx leaves them: without the shape of the input."""
    with zipfile.ZipFile(exported()) as archive:
        archive.extractall(tmp_path, ["model.param", "model.bin"])
    return tmp_path / "model.param"


@needed
@pytest.mark.parametrize(
    "key",
    [
        SHUFFLED.key,
        SPACE.unique_ops[0].key,
        "ir_k3_e3_g1_s2_i16_o24_h15_w15",
        "pool_i8_h4_w4",
        SPACE.unique_ops[-1].key,
    ],
)
def test_every_kind_of_op_computes_what_pytorch_computes(key: str) -> None:
    store = ArtifactStore()
    made = export_op(parse_key(key), Runtime.NCNN, Precision.FP32, store)
    assert made.path.name.endswith(".ncnn.zip")
    assert made.error is not None
    assert made.error < FP32_RELATIVE_ERROR
    metadata = read_metadata(made.path)
    assert (metadata["key"], metadata["runtime"]) == (key, "ncnn")
    model = load_model(Runtime.NCNN, made.path)
    assert [list(tensor.shape) for tensor in model.inputs] == [metadata["inputs"][0]["shape"]]
    assert [list(tensor.shape) for tensor in model.outputs] == [metadata["outputs"][0]["shape"]]


@needed
def test_weights_stay_in_32_bits() -> None:
    """By default ncnn keeps a linear layer's weights in 16 bits on x86: an error of 8e-6, not 1e-7, here."""
    op = parse_key("classifier_i1504_o10")
    made = export_op(op, Runtime.NCNN, Precision.FP32, ArtifactStore())
    assert made.error is not None
    assert made.error < 1e-6


@needed
def test_an_export_is_reproducible() -> None:
    first, second = exported().read_bytes(), exported().read_bytes()
    shutil.rmtree(ArtifactStore().root)
    assert first == second == exported().read_bytes()


@needed
def test_runs_leave_the_inputs_as_they_were_and_outputs_are_copies() -> None:
    model = load_model(Runtime.NCNN, exported(), threads=2)
    assert model.engine_threads == 2
    first_input, other = model.inputs[0].sample(seed=1), model.inputs[0].sample(seed=2)
    model.set_inputs([first_input])
    for _ in range(3):
        model.run()
    (first,) = model.get_outputs()
    kept = first.copy()
    model.set_inputs([other])
    model.run()
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(model.get_outputs()[0], kept)
    model.set_inputs([first_input])
    model.run()
    np.testing.assert_array_equal(model.get_outputs()[0], kept)


@needed
def test_a_param_file_is_measured_with_the_bin_beside_it(param: Path) -> None:
    with pytest.raises(BadRequest, match="does not state the shape of its input") as raised:
        measure_latency(param, ci=0.5, budget_s=20)
    assert f"latbench measure {param} --input-shape" in str(raised.value.hint)
    with pytest.raises(BadRequest, match="does not declare its inputs"):
        load_model(Runtime.NCNN, param)
    done = measure_latency(param, ci=0.5, budget_s=20, input_shape=(1, 16, 14, 14))
    assert done.target.runtime is Runtime.NCNN
    assert done.ms > 0
    whole = load_model(Runtime.NCNN, exported())
    parts = load_model(Runtime.NCNN, param, input_shapes=[(1, 16, 14, 14)])
    for model in (whole, parts):
        model.run()
    np.testing.assert_array_equal(whole.get_outputs()[0], parts.get_outputs()[0])
    with pytest.raises(BadRequest, match="a batch of 1"):
        load_model(Runtime.NCNN, param, input_shapes=[(2, 16, 14, 14)])
    text = param.read_text().replace("0 1 in0\n", "0 1 in0 0=14 1=14 2=16\n", 1)
    param.write_text(text)
    assert load_model(Runtime.NCNN, param).inputs[0].shape == (1, 16, 14, 14)
    param.with_suffix(".bin").unlink()
    with pytest.raises(BadRequest, match=re.escape(f"there is no {param.with_suffix('.bin')}")):
        measure_latency(param, input_shape=(1, 16, 14, 14))


@needed
def test_what_is_no_model_is_refused(tmp_path: Path, param: Path) -> None:
    whole = exported().read_bytes()
    broken = tmp_path / "broken.ncnn.zip"
    for content in (b"a letter\n" * 20, whole[: len(whole) // 2]):
        broken.write_bytes(content)
        assert read_metadata(broken) == {}
        with pytest.raises(RuntimeFailed, match=re.escape(f"{broken} is not an ncnn model")):
            load_model(Runtime.NCNN, broken)
    param.write_text("a letter\n" * 20)
    with pytest.raises(RuntimeFailed, match=re.escape(f"{param} is not an ncnn model")):
        load_model(Runtime.NCNN, param, input_shapes=[(1, 16, 14, 14)])


@needed
def test_version_and_library_are_reported() -> None:
    assert re.match(r"\d+\.\d+", runtime_version(Runtime.NCNN))
    name, sha256 = runtime_library(Runtime.NCNN)
    assert name.startswith("ncnn.")
    assert re.fullmatch(r"[0-9a-f]{64}", sha256)
    with HostDevice().open_runner() as runner:
        loaded = runner.load(str(exported()), Runtime.NCNN)
        assert (loaded.engine.library, loaded.engine.sha256) == (name, sha256)
        assert loaded.threads_observed == 1


@needed
def test_nothing_is_printed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    words = "from latbench.export import *; from latbench.space import *; from latbench.target import *; "
    words += (
        f"export_op(parse_key({SHUFFLED.key!r}), Runtime.NCNN, Precision.FP32, ArtifactStore())"
    )
    done = subprocess.run(
        [sys.executable, "-c", words],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.stderr + done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@needed
def test_ops_are_verified_and_a_network_is_timed_on_this_machine() -> None:
    target = Target(device="host", runtime=Runtime.NCNN, precision=Precision.FP32)
    store, ops = ArtifactStore(), []
    for op in (SPACE.unique_ops[0], SHUFFLED, SPACE.unique_ops[-1]):
        chain = sandwich_of(op)
        made = export_ops(chain, op.key, target.runtime, target.precision, store)
        ops.append(Verified(op.key, chain, made.path))
    verified = verify(HostDevice(), target, ops)
    assert set(verified.errors) == {op.key for op in ops}
    assert 0 < verified.errors[verified.worst] < FP32_RELATIVE_ERROR
    made = export_architecture(
        read_architecture("fbnet_a", SPACE), target.runtime, target.precision, store
    )
    done = measure_latency(made.path, ci=0.5, budget_s=20)
    assert done.target.runtime is Runtime.NCNN
    assert done.ms > 0


@needed
def test_int8_is_refused() -> None:
    with pytest.raises(BadRequest, match="ncnn models are exported in fp32, not in int8"):
        require_writer(Runtime.NCNN, Precision.INT8)


@needed
def test_a_failing_converter_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import pnnx

    monkeypatch.setattr(pnnx, "EXEC_PATH", "/bin/false")
    with pytest.raises(ExportFailed, match="pnnx ended with exit status 1"):
        exported()


@pytest.mark.skipif(HERE, reason="ncnn and pnnx are installed")
def test_without_ncnn_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="needs pnnx, which is not installed") as raised:
        require_writer(Runtime.NCNN, Precision.FP32)
    assert raised.value.hint == "pip install latbench[ncnn]"
    model = tmp_path / "model.param"
    model.write_text("7767517\n1 1\nInput in0 0 1 in0\n")
    model.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(LatbenchError, match="ncnn is not installed") as missing:
        measure_latency(model, input_shape=(1, 3, 8, 8))
    assert missing.value.hint == "pip install latbench[ncnn]"
