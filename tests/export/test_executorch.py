"""ExecuTorch's programs compute what PyTorch does, and this machine times them.

executorch is an optional extra: without it all but the refusals is skipped.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latbench.device.host.device import HostDevice
from latbench.errors import ExportFailed, LatbenchError
from latbench.export import ArtifactStore, export_architecture, export_op, require_writer
from latbench.export.check import FP32_RELATIVE_ERROR
from latbench.export.exporter import reproducible_module
from latbench.export.metadata import read_metadata
from latbench.runtime.executorch.program import read_pte
from latbench.runtime.registry import load_model
from latbench.space import SearchSpace, parse_key, read_architecture
from latbench.target import Precision, Runtime
from latbench.workflows.measure import measure_latency

HERE = importlib.util.find_spec("executorch") is not None
needed = pytest.mark.skipif(not HERE, reason="pip install latbench[executorch]")
SHUFFLED = parse_key("ir_k5_e6_g2_s1_i16_o16_h14_w14")


@needed
def test_a_block_is_xnnpacks_alone_and_computes_what_pytorch_does() -> None:
    store = ArtifactStore()
    made = export_op(SHUFFLED, Runtime.EXECUTORCH, Precision.FP32, store)
    assert made.path.suffix == ".pte"
    assert made.error is not None
    assert made.error < FP32_RELATIVE_ERROR
    forward = read_pte(made.path)[0]
    assert (forward.delegate_calls, forward.kernel_calls) == (1, 0)
    assert read_metadata(made.path)["key"] == SHUFFLED.key
    # Known, so not written again.
    assert export_op(SHUFFLED, Runtime.EXECUTORCH, Precision.FP32, store) == made


@needed
def test_runs_leave_the_inputs_as_they_were() -> None:
    made = export_op(SHUFFLED, Runtime.EXECUTORCH, Precision.FP32, ArtifactStore())
    model = load_model(Runtime.EXECUTORCH, made.path)
    module, (given, *_) = reproducible_module([SHUFFLED])
    model.set_inputs([given.numpy()])
    for _ in range(5):
        model.run()
    (first,) = model.get_outputs()
    np.testing.assert_allclose(first, module(given).detach().numpy(), rtol=1e-3, atol=1e-4)
    model.set_inputs([np.zeros_like(given.numpy())])
    model.run()
    assert not np.allclose(first, model.get_outputs()[0])
    assert (model.engine_threads, model.coverage["ops_outside_delegates"]) == (1, 0)
    assert load_model(Runtime.EXECUTORCH, made.path, threads=2).engine_threads == 2


@needed
def test_a_network_is_timed_on_this_machine() -> None:
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    made = export_architecture(
        read_architecture("fbnet_a", space), Runtime.EXECUTORCH, Precision.FP32, ArtifactStore()
    )
    done = measure_latency(made.path, ci=0.5, budget_s=20)
    assert done.target.runtime is Runtime.EXECUTORCH
    assert done.ms > 0
    with HostDevice().open_runner() as runner:
        loaded = runner.load(str(made.path), Runtime.EXECUTORCH)
        assert loaded.engine.library.startswith("libexecutorch_backend_xnnpack")
        assert loaded.threads_observed == 1


@needed
def test_nothing_but_errors_goes_to_the_terminal() -> None:
    words = "from latbench.export import *; from latbench.space import *; from latbench.target import *; "
    words += f"export_op(parse_key({SHUFFLED.key!r}), Runtime.EXECUTORCH, Precision.FP32, ArtifactStore())"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stderr + done.stdout == ""


@pytest.mark.skipif(HERE, reason="executorch is here")
def test_without_executorch_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="needs executorch, which is not installed") as raised:
        require_writer(Runtime.EXECUTORCH, Precision.FP32)
    assert raised.value.hint == "pip install latbench[executorch]"
    model = tmp_path / "model.pte"
    model.write_bytes((Path(__file__).parents[1] / "device/data/conv.pte").read_bytes())
    with pytest.raises(LatbenchError, match="executorch is not installed") as missing:
        measure_latency(model)
    assert missing.value.hint == "pip install latbench[executorch]"
