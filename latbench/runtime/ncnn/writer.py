"""Write a graph for ncnn: an optional extra, `pip install latbench[ncnn]`.

pnnx, the converter of ncnn's authors, makes it of the TorchScript that latbench writes. It is a program that
prints its passes and leaves 7 files beside its input, so it runs in a temporary folder, its output captured.
"""

import importlib
import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from torch import Tensor, nn

from latbench.errors import ExportFailed
from latbench.graph.lowering import GraphModule
from latbench.graph.nodes import GlobalPool, Graph, Node, Shape
from latbench.runtime.ncnn.files import packed
from latbench.runtime.torchscript.writer import trace


def _pool(node: GlobalPool, x: Tensor) -> Tensor:
    pooled = nn.functional.adaptive_avg_pool2d(x, 1)
    return pooled.flatten(1) if node.flat else pooled


class _PoolingModule(GraphModule):
    """A graph whose averages are poolings: pnnx takes a mean's dimensions for other ones than the batch's."""

    forms: ClassVar[dict[type[Node], Any]] = {GlobalPool: _pool}


def require_pnnx() -> None:
    """Check that ncnn models can be written here.

    Raises:
        ExportFailed: pnnx is not installed.
    """
    if find_spec("pnnx") is None:
        raise ExportFailed(
            "exporting ncnn models needs pnnx, which is not installed",
            hint="pip install latbench[ncnn]",
        )


def write_ncnn(graph: Graph, metadata: dict[str, Any]) -> bytes:
    """Return the artifact of `graph`, fp32; see `latbench.runtime.ncnn.files` for its content.

    The input is the blob `in0` and the output the blob `out0`, of the graph's shapes without the batch.

    Raises:
        ExportFailed: pnnx is not installed, or fails, or the batch is not 1.
    """
    return write_module(_PoolingModule(graph), graph.shapes[graph.input], metadata)


def write_module(module: nn.Module, shape: Shape, metadata: dict[str, Any]) -> bytes:
    """The same for a module."""
    require_pnnx()
    if shape[0] != 1:
        raise ExportFailed(
            f"ncnn's values have no batch, so a model of batch {shape[0]} cannot be written for it",
            hint="use a batch of 1, or another --runtime",
        )
    declared = f"inputshape=[{','.join(map(str, shape))}]f32"
    with TemporaryDirectory(prefix="latbench-pnnx-") as name:
        folder = Path(name)
        (folder / "model.pt").write_bytes(trace(module, shape, {}))
        program = importlib.import_module("pnnx").EXEC_PATH
        done = subprocess.run(
            [program, "model.pt", declared, "fp16=0"],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # other cores may be measuring
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            parts = [
                (folder / part).read_bytes() for part in ("model.ncnn.param", "model.ncnn.bin")
            ]
        except OSError:
            lines = done.stdout.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it printed nothing"
            raise ExportFailed(f"pnnx ended with exit status {done.returncode}: {last}") from None
    return packed(parts[0], parts[1], json.dumps(metadata, sort_keys=True))
