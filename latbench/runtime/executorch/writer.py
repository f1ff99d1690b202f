"""Write a graph as an ExecuTorch program: an optional extra, `pip install latbench[executorch]`.

ExecuTorch's own exporter does it, with all of a graph delegated to XNNPACK, in fp32; it takes seconds an
op, where the writers of the other formats take milliseconds. `latbench.runtime.executorch.program` reads
what it wrote.
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
from latbench.runtime.executorch.program import read_pte

#: The method that returns what the program is, as JSON; the model itself is 'forward', the first.
METADATA_METHOD = "latbench"


class _ProgramModule(GraphModule):
    """A graph as XNNPACK takes it: its averages keep their dimensions."""

    def pool(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return mean.reshape(mean.shape[:2])


def require_executorch() -> None:
    """Make sure that programs can be written here, before anything is.

    Raises:
        ExportFailed: executorch is not installed.
    """
    if find_spec("executorch") is None:
        raise ExportFailed(
            "ExecuTorch programs are written by executorch, which is not installed",
            hint="pip install latbench[executorch]",
        )


def write_executorch(graph: Graph, metadata: dict[str, Any]) -> bytes:
    """Return the bytes of the program of `graph`; input and output are NCHW at batch 1, 32-bit floats.

    `metadata` is what its method 'latbench' returns, as JSON.

    Raises:
        ExportFailed: executorch is not installed, or not for this PyTorch.
    """
    require_executorch()
    sample = torch.zeros(graph.shapes[graph.input])
    # Libraries that it could use are missed aloud, and PyTorch tells it of what is deprecated.
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
    """Make sure that the model in `path` is one call of XNNPACK, as one of a network's blocks would be.

    Raises:
        ExportFailed: a part of it is left to ExecuTorch's own kernels, which are slow.
        RuntimeFailed: it is no program.
    """
    method = read_pte(path)[0]
    if (method.delegate_calls, method.kernel_calls) != (1, 0):
        raise ExportFailed(
            f"{path.name} is {method.delegate_calls} parts for XNNPACK and {method.kernel_calls} ops "
            "for ExecuTorch's own kernels, not wholly XNNPACK's",
            hint="another version of executorch may delegate more: pip install --upgrade executorch",
        )
