"""ExecuTorch with XNNPACK: `.pte`. Extra: `pip install latbench[executorch]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.runtime.descriptor import Distribution, RuntimeDescriptor, Shape
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from torch import nn

    from latbench.graph.nodes import Graph
    from latbench.graph.quantize import Quantization
    from latbench.runtime.base import LoadedModel, TensorInfo


class ExecutorchRuntime(RuntimeDescriptor):
    """ExecuTorch; what XNNPACK does not take whole is refused when it is exported."""

    runtime = Runtime.EXECUTORCH
    module_exporter = "torch.export"
    title = "ExecuTorch"
    files = "ExecuTorch programs"
    suffixes = (".pte",)
    precisions = (Precision.FP32,)
    systems = ("android", "linux", "any")
    kernels = "xnnpack"
    # The package itself is a namespace without a file. XNNPACK computes what we export.
    distributions = (
        Distribution("executorch", "executorch.version", ("lib/*executorch_backend_xnnpack.*",)),
    )
    extra = "executorch"
    notices = rb"\[(cpuinfo_utils|threadpool)\.cpp:\d+\]"

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.executorch.program import METADATA_METHOD, read_pte

        found = [method.constants for method in read_pte(path) if method.name == METADATA_METHOD]
        return found[0][0] if found else None

    def require_writer(self) -> None:
        from latbench.runtime.executorch.writer import require_executorch

        require_executorch()

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.executorch.writer import write_executorch

        return write_executorch(graph, metadata)

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        from latbench.runtime.executorch.writer import write_module

        return write_module(module, shape, metadata)

    def check_structure(self, path: Path, graph: "Graph | None") -> None:
        from latbench.runtime.executorch.writer import require_delegated

        require_delegated(path)

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        from latbench.runtime.executorch.model import ExecutorchModel

        return ExecutorchModel(path, threads=threads, input_shapes=input_shapes)

    def describe(
        self, path: Path, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]":
        """A program declares its inputs and outputs, so the extra is not needed to read them."""
        from latbench.runtime.base import settle_shapes
        from latbench.runtime.executorch.program import read_pte

        method = read_pte(path)[0]
        settle_shapes([tensor.shape for tensor in method.inputs], input_shapes)
        return method.inputs, method.outputs


DESCRIPTOR = ExecutorchRuntime()
