"""Write a graph as an ExecuTorch program: an optional extra, `pip install latbench[executorch]`.

ExecuTorch's own exporter writes it, in fp32 and wholly delegated to XNNPACK. It takes seconds per op, where
the writers of the other formats take milliseconds. `latbench.runtime.executorch.program` reads the result.
"""

import importlib
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latbench.errors import ExportFailed
from latbench.graph.lowering import Graph, GraphModule
from latbench.quiet import without_notices
from latbench.runtime.executorch.program import METADATA_METHOD, read_pte


class _ProgramModule(GraphModule):
    """A graph in the form that XNNPACK takes: averages keep their dimensions."""

    def pool(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return mean.reshape(mean.shape[:2])


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
    """Return the bytes of the program of `graph`; input and output are NCHW at batch 1, 32-bit floats.

    The program's method 'latbench' returns `metadata` as JSON.

    Raises:
        ExportFailed: executorch is not installed, or not for this PyTorch.
    """
    require_executorch()
    sample = torch.zeros(graph.shapes[graph.input])
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
            torch.export.export(_ProgramModule(graph).eval(), (sample,)),
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
