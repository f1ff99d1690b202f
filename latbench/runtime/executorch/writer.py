"""Write a graph as an ExecuTorch program: an optional extra, `pip install latbench[executorch]`.

ExecuTorch's own exporter writes it, in fp32 and wholly delegated to XNNPACK. It takes seconds per op, where
the writers of the other formats take milliseconds. `latbench.runtime.executorch.program` reads the result.
"""

import importlib
import json
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latbench.errors import ExportFailed
from latbench.graph.lowering import GraphModule
from latbench.graph.nodes import Activate, Activation, GlobalPool, Graph, Node, Pool, Shape
from latbench.quiet import without_notices
from latbench.runtime.executorch.program import METADATA_METHOD, read_pte


def _pool(node: GlobalPool, x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean.reshape(mean.shape[:2]) if node.flat else mean


def _window(node: Pool, x: Tensor) -> Tensor:
    if node.maximum or not node.counts_padding or not any(node.padding):
        return node.compute(x)
    top, left = node.padding
    padded = nn.functional.pad(x, (left, left, top, top))
    return nn.functional.avg_pool2d(padded, node.kernel, node.stride)


def _activation(node: Activate, x: Tensor) -> Tensor:
    if node.activation is Activation.HARD_SIGMOID:
        return nn.functional.relu6(x + 3.0) * (1 / 6)
    return replace(node, in_place=False).compute(x)


class _ProgramModule(GraphModule):
    """A graph in the form that XNNPACK takes.

    Averages keep their dimensions, or count no padding; hard-sigmoid is written out.
    """

    forms: ClassVar[dict[type[Node], Any]] = {
        Activate: _activation,
        GlobalPool: _pool,
        Pool: _window,
    }


def require_executorch() -> None:
    """Check that programs can be written here.

    Raises:
        ExportFailed: executorch is not installed.
    """
    if find_spec("executorch") is None:
        raise ExportFailed(
            "exporting ExecuTorch programs needs executorch, which is not installed",
            hint="pip install latbench[executorch]",
        )


def write_executorch(graph: Graph, metadata: dict[str, Any]) -> bytes:
    """Return the bytes of the program of `graph`; input and output are NCHW, 32-bit floats.

    The program's method 'latbench' returns `metadata` as JSON.

    Raises:
        ExportFailed: executorch is not installed, or not for this PyTorch.
    """
    return write_module(_ProgramModule(graph).eval(), graph.shapes[graph.input], metadata)


def write_module(module: nn.Module, shape: Shape, metadata: dict[str, Any]) -> bytes:
    """The same for a module."""
    require_executorch()
    sample = torch.zeros(shape)
    # It prints which optional libraries are missing, and PyTorch warns of deprecations.
    with without_notices(lambda line: True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exir: Any = importlib.import_module("executorch.exir")
            xnnpack: Any = importlib.import_module(
                "executorch.backends.xnnpack.partition.xnnpack_partitioner"
            )
        except ImportError as error:
            raise ExportFailed(
                f"executorch cannot be imported beside PyTorch {torch.__version__}: {error}",
                hint="pip install --upgrade latbench[executorch]",
            ) from None
        lowered = exir.to_edge_transform_and_lower(
            torch.export.export(module, (sample,)),
            partitioner=[xnnpack.XnnpackPartitioner()],
            constant_methods={METADATA_METHOD: json.dumps(metadata, sort_keys=True)},
        )
        return bytes(lowered.to_executorch().buffer)


def require_delegated(path: Path) -> None:
    """Check that the model in `path` is one call of XNNPACK, as it would be inside a network.

    Raises:
        ExportFailed: a part of it runs on ExecuTorch's own kernels, which are slow.
        RuntimeFailed: it is not a program.
    """
    method = read_pte(path)[0]
    if (method.delegate_calls, method.kernel_calls) != (1, 0):
        raise ExportFailed(
            f"{path.name} must be 1 call of XNNPACK, got {method.delegate_calls}, and "
            f"{method.kernel_calls} ops for ExecuTorch's own kernels",
            hint="another version of executorch may delegate more: "
            "pip install --upgrade latbench[executorch]",
        )
