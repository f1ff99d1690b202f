"""Core ML: packages are written here and measured on iPhones. Extra: `pip install latbench[coreml]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.runtime.descriptor import RuntimeDescriptor
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from latbench.graph.nodes import Graph
    from latbench.graph.quantize import Quantization


class CoremlRuntime(RuntimeDescriptor):
    """Core ML, which no other system than Apple's runs: exports are checked by their structure alone."""

    runtime = Runtime.COREML
    title = "Core ML"
    files = "Core ML packages"
    suffixes = (".mlpackage.tar",)
    precisions = (Precision.FP32, Precision.FP16)
    systems = ("ios",)
    accelerators = ("cpu", "gpu", "npu", "all")
    loads_cheaply = False  # loading compiles the package
    kernels = "coreml"
    extra = "coreml"

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.coreml.metadata import read_metadata

        return read_metadata(path)

    def require_writer(self) -> None:
        from latbench.runtime.coreml.writer import require_coremltools

        require_coremltools()

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.coreml.writer import write_coreml

        return write_coreml(graph, metadata, half=half)

    def check_structure(self, path: Path, graph: "Graph | None") -> None:
        from latbench.runtime.coreml.writer import check_package

        if graph is not None:
            check_package(path, graph)


DESCRIPTOR = CoremlRuntime()
