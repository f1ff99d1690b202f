"""The descriptor of a runtime: everything latbench knows of it. Each runtime's folder has a subclass.

Importing a descriptor imports neither NumPy, PyTorch nor an engine; its methods import what they need when
they are called. docs/runtimes.md shows how to add one.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from latbench.errors import BadRequest
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from torch import nn

    from latbench.graph.nodes import Graph
    from latbench.graph.quantize import Quantization
    from latbench.runtime.base import LoadedModel, TensorInfo

#: Operating systems as the device catalogue names them, and as sentences do. "any" is a host's.
_SYSTEMS = {"android": "Android", "ios": "iOS", "linux": "Linux", "any": "this machine"}
EVERYWHERE = tuple(_SYSTEMS)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Distribution:
    """A Python distribution that contains a runtime.

    Args:
        name: what pip calls it.
        package: a module in the folder that `libraries` start from.
        libraries: glob patterns of the library that computes (Linux, macOS, Windows), preferred first.
    """

    name: str
    package: str
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class RunnerEngine:
    """How latbench's runner in C loads a runtime; it has an engine for a few only.

    Args:
        option: the runner's option that names the engine's library.
        wheel: the distribution that contains the library on this machine, None for a plugin.
        version_option: the runner's option for the version, where the library does not report its own.
        plugin: file name of a library that `build` makes, in latbench's home; not for phones.
        build: the command that builds the plugin.
    """

    option: str
    wheel: Distribution | None = None
    version_option: str | None = None
    plugin: str | None = None
    build: str | None = None


class RuntimeDescriptor:
    """What latbench knows of one runtime. A subclass sets the attributes and overrides the methods it needs.

    Attributes:
        runtime: its name.
        title: its name in sentences.
        files: what its model files are called in sentences, plural.
        suffixes: file name suffixes of its models, with the dot; `latbench export` writes the first.
        precisions: those that `latbench export` writes.
        layout: the order of dimensions of 4-D inputs and outputs.
        int8_dtype, fp16_dtype: the dtype of the inputs and outputs of artifacts of that precision.
        arithmetic: by precision, what a CPU computes in where that is not the precision; a sentence.
        declares_scales: whether integer inputs and outputs of a loaded model carry scale and zero point.
        systems: the operating systems it runs on, as the device catalogue names them.
        accelerators: names that `--accelerator` may have; which of them a device has, it reports itself.
        loads_cheaply: whether a model can be loaded anew for every visit: loading and the first runs do
            not compile.
        reloads_alike: whether models run as fast after `reload` as after `load`; runs use it only then.
        kernels: the kernel library on a CPU, as sources of published latencies name it.
        distributions: Python distributions that run it on this machine, preferred first; none if this
            machine cannot run it.
        extra: the extra of latbench that installs it; None if latbench's own dependencies do.
        runner_engine: its engine in latbench's runner in C; None if there is none.
        module_exporter: what `write_module` writes with; None if it cannot.
        notices: pattern of lines that its engine prints to stderr when it loads a model, to be dropped.
        file_overhead: by precision, bytes of an exported file besides weights and biases: per node of the
            graph, and per output channel of a convolution or linear layer (fp16's is negative: its biases
            have 2 bytes less than those of other precisions). Fit them to exports of
            fbnet-cifar at 16x16 and width 0.35; a test exports a network and compares, within 2 %.
    """

    runtime: Runtime
    title: str
    files: str
    suffixes: tuple[str, ...]
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.INT8)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    int8_dtype: str = "int8"
    fp16_dtype: str = "float32"
    arithmetic: ClassVar[Mapping[Precision, str]] = {}
    declares_scales: bool = True
    systems: tuple[str, ...] = EVERYWHERE
    accelerators: tuple[str, ...] = ("cpu",)
    loads_cheaply: bool = True
    reloads_alike: bool = True
    kernels: str
    distributions: tuple[Distribution, ...] = ()
    extra: str | None = None
    runner_engine: RunnerEngine | None = None
    module_exporter: str | None = None
    notices: bytes | None = None
    file_overhead: ClassVar[Mapping[Precision, tuple[float, float]]] = {}

    # Files

    @property
    def suffix(self) -> str:
        """The file name suffix of artifacts, with its dot."""
        return self.suffixes[0]

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return all files that belong to the model at `path`, itself first."""
        return (path,)

    def read_metadata(self, path: Path) -> str | None:
        """Return the JSON text that `write` put into a file; None if there is none.

        Raises:
            Exception: the file is damaged; `latbench.export.metadata` lists what readers raise.
        """
        raise NotImplementedError

    def declares_inputs(self, path: Path) -> bool:
        """Whether the file at `path` contains the shapes of its inputs."""
        return True

    # Tensors

    def shape(self, nchw: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that an NCHW value has in this runtime; other ranks keep theirs."""
        if self.layout == "NHWC" and len(nchw) == 4:
            return (nchw[0], *nchw[2:], nchw[1])
        return tuple(nchw)

    def from_nchw(self, value: Any) -> Any:
        """Return a view of an NCHW array in this runtime's layout; other ranks stay as they are."""
        if self.layout == "NHWC" and value.ndim == 4:
            return value.transpose(0, 2, 3, 1)
        return value

    def to_nchw(self, value: Any) -> Any:
        """Return an NCHW view of an array in this runtime's layout; other ranks stay as they are."""
        if self.layout == "NHWC" and value.ndim == 4:
            return value.transpose(0, 3, 1, 2)
        return value

    def io_dtype(self, precision: Precision) -> str:
        """Return the dtype of the inputs and outputs of artifacts, by its NumPy name."""
        dtypes = {Precision.INT8: self.int8_dtype, Precision.FP16: self.fp16_dtype}
        return dtypes.get(precision, "float32")

    def computes_in(self, precision: Precision, accelerator: str) -> str | None:
        """Return what a model of `precision` is computed in, if it is another one; a sentence."""
        return self.arithmetic.get(precision) if accelerator == "cpu" else None

    # Writing

    def require_format(self, precision: Precision) -> None:
        """Check that artifacts are written in `precision`.

        Raises:
            BadRequest: they are not.
        """
        if precision not in self.precisions:
            *most, last = self.precisions
            written = f"{', '.join(most)} and {last}" if most else last
            raise BadRequest(
                f"{self.files} are exported in {written}, not in {precision}",
                hint=f"add --precision {self.precisions[0]}",
            )

    def require_writer(self) -> None:
        """Check that what writes artifacts is installed.

        Raises:
            ExportFailed: it is not.
        """

    def write(
        self,
        graph: "Graph",
        metadata: dict[str, Any],
        quantization: "Quantization | None",
        *,
        half: bool = False,
    ) -> bytes:
        """Return the bytes of the artifact of `graph`, with inputs and outputs at the graph's batch.

        Args:
            metadata: stored in the file as JSON, for `read_metadata`.
            quantization: the scales of an int8 artifact; None for floats.
            half: whether floats have 16 bits; only where `precisions` include fp16.

        Raises:
            ExportFailed: the graph cannot be written.
        """
        raise NotImplementedError

    def write_module(self, module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
        """Return the bytes of an fp32 artifact of a module without a graph, by the ecosystem's exporter.

        Args:
            module: in eval mode.
            shape: that of its input, NCHW or NC; the artifact's is in this runtime's layout.
            metadata: stored in the file as JSON, for `read_metadata`.

        Raises:
            ExportFailed: the exporter is not installed, or cannot export the module.
        """
        raise NotImplementedError

    def check_structure(self, path: Path, graph: "Graph | None") -> None:
        """Check what can be checked of an artifact without running it.

        Args:
            graph: what it was written of; None if `write_module` wrote it.

        Raises:
            ExportFailed: the file does not hold what `graph` does.
        """

    # Running

    @property
    def runs_on(self) -> str:
        """The systems it runs on, for sentences: 'Android, Linux and this machine'."""
        *most, last = (_SYSTEMS[system] for system in self.systems)
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run it, with the right distribution installed."""
        return bool(self.distributions)

    @property
    def install_command(self) -> str:
        """The command that installs it on this machine."""
        return (
            f"pip install {f'latbench[{self.extra}]' if self.extra else self.distributions[0].name}"
        )

    def prepare_process(self) -> None:
        """Set up a process that will time models, before the first one is loaded."""

    def import_engine(self) -> None:
        """Import the engine, which may take seconds.

        Raises:
            ImportError: it is not installed, or its library cannot be loaded.
        """
        importlib.import_module(f"latbench.runtime.{self.runtime.value}.model")

    def load(
        self, path: Path, *, threads: int, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "LoadedModel":
        """Load a model on the CPU; arguments and errors as `latbench.runtime.registry.load_model`."""
        raise NotImplementedError

    def reload(
        self,
        path: Path,
        prepared: Path,
        *,
        threads: int,
        input_shapes: Sequence[tuple[int, ...]] | None,
    ) -> "LoadedModel":
        """Load a model that is loaded many times in a run, at `prepared` what is computed from its file.

        The first call writes it, later ones read it; by default nothing is prepared. A loaded model must run
        the same kernels, and have its weights in fresh memory, as after `load`. What is missing, damaged or
        cannot be written is no error.

        Args:
            prepared: a path for one model, with these arguments, in this version of the runtime, on this
                machine. Other processes may use it, one at a time.
        """
        return self.load(path, threads=threads, input_shapes=input_shapes)

    def describe(
        self, path: Path, input_shapes: Sequence[tuple[int, ...]] | None
    ) -> "tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]] | None":
        """Return inputs and outputs of a model without its engine; None if only loading shows them."""
        return None
