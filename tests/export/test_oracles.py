"""Our writers against the ecosystem's exporters: `pip install latbench[oracle]`, then `pytest -m oracle`.

They take minutes for a space, and litert-torch more than a gigabyte, so they do not run by default.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latbench.export import export_op
from latbench.export.check import Bound, check_artifact
from latbench.export.exporter import prepare, write
from latbench.export.store import ArtifactStore, Recipe
from latbench.runtime.registry import HOST_RUNTIMES, descriptor, load_model
from latbench.space import OpSpec, SearchSpace
from latbench.space.blocks import build_op, initialise
from latbench.target import Precision, Runtime

pytestmark = pytest.mark.oracle

SPACE = SearchSpace.named("fbnet", input_size=96, width=0.5)
OPS = [SPACE.stem, *SPACE.unique_blocks[8:16], *SPACE.head_ops()]


def prepared(op: OpSpec) -> tuple[nn.Module, torch.Tensor]:
    """The op's module with untrained weights, and an input."""
    module = build_op(op)
    sample = torch.randn(4, *op.input_shape[1:], generator=torch.Generator().manual_seed(0))
    initialise(module, sample, seed=0)
    return module, sample[:1]


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.key)
def test_torch_onnx_agrees(op: OpSpec, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    module, sample = prepared(op)
    path = tmp_path / "oracle.onnx"
    torch.onnx.export(module, (sample,), path, dynamo=True, verbose=False)
    check(module, sample, Runtime.ONNX, path, op)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.key)
def test_litert_torch_agrees(op: OpSpec, tmp_path: Path) -> None:
    litert_torch = pytest.importorskip("litert_torch")
    module, sample = prepared(op)
    path = tmp_path / "oracle.tflite"
    litert_torch.convert(module, (sample,)).export(str(path))
    check(module, sample, Runtime.TFLITE, path, op)


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small"),
        *("mnasnet_100", "semnasnet_100", "spnasnet_100", "fbnetc_100"),
        *("efficientnet_b0", "efficientnet_lite0", "resnet18", "resnet50"),
    ],
)
def test_networks_of_timm_are_held_by_the_graph(name: str, tmp_path: Path) -> None:
    """In the shapes of their authors: `pip install timm`.

    Without training, and without the small residual branches that latbench starts with, TorchScript's 7 bits
    leave no signal at the end of MobileNetV3 and V4.
    """
    timm = pytest.importorskip("timm")
    module = timm.create_model(name).eval()
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    initialise(module, images, seed=0)
    prepared = prepare(module, torch.split(images, 1))
    assert len(prepared.graph.nodes) > 20
    for runtime in HOST_RUNTIMES:
        for precision in descriptor(runtime).precisions:
            if (runtime, precision) == (Runtime.TORCHSCRIPT, Precision.INT8):
                continue
            recipe = Recipe(name, (name, "network"), runtime, precision, 0, "oracle")
            written = write(prepared, recipe)
            path = tmp_path / f"network{descriptor(runtime).suffix}"
            path.write_bytes(written.data)
            bound = Bound.of(precision, ops=2)
            found = prepared.graph, prepared.reference, written.quantization
            error = check_artifact(path, runtime, *found, bound)
            assert error is not None
            assert bound.holds(error)


def check(
    module: nn.Module, sample: torch.Tensor, runtime: Runtime, path: Path, op: OpSpec
) -> None:
    """The oracle's file computes what eager does, as ours does (checked when it was exported)."""
    with torch.inference_mode():
        expected = module(sample).numpy()
    oracle = load_model(runtime, path)
    oracle.set_inputs([sample.numpy()])  # the ecosystem's exporters keep NCHW at the edges
    oracle.run()
    assert relative_error(oracle.get_outputs()[0], expected) < 1e-4
    assert export_op(op, runtime, Precision.FP32, ArtifactStore()).error < 1e-4
