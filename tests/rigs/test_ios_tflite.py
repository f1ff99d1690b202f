"""TensorFlow Lite by the C API that iPhones have (TensorFlowLiteC), with a real library of it for Linux.

The library is opened as on Android, by the runner with sanitizers, and linked in as on iOS. Metal and Core ML
are not here; the delegates that stand in for them are real ones, of XNNPACK.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.device.registry import open_device
from latbench.errors import RunnerFailed
from latbench.export import ArtifactStore, export_op
from latbench.runtime.registry import load_model
from latbench.space import SearchSpace, parse_key
from latbench.target import Precision, Runtime, Target
from latbench.workflows.numerics import Verified, verify
from tests.rigs.ios_phone import SOURCE, TOKEN, IosPhone, build_companion
from tests.rigs.ios_tools import tools
from tests.rigs.test_ios_build import CORE, zig_compile
from tests.rigs.usbmuxd import UsbmuxStandIn

pytestmark = pytest.mark.rig

sys.path.append(str(Path(__file__).parents[1] / "device"))

from tinymodels import Models, write_models  # noqa: E402  # it lies beside the tests of devices

HERE = Path(__file__).parent
BLOCK = "ir_k5_e6_g1_s2_i24_o32_h14_w14"  # four ops
SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
#: Grouped convolutions came with a later version than the one that can be had for Linux.
UNGROUPED = [op for op in SPACE.unique_ops if "_g2_" not in op.key]
GROUPED = next(op.key for op in SPACE.unique_ops if "_g2_" in op.key)
CLASSIFIER = next(op.key for op in UNGROUPED if op.key.startswith("classifier"))


def library(name: str) -> Path:
    path = tools().tflite / name
    if not path.is_file():
        pytest.skip("there is no TensorFlow Lite: run python -m tests.rigs.ios_tools")
    return path


@pytest.fixture(scope="module")
def tflite() -> Path:
    return library("linux_amd64/libtensorflowlite_c.so")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner, which ends at the first wrong access."""
    compiler = shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no clang: run python -m tests.rigs.ios_tools")
    folder = tmp_path_factory.mktemp("runner")
    options = ("-DLATBENCH_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    build_companion(folder, *options, target="latbench-runner", compiler=compiler)
    return folder / "runner" / "latbench-runner"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def delegates(tflite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TensorFlow Lite with stand-ins for the delegates of Apple's systems."""
    path = tmp_path_factory.mktemp("delegates") / "libwithdelegates.so"
    source = HERE / "tflite_delegates.c"
    words: list[str | Path] = ["-shared", "-fPIC", "-I", CORE, "-o", path, source, tflite]
    words += [f"-Wl,-rpath,{tflite.parent}", "-Wl,--no-undefined"]
    subprocess.run([os.environ.get("CC", "cc"), *words], check=True)
    return path


@pytest.fixture
def start(program: Path) -> Iterator[Callable[..., RunnerClient]]:
    """Start a runner with that library."""
    with contextlib.ExitStack() as running:

        def begin(path: Path, **environment: str) -> RunnerClient:
            command = [str(program), "--litert", str(path), "--max-seconds", "120"]
            transport = ProcessTransport(command, {**os.environ, **environment})
            return running.enter_context(RunnerClient(transport))

        yield begin


@pytest.fixture
def runner(start: Callable[..., RunnerClient], tflite: Path) -> RunnerClient:
    return start(tflite)


def exported(key: str, precision: Precision) -> Path:
    return export_op(parse_key(key), Runtime.TFLITE, precision, ArtifactStore()).path


def test_what_a_library_exports_decides(runner: RunnerClient, tflite: Path) -> None:
    (engine,) = runner.hello().engines
    assert (engine.runtime, engine.version, engine.library) == (
        Runtime.TFLITE,
        "2.9.0",
        tflite.name,
    )


@pytest.mark.parametrize("name", ["libtensorflowlite_c.so", "libtensorflowlite_jni.so"])
def test_it_is_found_beside_the_runner(
    name: str, program: Path, tflite: Path, tmp_path: Path
) -> None:
    (tmp_path / name).symlink_to(tflite)
    words: list[str | Path] = [program, "--engine-dir", tmp_path]
    done = subprocess.run(words, input=b'{"op": "hello"}\n', capture_output=True, check=True)
    assert [one["library"] for one in json.loads(done.stdout)["engines"]] == [name]


@pytest.mark.parametrize("precision", list(Precision))
def test_it_computes_what_python_computes(precision: Precision, runner: RunnerClient) -> None:
    for op in UNGROUPED[::4]:
        if (op.key, precision) == (CLASSIFIER, Precision.INT8):
            continue  # scales for each channel of it came with a later version, too
        path = exported(op.key, precision)
        python = load_model(Runtime.TFLITE, path)
        loaded = runner.load(str(path), Runtime.TFLITE, seed=7)
        assert (loaded.inputs, loaded.outputs) == (python.inputs, python.outputs)
        python.set_inputs([info.sample(7) for info in python.inputs])
        python.run()
        ran = runner.run(loaded.handle, max_samples=1, outputs=True)
        runner.unload(loaded.handle)
        assert ran.outputs is not None
        for got, expected in zip(ran.outputs, python.get_outputs(), strict=True):
            assert (got.array.dtype, got.array.shape) == (expected.dtype, expected.shape)
            off = np.abs(got.array.astype(np.float64) - expected.astype(np.float64)).max()
            # Other kernels may add up in another order; stored integers then differ by one at most.
            most = 1 if expected.dtype.kind in "iu" else 1e-4 * float(np.abs(expected).max())
            assert off <= most, op.key
            assert np.abs(expected.astype(np.float64)).max() > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_as_requested(threads: int, runner: RunnerClient, models: Models) -> None:
    path = str(models.of[Runtime.TFLITE])
    loaded = runner.load(path, Runtime.TFLITE, threads=threads)
    assert loaded.threads_observed == threads
    ran = runner.run(loaded.handle, min_samples=5, max_samples=5)
    assert (ran.threads_observed, len(ran.samples_ns)) == (threads, 5)


def test_dynamic_dimensions_are_one_unless_given(runner: RunnerClient, models: Models) -> None:
    path = str(models.dynamic_tflite)
    assert runner.load(path, Runtime.TFLITE).inputs[0].shape == (1, 8, 8, 3)
    batched = runner.load(path, Runtime.TFLITE, input_shapes=[(3, 8, 8, 3)])
    assert (batched.inputs[0].shape, batched.outputs[0].shape[0]) == ((3, 8, 8, 3), 3)
    assert batched.coverage == {"ops": 1, "delegate_nodes": 1, "ops_outside_delegates": 0}
    outputs = runner.run(batched.handle, max_samples=2, outputs=True).outputs
    assert outputs is not None
    # The graph was handed to XNNPACK before it had that size; so see that it computes all of it.
    assert all(np.abs(image).max() > 0 for image in outputs[0].array)
    with pytest.raises(RunnerFailed, match=r"--input-shape 2x4x9x9 does not fit .* \?x8x8x3"):
        runner.load(path, Runtime.TFLITE, input_shapes=[(2, 4, 9, 9)])


def test_what_is_refused_costs_nothing_else(
    runner: RunnerClient, models: Models, tmp_path: Path
) -> None:
    whole = models.of[Runtime.TFLITE].read_bytes()
    cut = tmp_path / "cut.tflite"
    handle = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle
    for length in (8, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) - 64):
        cut.write_bytes(whole[:length])
        with pytest.raises(RunnerFailed, match="is no model that TensorFlow Lite can run"):
            runner.load(str(cut), Runtime.TFLITE)
    with pytest.raises(RunnerFailed, match="is not a TFLite model"):
        runner.load(str(models.of[Runtime.ONNX]), Runtime.TFLITE)
    # In TensorFlow Lite's own words.
    with pytest.raises(RunnerFailed, match=r"can run on cpu: .*input->dims->data.3. != filter"):
        runner.load(str(exported(GROUPED, Precision.FP32)), Runtime.TFLITE)
    for accelerator, function in (
        ("gpu", "TFLGpuDelegateCreate"),
        ("coreml", "TfLiteCoreMlDelegateCreate"),
    ):
        with pytest.raises(
            RunnerFailed, match=f"no accelerator {accelerator}: it lacks {function}"
        ):
            runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, accelerator=accelerator)
    with pytest.raises(RunnerFailed, match="unknown accelerator 'npu'") as raised:
        runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, accelerator="npu")
    assert raised.value.hint == "known for tflite: cpu, gpu, coreml"
    assert runner.run(handle, max_samples=3).samples_ns
    for _ in range(20):
        runner.unload(runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle)


# Accelerators


@pytest.mark.parametrize(
    ("accelerator", "gpu", "precision", "delegate_nodes", "left"),
    [
        ("cpu", "", Precision.FP32, 1, 0),
        ("cpu", "", Precision.INT8, 0, 4),  # XNNPACK takes no integers unless it was built to
        ("gpu", "", Precision.FP32, 1, 0),
        ("gpu", "one", Precision.FP32, 1, 3),
        ("gpu", "", Precision.INT8, 0, 4),
        ("coreml", "", Precision.FP32, 1, None),  # what Core ML computes on the CPU, nobody tells
        ("coreml", "", Precision.INT8, 0, 4),
    ],
)
def test_what_delegates_leave_is_counted(
    accelerator: str,
    gpu: str,
    precision: Precision,
    delegate_nodes: int,
    left: int | None,
    delegates: Path,
    start: Callable[..., RunnerClient],
) -> None:
    runner = start(delegates, GPU=gpu)
    path = str(exported(BLOCK, precision))
    coverage = runner.load(path, Runtime.TFLITE, accelerator=accelerator).coverage
    assert (coverage["ops"], coverage["delegate_nodes"]) == (4, delegate_nodes)
    assert coverage.get("ops_outside_delegates") == left


def test_a_delegate_that_cannot_be_created_is_reported(
    delegates: Path, models: Models, start: Callable[..., RunnerClient]
) -> None:
    path = str(models.of[Runtime.TFLITE])
    with pytest.raises(RunnerFailed, match="TensorFlow Lite refuses the accelerator gpu"):
        start(delegates, GPU="refuses").load(path, Runtime.TFLITE, accelerator="gpu")


# As on an iPhone


@pytest.fixture(scope="module")
def app(tflite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The companion app with TensorFlow Lite linked in, as Xcode links it."""
    folder = tmp_path_factory.mktemp("app")
    options = ("-DLATBENCH_LINKED_TFLITE=ON", f"-DCMAKE_C_STANDARD_LIBRARIES={tflite}")
    return build_companion(
        folder, *options, f"-DCMAKE_BUILD_RPATH={tflite.parent}", target="latbench-companion"
    )


@pytest.fixture
def iphonex(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IosPhone]:
    """An iPhone X as the catalogue knows it."""
    with (
        UsbmuxStandIn(tmp_path / "usbmuxd") as muxd,
        IosPhone(app, tmp_path / "phone", muxd, model="iPhone10,3") as phone,
    ):
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", muxd.address)
        monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
        yield phone


def latbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "latbench", *words], capture_output=True, text=True, cwd=cwd
    )


def test_a_space_is_profiled(iphonex: IosPhone, tmp_path: Path) -> None:
    space = ("--space", "fbnet-cifar", "--input", "16", "--width", "0.35")
    words = ("profile", "--device", "iphonex", "--runtime", "tflite", *space)
    done = latbench(*words, "--calibrate", "0", "--ci", "40%", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["complete"]
    grouped = {op.key for op in SPACE.unique_ops} - {op.key for op in UNGROUPED}
    assert set(report["given_up"]) == grouped, "this version has none, and the rest is measured"
    assert report["trials"] > 6 * len(UNGROUPED)
    # A LUT without some of its ops would be one of another space.
    made = latbench("build-lut", "--out", "x.json", cwd=tmp_path)
    assert made.returncode == 1
    assert f"has no entry for {len(grouped)} of the {len(SPACE.unique_ops)} ops" in made.stderr


def test_it_computes_what_pytorch_computes(iphonex: IosPhone) -> None:
    files = [Verified(op.key, (op,), exported(op.key, Precision.FP32)) for op in UNGROUPED]
    target = Target(device="iphonex", runtime=Runtime.TFLITE, precision=Precision.FP32)
    with contextlib.closing(open_device("iphonex")) as device:
        # It raises where one is beyond its bound.
        assert set(verify(device, target, files).errors) == {op.key for op in UNGROUPED}


def test_an_accelerator_that_is_not_linked_is_refused(iphonex: IosPhone, tmp_path: Path) -> None:
    path = exported(BLOCK, Precision.FP32)
    words = ("measure", str(path), "--device", "iphonex", "--accelerator", "gpu", "--json")
    done = latbench(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "this TensorFlow Lite has no accelerator gpu" in done.stderr


def test_it_links_for_macs(tmp_path: Path) -> None:
    made = tmp_path / "companion"
    core = [source for source in sorted(CORE.glob("*.c")) if source.name != "main.c"]
    app = sorted((SOURCE / "app").glob("*.c"))
    dylib = library("darwin_arm64/libtensorflowlite_c.dylib")
    zig_compile("aarch64-macos", "-DLATBENCH_LINKED_TFLITE", "-o", made, *core, *app, dylib)
    assert made.read_bytes()[:4] == bytes.fromhex("cffaedfe"), "64-bit Mach-O"
