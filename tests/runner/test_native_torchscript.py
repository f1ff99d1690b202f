"""TorchScript in the native runner: its engine is a plugin in C++, built against the installed LibTorch.

Building it takes half a minute, so it is among the rigs: `pytest -m rig tests/runner`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from nativebuild import Built
from tinymodels import Models

from latbench.device.host.native import NativeHostDevice, native_host_device
from latbench.device.native.build import build_torchscript
from latbench.device.registry import UnitSelector
from latbench.errors import RunnerFailed
from latbench.export import ArtifactStore, export_op
from latbench.runtime.registry import descriptor, load_model
from latbench.space import SearchSpace
from latbench.target import Precision, Runtime, Target
from latbench.workflows.measure import measure_latency
from latbench.workflows.numerics import Verified, verify
from latbench.workflows.target import TargetRequest

pytestmark = pytest.mark.rig

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin, built; where it cannot be, what it takes is told, and the tests fail."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATBENCH_HOME", str(home))
        return build_torchscript().path


@pytest.fixture
def device(engine: Path, built: Built, _own_home: Path) -> NativeHostDevice:
    (_own_home / "runners").symlink_to(engine.parents[1])
    found = native_host_device(built.program)
    found.require_runtime(Runtime.TORCHSCRIPT)
    return found


@pytest.mark.parametrize("precision", descriptor(Runtime.TORCHSCRIPT).precisions)
def test_it_computes_what_pytorch_computes(device: NativeHostDevice, precision: Precision) -> None:
    target = Target(
        device="host",
        runtime=Runtime.TORCHSCRIPT,
        precision=precision,
        cores=device.default_cores(1),
    )
    store, ops = ArtifactStore(), []
    for op in SPACE.unique_ops[:8]:
        made = export_op(op, target.runtime, precision, store)
        ops.append(Verified(op.key, (op,), made.path))
    verified = verify(device, target, ops)
    assert len(verified.errors) == 8
    with device.open_runner() as runner:
        (reported,) = (one for one in runner.hello().engines if one.runtime is Runtime.TORCHSCRIPT)
        loaded = runner.load(str(ops[3].path), Runtime.TORCHSCRIPT, cores=target.cores, threads=1)
        reply = runner.run(loaded.handle, outputs=True)
    assert reported.version == torch.__version__.partition("+")[0]
    assert reported.library == "libtorch_cpu.so"
    assert (loaded.threads_observed, loaded.cores_observed) == (1, target.cores)
    here = load_model(Runtime.TORCHSCRIPT, ops[3].path)
    here.run()
    assert reply.outputs is not None
    np.testing.assert_allclose(reply.outputs[0].array, here.get_outputs()[0], rtol=1e-5, atol=1e-6)


def test_a_model_is_measured(device: NativeHostDevice, built: Built, models: Models) -> None:
    units = (UnitSelector(runner=f"native={built.program}"),)
    path = models.of[Runtime.TORCHSCRIPT]
    done = measure_latency(path, TargetRequest(runtime=Runtime.TORCHSCRIPT, units=units), ci=0.5)
    assert done.ms > 0


def test_what_cannot_be_loaded_is_refused(
    device: NativeHostDevice, models: Models, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no archive")
    with device.open_runner() as runner:
        with pytest.raises(RunnerFailed, match="is not a TorchScript model: Pytorch") as refused:
            runner.load(str(broken), Runtime.TORCHSCRIPT)
        assert "frame #0" not in refused.value.reason
        with pytest.raises(RunnerFailed, match="does not say what its inputs are"):
            runner.load(str(models.foreign), Runtime.TORCHSCRIPT)
        assert runner.load(str(models.of[Runtime.TORCHSCRIPT]), Runtime.TORCHSCRIPT).handle
