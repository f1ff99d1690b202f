"""TorchScript, on PyTorch's JIT interpreter: `.pt`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latbench.runtime.descriptor import Distribution, RunnerEngine, RuntimeDescriptor, Shape
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from torch import nn

    from latbench.graph.nodes import Graph
    from latbench.graph.quantize import Quantization
    from latbench.runtime.base import LoadedModel


class TorchscriptRuntime(RuntimeDescriptor):
    """PyTorch's JIT interpreter. int8 models take and return float32 and quantize inside."""

    runtime = Runtime.TORCHSCRIPT
    module_exporter = "torch.jit.trace"
    title = "TorchScript"
    files = "TorchScript models"
    suffixes = (".pt",)
    int8_dtype = "float32"
    systems = ("android", "linux", "any")
    loads_cheaply = False  # the first runs compile
    kernels = "qnnpack"
    distributions = (Distribution("torch", "torch", ("lib/*torch_cpu.*",)),)
    runner_engine = RunnerEngine(
        "--torchscript",
        plugin="liblatbench-torchscript.so",
        build="latbench runner build --torchscript",
    )
    file_overhead: ClassVar = {Precision.FP32: (495.0, 0.0), Precision.INT8: (950.0, 17.6)}

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.torchscript.metadata import read_metadata

        return read_metadata(path)

    def declares_inputs(self, path: Path) -> bool:
        """Files of another origin do not; a file that is no TorchScript is left to fail when it is loaded."""
        from latbench.runtime.torchscript.metadata import is_torchscript, read_metadata

        return not is_torchscript(path) or bool(read_metadata(path))

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.torchscript.writer import write_torchscript

        return write_torchscript(graph, metadata, quantization)

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        from latbench.runtime.torchscript.writer import write_module

        return write_module(module, shape, metadata)

    def prepare_process(self) -> None:
        """Keep freed memory, which PyTorch's timings depend on."""
        from latbench.runtime.torchscript.model import keep_freed_memory

        keep_freed_memory()

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        from latbench.runtime.torchscript.model import TorchscriptModel

        return TorchscriptModel(path, threads=threads, input_shapes=input_shapes)


DESCRIPTOR = TorchscriptRuntime()
