"""ONNX Runtime: `.onnx`."""

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


class OnnxRuntime(RuntimeDescriptor):
    """ONNX Runtime's CPU provider here; on phones also its providers for accelerators."""

    runtime = Runtime.ONNX
    module_exporter = "torch.onnx"
    title = "ONNX Runtime"
    files = "ONNX models"
    suffixes = (".onnx",)
    precisions = (Precision.FP32, Precision.FP16, Precision.INT8)
    fp16_dtype = "float16"
    arithmetic: ClassVar = {
        Precision.FP16: "ONNX Runtime computes in fp32 on x86 CPUs: it has 16-bit kernels for Arm alone"
    }
    declares_scales = (
        False  # they are constants of the first and last node, not of the session's inputs
    )
    #: Whole fp32 networks ran 1.7 % (0.9 to 2.4 %) faster from their kept graph on a Xeon, with the same
    #: kernels in the same order; ops ran alike.
    reloads_alike = False
    accelerators = ("cpu", "xnnpack", "nnapi", "qnn", "coreml")
    kernels = "mlas"
    distributions = (
        Distribution("onnxruntime", "onnxruntime", ("capi/onnxruntime_pybind11_state*",)),
    )
    runner_engine = RunnerEngine(
        "--onnxruntime",
        Distribution(
            "onnxruntime",
            "onnxruntime",
            ("capi/libonnxruntime.so.*", "capi/libonnxruntime.*.dylib"),
        ),
    )
    file_overhead: ClassVar = {
        Precision.FP32: (485.0, 0.0),
        Precision.FP16: (485.0, -2.0),
        Precision.INT8: (1730.0, 13.5),
    }

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.onnx.metadata import read_metadata

        return read_metadata(path)

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.onnx.writer import write_onnx

        return write_onnx(graph, metadata, quantization, half=half)

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        from latbench.runtime.onnx.writer import write_module

        return write_module(module, shape, metadata)

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        from latbench.runtime.onnx.model import OnnxModel

        return OnnxModel(path, threads=threads, input_shapes=input_shapes)

    def reload(
        self,
        path: Path,
        prepared: Path,
        *,
        threads: int,
        input_shapes: Sequence[tuple[int, ...]] | None,
    ) -> "LoadedModel":
        """Load the graph as ONNX Runtime optimised it at the first load."""
        from latbench.runtime.onnx.model import OnnxModel

        return OnnxModel(path, threads=threads, input_shapes=input_shapes, prepared=prepared)


DESCRIPTOR = OnnxRuntime()
