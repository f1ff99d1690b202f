"""LiteRT, formerly TensorFlow Lite: `.tflite`."""

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


class TfliteRuntime(RuntimeDescriptor):
    """LiteRT with its XNNPACK delegate."""

    runtime = Runtime.TFLITE
    module_exporter = "litert-torch"
    title = "LiteRT"
    files = "TFLite models"
    suffixes = (".tflite",)
    precisions = (Precision.FP32, Precision.FP16, Precision.INT8)
    layout = "NHWC"
    arithmetic: ClassVar = {
        Precision.FP16: "LiteRT computes in fp32 on CPUs: it widens the 16-bit weights when it loads them"
    }
    accelerators = ("cpu", "gpu", "npu", "coreml")  # npu of LiteRT, coreml of TensorFlow Lite
    kernels = "xnnpack"
    distributions = (
        Distribution(
            "ai-edge-litert",
            "ai_edge_litert",
            ("*pywrap_litert_common.*", "_pywrap_*interpreter_wrapper*"),
        ),
        Distribution("tflite-runtime", "tflite_runtime", ("_pywrap_*interpreter_wrapper*",)),
    )
    runner_engine = RunnerEngine(
        "--litert",
        Distribution("ai-edge-litert", "ai_edge_litert", ("libLiteRt.so", "libLiteRt.dylib")),
        version_option="--litert-version",
    )
    notices = rb"INFO: Created TensorFlow Lite XNNPACK delegate"
    file_overhead: ClassVar = {
        Precision.FP32: (365.0, 0.0),
        Precision.FP16: (586.0, -2.0),
        Precision.INT8: (470.0, 24.0),
    }

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.tflite.metadata import read_metadata

        return read_metadata(path)

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.tflite.writer import write_tflite

        return write_tflite(graph, metadata, quantization, half=half)

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        from latbench.runtime.tflite.writer import write_module

        return write_module(module, shape, metadata)

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        from latbench.runtime.tflite.model import TfliteModel

        return TfliteModel(path, threads=threads, input_shapes=input_shapes)


DESCRIPTOR = TfliteRuntime()
