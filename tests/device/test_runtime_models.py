"""Models load into every runtime, compute what they must, and declare their tensors."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinymodels import Models, convolve

from latbench.errors import BadRequest, RuntimeFailed, UnknownName
from latbench.runtime.base import TensorInfo
from latbench.runtime.registry import (
    HOST_RUNTIMES,
    descriptor,
    load_model,
    runtime_library,
    runtime_of,
    runtime_version,
)
from latbench.target import Runtime

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_model_computes_the_convolution(runtime: Runtime, models: Models) -> None:
    model = load_model(runtime, models.of[runtime])
    image = TensorInfo("image", (1, 3, 8, 8), "float32").sample(seed=3)
    model.set_inputs([np.ascontiguousarray(descriptor(runtime).from_nchw(image))])
    model.run()
    (result,) = model.get_outputs()
    expected = convolve(image)
    got = descriptor(runtime).to_nchw(result)
    # Sums of 27 products of order 1 in float32, in any order.
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_outputs_are_copies(runtime: Runtime, models: Models) -> None:
    model = load_model(runtime, models.of[runtime])
    model.set_inputs([model.inputs[0].sample(seed=1)])
    model.run()
    first = model.get_outputs()[0]
    kept = first.copy()
    model.set_inputs([model.inputs[0].sample(seed=2)])
    model.run()
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(model.get_outputs()[0], kept)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_model_declares_its_tensors(runtime: Runtime, models: Models) -> None:
    model = load_model(runtime, models.of[runtime])
    swap = runtime is Runtime.TFLITE
    assert model.inputs == (TensorInfo("image", (1, 8, 8, 3) if swap else (1, 3, 8, 8), "float32"),)
    assert model.outputs == (
        TensorInfo("result", (1, 8, 8, 4) if swap else (1, 4, 8, 8), "float32"),
    )


def test_litert_reports_what_its_delegate_runs(models: Models) -> None:
    coverage = load_model(Runtime.TFLITE, models.of[Runtime.TFLITE]).coverage
    assert coverage == {"ops": 1, "delegate_nodes": 1, "ops_outside_delegates": 0}


@pytest.mark.parametrize("runtime", [Runtime.ONNX, Runtime.TFLITE])
def test_dynamic_dimensions_are_one_unless_given(runtime: Runtime, models: Models) -> None:
    path = models.dynamic_onnx if runtime is Runtime.ONNX else models.dynamic_tflite
    rest = (3, 8, 8) if runtime is Runtime.ONNX else (8, 8, 3)
    plain = load_model(runtime, path)
    assert plain.inputs[0].shape == (1, *rest)
    batched = load_model(runtime, path, input_shapes=[(2, *rest)])
    batched.set_inputs([batched.inputs[0].sample()])
    batched.run()
    assert batched.outputs[0].shape == batched.get_outputs()[0].shape
    assert batched.get_outputs()[0].shape[0] == 2


def test_an_output_shape_that_depends_on_values_is_found(models: Models) -> None:
    model = load_model(Runtime.ONNX, models.computed_shape_onnx)
    model.set_inputs([model.inputs[0].sample()])
    model.run()
    np.testing.assert_array_equal(model.get_outputs()[0], [[0, 1, 2, 3, 4]])


@pytest.mark.parametrize("runtime", [Runtime.ONNX, Runtime.TFLITE])
def test_a_shape_that_does_not_fit_is_refused(runtime: Runtime, models: Models) -> None:
    with pytest.raises(BadRequest, match=r"--input-shape 1x3x9x9 does not fit"):
        load_model(runtime, models.of[runtime], input_shapes=[(1, 3, 9, 9)])
    with pytest.raises(BadRequest, match="takes 1 input, but --input-shape was given 2 times"):
        load_model(runtime, models.of[runtime], input_shapes=[(1, 3, 8, 8)] * 2)


def test_a_foreign_torchscript_file_needs_its_shape(models: Models) -> None:
    with pytest.raises(BadRequest) as raised:
        load_model(Runtime.TORCHSCRIPT, models.foreign)
    assert "--input-shape" in str(raised.value.hint)
    model = load_model(Runtime.TORCHSCRIPT, models.foreign, input_shapes=[(2, 3, 8, 8)])
    model.run()
    assert model.get_outputs()[0].shape == (2, 4, 8, 8)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_file_that_is_no_model_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / f"text{descriptor(runtime).suffix}"
    path.write_text("This is a letter, not a model.\n" * 20)
    with pytest.raises(RuntimeFailed, match=re.escape(str(path))):
        load_model(runtime, path)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_cut_file_is_refused(runtime: Runtime, models: Models, tmp_path: Path) -> None:
    path = tmp_path / f"cut{descriptor(runtime).suffix}"
    whole = models.of[runtime].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeFailed, match=re.escape(str(path))):
        load_model(runtime, path)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_missing_file_is_named(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"there is no file .*nothing"):
        load_model(runtime, tmp_path / "nothing")


def test_invalid_requests_are_refused(models: Models) -> None:
    path = models.of[Runtime.TFLITE]
    with pytest.raises(BadRequest, match="threads must be at least 1, got 0"):
        load_model(Runtime.TFLITE, path, threads=0)
    with pytest.raises(UnknownName, match="accelerator 'gpu'"):
        load_model(Runtime.TFLITE, path, accelerator="gpu")


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_wrong_input_arrays_are_refused(runtime: Runtime, models: Models) -> None:
    model = load_model(runtime, models.of[runtime])
    right = model.inputs[0].sample()
    with pytest.raises(BadRequest, match="takes 1 input, not 2"):
        model.set_inputs([right, right])
    with pytest.raises(BadRequest, match="not float64"):
        model.set_inputs([right.astype(np.float64)])
    with pytest.raises(BadRequest, match="input image is float32"):
        model.set_inputs([right[:, 1:]])


def test_a_model_that_fails_says_why(models: Models) -> None:
    model = load_model(Runtime.TORCHSCRIPT, models.failing, input_shapes=[(1,)])
    with pytest.raises(RuntimeFailed, match="seventeen it must be"):
        model.run()


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_a_runtime_reports_version_and_library(runtime: Runtime) -> None:
    assert re.match(r"\d+\.\d+", runtime_version(runtime))
    name, sha256 = runtime_library(runtime)
    assert name.endswith((".so", ".dylib", ".pyd", ".dll"))
    assert re.fullmatch(r"[0-9a-f]{64}", sha256)
    assert runtime_library(runtime) == (name, sha256)


def test_quantized_samples_stay_in_range() -> None:
    info = TensorInfo("q", (64, 64), "int8", scale=0.01, zero_point=100)
    stored = info.sample()
    assert stored.dtype == np.int8
    assert stored.max() == 127  # a standard normal passes 0.27, the largest that can be stored
    # What is stored is the value sampled, wherever it was not cut off.
    real = TensorInfo("r", (64, 64), "float64").sample()
    inside = stored < 127
    np.testing.assert_allclose(
        (stored[inside] - 100.0) * 0.01, real[inside].clip(-2.28), atol=0.006
    )


def test_samples_are_those_of_every_runner() -> None:
    # SplitMix64 from seed 0 begins with 0xe220a8397b1dcdaf and 0x6e789e6aa1b965f4.
    u, v = ((0xE220A8397B1DCDAF >> 11) + 1) / 2**53, (0x6E789E6AA1B965F4 >> 11) / 2**53
    expected = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    sample = TensorInfo("r", (100, 100), "float64").sample()
    assert sample[0, 0] == pytest.approx(expected, rel=1e-14)
    assert abs(sample.mean()) < 0.04  # four standard errors
    assert sample.std() == pytest.approx(1, abs=0.03)
    assert len(np.unique(sample)) == sample.size
    other = TensorInfo("r", (100, 100), "float64").sample(seed=1)
    assert abs(np.corrcoef(sample.ravel(), other.ravel())[0, 1]) < 0.04
    np.testing.assert_array_equal(TensorInfo("f", (3,), "bool").sample(), [True] * 3)
    np.testing.assert_array_equal(TensorInfo("i", (3,), "int64").sample(), [0] * 3)


def test_the_registry_imports_no_engine() -> None:
    code = "import sys, latbench.runtime.registry; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "torch", "onnx", "onnxruntime", "ai_edge_litert"} & set(loaded)


def test_every_runtime_has_a_whole_descriptor() -> None:
    suffixes: list[str] = []
    for runtime in Runtime:
        found = descriptor(runtime)
        assert found.runtime is runtime
        assert found.title
        assert found.files
        assert found.kernels
        assert found.precisions
        assert found.accelerators[0] == "cpu"
        assert found.runs_here or found.extra is not None
        assert runtime_of(Path(f"Model{found.suffix.upper()}")) is runtime
        suffixes += found.suffixes
    assert len(suffixes) == len(set(suffixes)), "two runtimes have one suffix"
    with pytest.raises(BadRequest, match=re.escape("must end in one of .tflite, ")):
        runtime_of(Path("model.bin"))


def test_accelerators_are_those_of_the_runner_in_c() -> None:
    sources = [*(ROOT / "runner/core").glob("*.c"), *(ROOT / "runner/ios/shell").glob("*.m")]
    seen: dict[str, set[str]] = {}
    for source in sources:
        text = source.read_text(encoding="utf-8")
        arrays = re.search(r"ACCELERATORS\[\] = \{(.*?)\};", text, re.DOTALL)
        name = re.search(r'\.runtime = "(\w+)"', text)
        if arrays and name:
            seen.setdefault(name[1], set()).update(re.findall(r'"(\w+)"', arrays[1]))
    assert {"tflite", "onnx", "coreml"} <= set(seen)
    for runtime, names in seen.items():
        assert set(descriptor(Runtime(runtime)).accelerators) == names


def test_layouts_are_inverse() -> None:
    image = np.arange(24).reshape(1, 2, 3, 4)
    for runtime in Runtime:
        found = descriptor(runtime)
        turned = found.from_nchw(image)
        assert turned.shape == found.shape(image.shape)
        np.testing.assert_array_equal(found.to_nchw(turned), image)
        assert found.from_nchw(image[0, 0]).shape == found.shape((3, 4)) == (3, 4)
