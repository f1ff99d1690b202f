"""This machine, measured by the native runner through the same loop as by the Python worker."""

from pathlib import Path

import pytest
from nativebuild import Built
from tinymodels import Models

from latbench.device.host.device import HostDevice
from latbench.device.host.native import NativeHostDevice, native_host_device
from latbench.device.registry import UnitSelector
from latbench.errors import BadRequest, DeviceUnavailable, RunnerFailed
from latbench.files import sha256_of
from latbench.measure import Journal, Plan, Role, Settings, Workload, measure
from latbench.measure.plan import reference_workload
from latbench.runtime.registry import runtime_version
from latbench.target import Precision, Runtime, Target
from latbench.workflows.measure import measure_latency
from latbench.workflows.target import TargetRequest, open_target


@pytest.fixture(scope="module")
def device(built: Built) -> NativeHostDevice:
    return native_host_device(built.program)


def test_it_is_this_machine_with_another_runner(device: NativeHostDevice) -> None:
    python = HostDevice()
    assert (device.name, device.unit) == (python.name, python.unit)
    assert device.default_cores(1) == python.default_cores(1)
    assert device.reference is not None
    assert device.reference != python.reference
    with device.open_runner() as runner:
        hello = runner.hello()
    assert hello.runner.startswith("latbench-native")
    assert {engine.runtime: engine.version for engine in hello.engines} == {
        runtime: runtime_version(runtime) for runtime in (Runtime.TFLITE, Runtime.ONNX)
    }


@pytest.mark.parametrize("runtime", [Runtime.TFLITE, Runtime.ONNX])
def test_a_plan_is_measured(
    runtime: Runtime, device: NativeHostDevice, models: Models, tmp_path: Path
) -> None:
    device.require_runtime(runtime)
    assert device.reference is not None
    path = models.of[runtime]
    target = Target(
        device="host",
        runtime=runtime,
        precision=Precision.FP32,
        accelerator="cpu",
        threads=1,
        cores=device.default_cores(1),
    )
    plan = Plan(
        target,
        (Workload("conv", Role.OP, path, sha256_of(path.read_bytes())),),
        settings=Settings(max_rounds=6, seconds=0, min_samples=3, runners=2),
        reference=reference_workload(device.reference),
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        report = measure(plan, device, journal)
        trials = journal.trials(report.run.id)
    assert report.results["conv"].ms > 0
    assert not [trial for trial in trials if trial.failure is not None]
    assert [trial for trial in trials if trial.role is Role.REFERENCE]


def test_it_is_chosen_by_an_option(built: Built, models: Models) -> None:
    units = (UnitSelector(runner=f"native={built.program}"),)
    request = TargetRequest(runtime=Runtime.ONNX, units=units)
    done = measure_latency(models.of[Runtime.ONNX], request, ci=0.5)
    assert done.ms > 0
    with pytest.raises(BadRequest, match="no engine for TorchScript"):
        open_target(TargetRequest(runtime=Runtime.TORCHSCRIPT, units=units))


def test_torchscript_is_refused(device: NativeHostDevice, models: Models) -> None:
    with pytest.raises(
        BadRequest, match="the native runner has no engine for TorchScript"
    ) as raised:
        device.require_runtime(Runtime.TORCHSCRIPT)
    assert "--runtime tflite or onnx" in str(raised.value.hint)
    with device.open_runner() as runner, pytest.raises(RunnerFailed, match="no engine"):
        runner.load(str(models.of[Runtime.TORCHSCRIPT]), Runtime.TORCHSCRIPT)


def test_executorch_is_refused(device: NativeHostDevice) -> None:
    with pytest.raises(
        BadRequest, match="the native runner has no engine for ExecuTorch"
    ) as raised:
        device.require_runtime(Runtime.EXECUTORCH)
    assert "leave out --runner" in str(raised.value.hint)


def test_the_runner_is_found(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("LATBENCH_RUNNER", raising=False)
    with pytest.raises(DeviceUnavailable, match=r"no such runner: .*latbench-runner") as raised:
        native_host_device()
    assert "runner build --preset host" in str(raised.value.hint)
    kept = Path(str(raised.value).partition("no such runner: ")[2].splitlines()[0])
    assert kept.is_relative_to(tmp_path / "runners")
    kept.parent.mkdir(parents=True)
    kept.symlink_to(built.program)
    assert native_host_device().reference
    # What the environment names comes before, and an argument before that.
    monkeypatch.setenv("LATBENCH_RUNNER", str(tmp_path / "nothing"))
    with pytest.raises(DeviceUnavailable, match=r"LATBENCH_RUNNER names .*nothing"):
        native_host_device()
    assert native_host_device(built.program).reference
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho hello\n")
    broken.chmod(0o755)
    with pytest.raises(RunnerFailed):
        native_host_device(broken)
