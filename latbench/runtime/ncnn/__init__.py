"""ncnn: `.ncnn.zip`, and the `.param` and `.bin` of ncnn's own tools. Extra: `pip install latbench[ncnn]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latbench.errors import BadRequest
from latbench.runtime.descriptor import Distribution, RuntimeDescriptor, Shape
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from torch import nn

    from latbench.graph.nodes import Graph
    from latbench.graph.quantize import Quantization
    from latbench.runtime.base import LoadedModel


class NcnnRuntime(RuntimeDescriptor):
    """ncnn on this machine's CPU, in fp32. PyPI's packages contain no tool that writes its int8 models."""

    runtime = Runtime.NCNN
    module_exporter = "pnnx"
    title = "ncnn"
    files = "ncnn models"
    suffixes = (".ncnn.zip", ".param")
    precisions = (Precision.FP32,)
    systems = ("linux", "any")
    kernels = "ncnn"
    distributions = (Distribution("ncnn", "ncnn", ("ncnn.*",)),)
    extra = "ncnn"
    file_overhead: ClassVar = {Precision.FP32: (136.0, 0.0)}

    def parts(self, path: Path) -> tuple[Path, ...]:
        """A `.param` needs the `.bin` of the same name beside it.

        Raises:
            BadRequest: there is none.
        """
        if not path.name.lower().endswith(".param"):
            return (path,)
        weights = path.with_suffix(".bin")
        if path.is_file() and not weights.is_file():
            raise BadRequest(f"{path} needs its weights beside it, but there is no {weights}")
        return (path, weights)

    def read_metadata(self, path: Path) -> str | None:
        from latbench.runtime.ncnn.files import read_metadata

        return read_metadata(path)

    def declares_inputs(self, path: Path) -> bool:
        """Exported files do; a `.param` does where its input layers have sizes, which pnnx leaves out."""
        from latbench.runtime.ncnn.files import declared_shapes

        return declared_shapes(path) is not None

    def require_writer(self) -> None:
        from latbench.runtime.ncnn.writer import require_pnnx

        require_pnnx()

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        from latbench.runtime.ncnn.writer import write_ncnn

        return write_ncnn(graph, metadata)

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        from latbench.runtime.ncnn.writer import write_module

        return write_module(module, shape, metadata)

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        from latbench.runtime.ncnn.model import NcnnModel

        self.parts(path)
        return NcnnModel(path, threads=threads, input_shapes=input_shapes)

    def reload(
        self,
        path: Path,
        prepared: Path,
        *,
        threads: int,
        input_shapes: Sequence[tuple[int, ...]] | None,
    ) -> "LoadedModel":
        """Load the two files of an artifact as they were unpacked at the first load."""
        from latbench.runtime.ncnn.model import NcnnModel

        self.parts(path)
        return NcnnModel(path, threads=threads, input_shapes=input_shapes, prepared=prepared)


DESCRIPTOR = NcnnRuntime()
