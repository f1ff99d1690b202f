"""The native runner behaves like the Python worker, with real engines, through our client."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from nativebuild import Built, Process, ask
from onnx import TensorProto, helper
from tinymodels import Models, write_wide_onnx

from latbench._version import __version__
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import Loaded, RunReply
from latbench.errors import RunnerFailed
from latbench.export import ArtifactStore, export_op
from latbench.runtime.base import Array, TensorInfo
from latbench.runtime.registry import load_model
from latbench.space import parse_key
from latbench.target import Precision, Runtime

NATIVE = [Runtime.TFLITE, Runtime.ONNX]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pins_two = pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")


# What it does


def test_the_unit_tests_pass(built: Built) -> None:
    command = ["ctest", "--test-dir", str(built.folder), "--output-on-failure"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "100% tests passed" in done.stdout


def test_hello_identifies_the_runner(native: RunnerClient) -> None:
    hello = native.hello()
    assert hello.version == 1
    assert hello.runner == f"latbench-native {__version__}"
    assert (hello.os, hello.abi) == ("linux", os.uname().machine)
    assert psutil.Process(hello.pid).exe().endswith("latbench-runner")
    engines = {engine.runtime: engine for engine in hello.engines}
    assert set(engines) == set(NATIVE)
    assert engines[Runtime.ONNX].library == "libonnxruntime.so." + engines[Runtime.ONNX].version
    for engine in hello.engines:
        assert re.fullmatch(r"[0-9a-f]{64}", engine.sha256 or "")


def test_engines_are_known_by_their_hash(built: Built) -> None:
    with built.client("--litert-version", "2.3.0") as client:
        engines = {engine.runtime: engine for engine in client.hello().engines}
    for runtime, path in built.engines.items():
        tool = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
        assert engines[runtime].sha256 == tool.stdout.split()[0]
    assert engines[Runtime.TFLITE].version == "2.3.0"


def test_engines_are_found_beside_the_runner(built: Built, tmp_path: Path) -> None:
    program = tmp_path / "latbench-runner"
    program.write_bytes(built.program.read_bytes())
    program.chmod(0o755)
    (tmp_path / "libonnxruntime.so.1").symlink_to(built.engines[Runtime.ONNX])
    lines = subprocess.run([program], input=b'{"op": "hello"}\n', capture_output=True, check=True)
    (engine,) = json.loads(lines.stdout)["engines"]
    assert engine["library"] == "libonnxruntime.so.1"


@pytest.mark.parametrize("runtime", NATIVE)
def test_samples_are_as_requested(runtime: Runtime, models: Models, native: RunnerClient) -> None:
    loaded = native.load(str(models.of[runtime]), runtime)
    python = load_model(runtime, models.of[runtime])
    assert (loaded.inputs, loaded.outputs) == (python.inputs, python.outputs)
    assert loaded.load_ms > 0
    assert loaded.coverage["ops"] == 1
    assert loaded.engine.sha256
    exactly = native.run(loaded.handle, min_samples=5, max_samples=5)
    assert len(exactly.samples_ns) == 5
    assert min(exactly.samples_ns) > 0
    by_time = native.run(loaded.handle, min_samples=1, max_samples=500_000, seconds=0.02)
    # The last sample starts before the time is up, so all but it fit inside.
    assert sum(by_time.samples_ns[:-1]) <= 0.02e9
    capped = native.run(loaded.handle, min_samples=1, max_samples=3, seconds=60)
    assert len(capped.samples_ns) == 3


def outputs_of(process: Process, path: Path, runtime: Runtime, **more: Any) -> list[Array]:
    load = {"id": 1, "op": "load", "path": str(path), "runtime": runtime} | more
    reply = ask(process, load)
    assert reply["ok"], reply
    run = {"id": 2, "op": "run", "handle": reply["handle"], "max_samples": 1, "outputs": True}
    outputs = RunReply.model_validate(ask(process, run)).outputs
    assert outputs is not None
    assert [output.name for output in outputs] == [info["name"] for info in reply["outputs"]]
    return [output.array for output in outputs]


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("runtime", NATIVE)
def test_it_computes_what_python_computes(
    runtime: Runtime, precision: Precision, start: Callable[..., Process]
) -> None:
    op = parse_key("ir_k5_e6_g1_s2_i24_o32_h14_w14")
    path = export_op(op, runtime, precision, ArtifactStore()).path
    process = start()
    for seed in (0, 7):
        python = load_model(runtime, path)
        python.set_inputs([info.sample(seed) for info in python.inputs])
        python.run()
        for got, expected in zip(
            outputs_of(process, path, runtime, seed=seed), python.get_outputs(), strict=True
        ):
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            # Other kernels may add up in another order; stored integers then differ by one at most.
            tolerance = 1 if got.dtype.kind in "iu" else 1e-4 * float(np.abs(expected).max())
            np.testing.assert_allclose(
                got.astype(np.float64), expected.astype(np.float64), rtol=0, atol=tolerance
            )
            assert np.abs(expected.astype(np.float64)).max() > 0


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BOOL])
def test_inputs_are_those_of_python(
    dtype: int, start: Callable[..., Process], tmp_path: Path
) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, dtype, [3, 1000]) for name in "xy"]
    graph = helper.make_graph([node], "graph", tensors[:1], tensors[1:])
    path = tmp_path / "identity.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))
    for seed in (0, 2**53):
        (got,) = outputs_of(start(), path, Runtime.ONNX, seed=seed)
        expected = TensorInfo("x", (3, 1000), got.dtype.name).sample(seed)
        # Bit for bit, unless the last place of log or cos decides a rounding.
        assert np.mean(got != expected) < 1e-3
        if got.dtype.kind == "f":
            np.testing.assert_array_max_ulp(got, expected, 1)


@pytest.mark.parametrize("runtime", NATIVE)
def test_dynamic_dimensions_are_one_unless_given(
    runtime: Runtime, models: Models, native: RunnerClient
) -> None:
    path = str(models.dynamic_onnx if runtime is Runtime.ONNX else models.dynamic_tflite)
    rest = (3, 8, 8) if runtime is Runtime.ONNX else (8, 8, 3)
    assert native.load(path, runtime).inputs[0].shape == (1, *rest)
    batched = native.load(path, runtime, input_shapes=[(2, *rest)])
    assert batched.inputs[0].shape == (2, *rest)
    assert batched.outputs[0].shape[0] == 2
    assert native.run(batched.handle, max_samples=2).samples_ns
    with pytest.raises(RunnerFailed, match=r"--input-shape 2x4x9x9 does not fit the model's input"):
        native.load(path, runtime, input_shapes=[(2, 4, 9, 9)])
    with pytest.raises(RunnerFailed, match="takes 1 inputs"):
        native.load(path, runtime, input_shapes=[(2, *rest)] * 2)


def test_an_output_shape_that_depends_on_values_is_found(
    models: Models, start: Callable[..., Process]
) -> None:
    (places,) = outputs_of(start(), models.computed_shape_onnx, Runtime.ONNX)
    np.testing.assert_array_equal(places, [[0, 1, 2, 3, 4]])


def test_the_reference_needs_no_load(models: Models, native: RunnerClient) -> None:
    assert re.match(r"1x1 convolutions of MobileNetV2, C 1 by ", native.hello().reference or "")
    free = native.run("reference", warmups=1, min_samples=3, max_samples=3)
    assert len(free.samples_ns) == 3
    assert free.threads_observed == 1
    core = CORES[-1]
    native.load(str(models.of[Runtime.ONNX]), Runtime.ONNX, cores=[core])
    assert native.run("reference", warmups=0, max_samples=2).cores_observed == (core,)
    with pytest.raises(RunnerFailed, match="unknown handle 'reference'"):
        native.unload("reference")
    assert native.run("reference", warmups=0, max_samples=1).samples_ns


@pytest.mark.parametrize("runtime", NATIVE)
def test_one_core_is_one_core(runtime: Runtime, models: Models, native: RunnerClient) -> None:
    core = CORES[-1]
    loaded = native.load(str(models.of[runtime]), runtime, cores=[core])
    assert (loaded.cores_observed, loaded.threads_observed) == ((core,), 1)
    ran = native.run(loaded.handle, min_samples=20)
    assert (ran.cores_observed, ran.threads_observed) == ((core,), 1)
    if Path("/proc/self/schedstat").exists():
        assert ran.waited_ms is not None
        assert ran.waited_ms >= 0
    # As seen from outside, of every thread there is.
    for thread in psutil.Process(native.hello().pid).threads():
        assert psutil.Process(thread.id).cpu_affinity() == [core]


@pins_two
@pytest.mark.parametrize("runtime", NATIVE)
def test_two_threads_are_two_threads(
    runtime: Runtime, models: Models, native: RunnerClient
) -> None:
    cores = tuple(CORES[-2:])
    loaded = native.load(str(models.of[runtime]), runtime, threads=2, cores=cores)
    assert (loaded.cores_observed, loaded.threads_observed) == (cores, 2)
    assert native.run(loaded.handle).threads_observed == 2


# What it refuses, and lives on


def test_what_is_refused_costs_nothing_else(
    models: Models, native: RunnerClient, tmp_path: Path
) -> None:
    whole = models.of[Runtime.ONNX].read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    for path, runtime, message in (
        (models.of[Runtime.ONNX], Runtime.TFLITE, "is not a TFLite model"),
        (models.of[Runtime.TFLITE], Runtime.ONNX, "is no model that ONNX Runtime can run"),
        (cut, Runtime.ONNX, "is no model that ONNX Runtime can run"),
        (tmp_path / "nothing", Runtime.ONNX, "there is no file .*nothing"),
        (tmp_path, Runtime.ONNX, "there is no file"),
        (models.foreign, Runtime.TORCHSCRIPT, "has no engine for the runtime torchscript"),
    ):
        with pytest.raises(RunnerFailed, match=message) as raised:
            native.load(str(path), runtime)
        assert (raised.value.stage, raised.value.kind) == ("load", "refused")
    with pytest.raises(RunnerFailed, match="unknown handle 'm9'") as raised:
        native.run("m9")
    assert (raised.value.stage, raised.value.kind) == ("run", "refused")
    handle = native.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle
    native.unload(handle)
    with pytest.raises(RunnerFailed, match="unknown handle"):
        native.run(handle)
    assert native.load(str(models.of[Runtime.ONNX]), Runtime.ONNX).handle != handle


def test_a_reply_that_is_too_long_is_refused(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start()
    load = {"op": "load", "path": str(write_wide_onnx(tmp_path / "wide.onnx")), "runtime": "onnx"}
    assert ask(process, {"id": 1} | load)["ok"]
    run = {"op": "run", "handle": "m1", "max_samples": 1}
    error = ask(process, {"id": 2, "outputs": True} | run)["error"]
    message = "the reply would take more than 16777216 bytes"
    assert (error["stage"], error["kind"], error["message"]) == ("run", "refused", message)
    assert ask(process, {"id": 3} | run)["ok"]


def test_accelerators_are_known_by_name(models: Models, native: RunnerClient) -> None:
    path = str(models.of[Runtime.ONNX])
    with pytest.raises(RunnerFailed, match="unknown accelerator 'tpu'") as raised:
        native.load(path, Runtime.ONNX, accelerator="tpu")
    assert raised.value.hint == "known for onnx: cpu, xnnpack, nnapi, qnn"
    # The wheel for this machine has none of them, and says so.
    for accelerator in ("xnnpack", "nnapi", "qnn"):
        with pytest.raises(RunnerFailed, match="ONNX Runtime refuses the accelerator"):
            native.load(path, Runtime.ONNX, accelerator=accelerator)
    with pytest.raises(RunnerFailed, match="is no model that LiteRT can run on npu"):
        native.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, accelerator="npu")


def test_a_runner_has_one_target(models: Models, native: RunnerClient) -> None:
    path = str(models.of[Runtime.TFLITE])
    with pytest.raises(RunnerFailed, match=r"cannot run on core 900: .*; it may use core"):
        native.load(path, Runtime.TFLITE, cores=[900])
    native.load(path, Runtime.TFLITE, cores=[CORES[0], CORES[0]])
    for threads, cores in ((2, [CORES[0]]), (1, [])):
        with pytest.raises(RunnerFailed, match=f"set to 1 thread on core {CORES[0]}") as raised:
            native.load(path, Runtime.TFLITE, threads=threads, cores=cores)
        assert "another runner" in str(raised.value.hint)


def test_cores_of_which_some_are_not_there_are_refused(
    models: Models, native: RunnerClient
) -> None:
    with pytest.raises(RunnerFailed, match=rf"asked for cores {CORES[0]},900, but got core "):
        native.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, cores=[CORES[0], 900])


# What it keeps of a file


def output_of(client: RunnerClient, path: Path, **how: Any) -> tuple[Array, Loaded]:
    loaded = client.load(str(path), Runtime.ONNX, **how)
    reply = client.run(loaded.handle, min_samples=1, max_samples=1, outputs=True)
    client.unload(loaded.handle)
    assert reply.outputs is not None
    return reply.outputs[0].array, loaded


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_a_model_that_is_loaded_again_computes_the_same(
    built: Built, tmp_path: Path, precision: Precision
) -> None:
    keys = ("ir_k3_e3_g2_s1_i16_o16_h14_w14", "ir_k5_e1_g1_s1_i16_o16_h14_w14")
    one, other = (
        export_op(parse_key(key), Runtime.ONNX, precision, ArtifactStore()).path for key in keys
    )
    with (
        built.client("--scratch", str(tmp_path)) as first,
        built.client("--scratch", str(tmp_path)) as second,
    ):
        expected, plain = output_of(first, one)
        assert not list(tmp_path.iterdir())
        for client in (first, first, second):
            output, loaded = output_of(client, one, again=True)
            assert np.array_equal(output, expected)
            assert (loaded.inputs, loaded.outputs) == (plain.inputs, plain.outputs)
            assert loaded.coverage in ({}, plain.coverage)
        (graph,) = tmp_path.iterdir()
        # It is what is loaded, and only by who loads again.
        different, _ = output_of(first, other, again=True)
        (of_other,) = set(tmp_path.iterdir()) - {graph}
        graph.write_bytes(of_other.read_bytes())
        assert np.array_equal(output_of(first, one, again=True)[0], different)
        assert np.array_equal(output_of(first, one)[0], expected)
        graph.write_bytes(b"no graph")
        assert np.array_equal(output_of(first, one, again=True)[0], expected)
        assert graph.stat().st_size > len(b"no graph")
        assert len(list(tmp_path.iterdir())) == 2
    assert tmp_path.is_dir()  # its owner ended the runners


def test_what_is_kept_goes_with_a_client_that_is_gone(
    start: Callable[..., Process], models: Models, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = start("--scratch", str(scratch))
    ask(
        process,
        {"id": 1, "op": "load", "path": str(models.of[Runtime.ONNX]), "runtime": "onnx"}
        | {"again": True},
    )
    assert len(list(scratch.iterdir())) == 1
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not scratch.exists()


def test_a_dynamic_dimension_is_settled_in_what_is_kept(
    built: Built, models: Models, tmp_path: Path
) -> None:
    with built.client("--scratch", str(tmp_path)) as client:
        for _ in range(2):
            _, single = output_of(client, models.dynamic_onnx, again=True)
            shape = single.inputs[0].shape
            assert shape[0] == 1
            double = (2, *shape[1:])
            output, loaded = output_of(
                client, models.dynamic_onnx, again=True, input_shapes=[double]
            )
            assert (loaded.inputs[0].shape, output.shape[0]) == (double, 2)
    assert len(list(tmp_path.iterdir())) == 2
