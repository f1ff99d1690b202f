"""Our writers against the ecosystem's exporters: `pip install latbench[oracle]`, then `pytest -m oracle`.

They take minutes for a space, and litert-torch more than a gigabyte, so they do not run by default.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latbench.export import export_op
from latbench.export.store import ArtifactStore
from latbench.runtime.registry import load_model
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
