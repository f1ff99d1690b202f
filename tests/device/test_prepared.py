"""A runner keeps what it computes from a file that is loaded many times, for the length of a run only."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tinymodels import Models

from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import Loaded, RunnerClient
from latbench.export import ArtifactStore, export_architecture, export_op
from latbench.files import home
from latbench.runtime.base import Array
from latbench.runtime.registry import load_model
from latbench.space import SearchSpace, parse_key
from latbench.space.design import varied_architectures
from latbench.target import Precision, Runtime

OPS = ("ir_k3_e3_g2_s1_i16_o16_h14_w14", "ir_k5_e1_g1_s1_i16_o16_h14_w14")
NCNN = all(importlib.util.find_spec(name) is not None for name in ("ncnn", "pnnx"))
FORMATS = [
    pytest.param(Runtime.ONNX, Precision.FP32),
    pytest.param(Runtime.ONNX, Precision.INT8),
    pytest.param(
        Runtime.NCNN,
        Precision.FP32,
        marks=pytest.mark.skipif(not NCNN, reason="pip install latbench[ncnn]"),
    ),
]
#: How long an orphaned runner may take to notice, and to remove its folder.
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def device() -> Iterator[HostDevice]:
    device = HostDevice()
    yield device
    device.close()


def exported(runtime: Runtime, precision: Precision, key: str = OPS[0]) -> str:
    return str(export_op(parse_key(key), runtime, precision, ArtifactStore()).path)


def kept() -> list[Path]:
    """What all runners keep."""
    return sorted((home() / "scratch").glob("*/*"))


def load(runner: RunnerClient, path: str, runtime: Runtime, *, again: bool) -> tuple[Array, Loaded]:
    loaded = runner.load(path, runtime, again=again)
    reply = runner.run(loaded.handle, min_samples=1, max_samples=1, outputs=True)
    runner.unload(loaded.handle)
    assert reply.outputs is not None
    return reply.outputs[0].array, loaded


@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_a_model_that_is_loaded_again_computes_the_same(
    runtime: Runtime, precision: Precision, device: HostDevice
) -> None:
    path = exported(runtime, precision)
    with device.open_runner() as first, device.open_runner() as second:
        expected, plain = load(first, path, runtime, again=False)
        assert not kept()
        for runner in (first, first, second):
            output, loaded = load(runner, path, runtime, again=True)
            assert np.array_equal(output, expected)
            assert (loaded.inputs, loaded.outputs) == (plain.inputs, plain.outputs)
            assert loaded.load_ms > 0
        assert len(kept()) == 1
    device.close()
    assert not kept()
    assert not list((home() / "scratch").iterdir())


def kernels(path: Path, *, kept: bool = False, keep: Path | None = None) -> list[list[str]]:
    """The kernels that ONNX Runtime executes, in order, each with its shapes and bytes of weights."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(home() / "kernels")
    options.log_severity_level = 3
    if kept:
        options.add_session_config_entry("session.load_model_format", "ORT")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if keep is not None:
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.optimized_model_filepath = str(keep)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.float32 if given.type == "tensor(float)" else np.int8
    session.run(None, {given.name: np.zeros(given.shape, kind)})
    profile = Path(session.end_profiling())
    events = [event for event in json.loads(profile.read_text()) if event.get("cat") == "Node"]
    names = ("op_name", "input_type_shape", "output_type_shape", "parameter_size")
    return [
        [json.dumps(event["args"][name]) for name in names]
        for event in events
        if event["name"].endswith("kernel_time")
    ]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_the_same_kernels_run_in_the_same_order(
    precision: Precision, device: HostDevice, tmp_path: Path
) -> None:
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    network = varied_architectures(space, 1, seed=3)[0]
    artifact = export_architecture(network, Runtime.ONNX, precision, ArtifactStore())
    with device.open_runner() as runner:
        load(runner, str(artifact.path), Runtime.ONNX, again=True)
    (graph,) = kept()
    expected = kernels(artifact.path)
    assert len(expected) > 20
    assert kernels(artifact.path, keep=tmp_path / "graph") == expected
    assert kernels(graph, kept=True) == expected


@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_what_is_kept_is_what_is_loaded(
    runtime: Runtime, precision: Precision, device: HostDevice
) -> None:
    one, other = (exported(runtime, precision, key) for key in OPS)
    with device.open_runner() as runner:
        expected, _ = load(runner, other, runtime, again=True)
        (of_other,) = kept()
        own, _ = load(runner, one, runtime, again=True)
        (of_one,) = set(kept()) - {of_other}
        assert not np.array_equal(own, expected)
        spare = of_other.rename(of_other.with_name("spare"))
        of_one.rename(of_other)
        spare.rename(of_one)
        assert np.array_equal(load(runner, one, runtime, again=True)[0], expected)
        # Only what the client loads again comes from there.
        assert np.array_equal(load(runner, one, runtime, again=False)[0], own)


def test_a_changed_file_is_computed_anew(device: HostDevice, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    outputs = []
    with device.open_runner() as runner:
        for key in OPS:
            path.write_bytes(Path(exported(Runtime.ONNX, Precision.FP32, key)).read_bytes())
            outputs.append(load(runner, str(path), Runtime.ONNX, again=True)[0])
        assert not np.array_equal(*outputs)


@pytest.mark.parametrize("damaged", [b"", b"\x08\x0anonsense"])
def test_a_damaged_or_missing_graph_is_no_error(device: HostDevice, damaged: bytes) -> None:
    path = exported(Runtime.ONNX, Precision.FP32)
    with device.open_runner() as runner:
        expected, _ = load(runner, path, Runtime.ONNX, again=True)
        (file,) = kept()
        file.write_bytes(damaged)
        assert np.array_equal(load(runner, path, Runtime.ONNX, again=True)[0], expected)
        assert len(file.read_bytes()) > len(damaged)  # and it was written once more
        file.unlink()
        file.parent.rmdir()
        assert np.array_equal(load(runner, path, Runtime.ONNX, again=True)[0], expected)


def test_a_dynamic_dimension_is_settled_in_what_is_kept(device: HostDevice, models: Models) -> None:
    path = str(models.dynamic_onnx)
    with device.open_runner() as runner:
        for _ in range(2):
            _, single = load(runner, path, Runtime.ONNX, again=True)
            shape = single.inputs[0].shape
            assert shape[0] == 1
            double = (2, *shape[1:])
            loaded = runner.load(path, Runtime.ONNX, input_shapes=[double], again=True)
            assert loaded.inputs[0].shape == double
    assert len(kept()) == 2


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    path = Path(exported(Runtime.ONNX, Precision.FP32))
    model = load_model(Runtime.ONNX, path, prepared=tmp_path / "gone" / "graph")
    model.run()
    assert not list(tmp_path.glob("gone"))


def test_the_folder_goes_with_a_host_that_is_killed(tmp_path: Path) -> None:
    path = exported(Runtime.ONNX, Precision.FP32)
    host = f"""
from latbench.device.host.device import HostDevice
from latbench.target import Runtime
device = HostDevice()
runner = device.open_runner()
runner.load({path!r}, Runtime.ONNX, again=True)
print("loaded", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", host], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loaded\n"
        assert len(kept()) == 1
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE_S
    while list((home() / "scratch").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
