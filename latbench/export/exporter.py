"""Turn ops, architectures and trained modules into artifacts."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from latbench._version import __version__
from latbench.errors import ExportFailed
from latbench.export import check
from latbench.export.store import Artifact, ArtifactStore, Recipe
from latbench.files import write_atomically
from latbench.graph.lowering import lower
from latbench.graph.nodes import Graph, NoNode
from latbench.graph.quantize import Quantization, calibrate
from latbench.runtime.registry import descriptor, require_format
from latbench.space.architecture import Architecture
from latbench.space.blocks import build_ops, initialise
from latbench.space.opspec import OpSpec
from latbench.target import Precision, Runtime

#: Part of every recipe; raise it when a writer changes its output.
EXPORTER = "1"

_CALIBRATION_SAMPLES = 4


@dataclass(frozen=True)
class Prepared:
    """A module ready to be written in any format: its graph, calibration samples and reference output.

    `lowered` is its graph, or why it has none.
    """

    module: nn.Module
    lowered: Graph | NoNode
    samples: tuple[Tensor, ...]
    reference: check.Reference

    @property
    def graph(self) -> Graph:
        """Its graph.

        Raises:
            NoNode: it has none.
        """
        if isinstance(self.lowered, NoNode):
            raise self.lowered
        return self.lowered


@dataclass(frozen=True)
class Written:
    """The bytes of an artifact, its scales if it is int8, and what wrote it if latbench did not."""

    data: bytes
    quantization: Quantization | None = None
    by: str | None = None


def require_writer(runtime: Runtime, precision: Precision) -> None:
    """Check that artifacts can be written in a format.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: it needs an extra that is not installed.
    """
    require_format(runtime, precision)
    descriptor(runtime).require_writer()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors are slower on many threads, and other cores may be measuring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare(module: nn.Module, samples: Sequence[Tensor]) -> Prepared:
    """Lower `module` and run it once.

    Args:
        module: in eval mode.
        samples: inputs (N, C, H, W) or (N, C) of one batch N with the range of real data; int8 is
            calibrated on all of them, and artifacts are checked on the last.
    """
    with torch.inference_mode():
        output = module(samples[-1])
    reference = check.Reference(samples[-1].numpy(), output.numpy())
    lowered: Graph | NoNode
    try:
        lowered = lower(module, tuple(samples[-1].shape))
    except NoNode as error:
        lowered = error
    return Prepared(module, lowered, tuple(samples), reference)


def reproducible_module(ops: Sequence[OpSpec]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return ops in sequence with the weights of their artifact, and standard normal inputs.

    Both are determined by the keys of the ops. Inputs have the batch of the first op.
    """
    seed = zlib.crc32(" ".join(op.key for op in ops).encode())
    generator = torch.Generator().manual_seed(seed)
    batch, *shape = ops[0].input_shape
    images = torch.randn(_CALIBRATION_SAMPLES * batch, *shape, generator=generator)
    module = build_ops(ops)
    initialise(module, images, seed=seed)
    return module, torch.split(images, batch)


@lru_cache(maxsize=2)
def _prepared_ops(ops: tuple[OpSpec, ...]) -> Prepared:
    """Prepare ops in sequence; cached, since the formats of an op are written one after another."""
    return prepare(*reproducible_module(ops))


def write(prepared: Prepared, recipe: Recipe) -> Written:
    """Return the artifact; the ecosystem's exporter writes a module that no graph holds, in fp32.

    Raises:
        NoNode: no graph holds the module, and nothing else writes it in this format.
        ExportFailed: the writer or the exporter refuses it.
    """
    described = descriptor(recipe.runtime)
    dtype = described.io_dtype(recipe.precision)
    inputs, outputs = (
        [{"name": name, "shape": list(described.shape(value.shape)), "dtype": dtype}]
        for name, value in (
            ("input", prepared.reference.input),
            ("output", prepared.reference.output),
        )
    )
    metadata = recipe.to_dict() | {"inputs": inputs, "outputs": outputs, "latbench": __version__}
    exporter = described.module_exporter
    other = isinstance(prepared.lowered, NoNode) and recipe.precision is Precision.FP32
    if other and exporter is not None:
        metadata |= {"written_by": exporter}
        shape = prepared.reference.input.shape
        data = described.write_module(prepared.module, shape, metadata)
        return Written(data, by=exporter)
    graph, quantization = prepared.graph, None
    if recipe.precision is Precision.INT8:
        quantization = calibrate(graph, prepared.samples)
    half = recipe.precision is Precision.FP16
    return Written(described.write(graph, metadata, quantization, half=half), quantization)


def export_ops(
    ops: Sequence[OpSpec], key: str, runtime: Runtime, precision: Precision, store: ArtifactStore
) -> Artifact:
    """Return the artifact of `ops` in sequence; if the store lacks it, export it and check its numerics.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: its outputs deviate from PyTorch's.
        OutputFailed: the store cannot be written.
    """
    require_writer(runtime, precision)
    recipe = Recipe(
        key,
        tuple(op.key for op in ops),
        runtime,
        precision,
        sum(op.macs for op in ops),
        EXPORTER,
    )
    known = store.get(recipe)
    if known is not None:
        return known
    with _one_thread():
        prepared = _prepared_ops(tuple(ops))
        written = write(prepared, recipe)

        def checked(path: Path) -> float | None:
            return _checked(path, prepared, written, recipe)

        return store.put(recipe, written.data, checked, written_by=written.by)


def _checked(path: Path, prepared: Prepared, written: Written, recipe: Recipe) -> float | None:
    """The error of the file at `path`; see `latbench.export.check.check_artifact`."""
    return check.check_artifact(
        path,
        recipe.runtime,
        prepared.graph if written.by is None else None,
        prepared.reference,
        written.quantization,
        check.Bound.of(recipe.precision, ops=len(recipe.ops)),
    )


def export_op(op: OpSpec, runtime: Runtime, precision: Precision, store: ArtifactStore) -> Artifact:
    """Return the artifact of one op; see `export_ops`."""
    return export_ops([op], op.key, runtime, precision, store)


def export_architecture(
    architecture: Architecture, runtime: Runtime, precision: Precision, store: ArtifactStore
) -> Artifact:
    """Return the artifact of a whole network with reproducible weights; see `export_ops`."""
    return export_ops(architecture.ops, str(architecture), runtime, precision, store)


def export_space(
    ops: Iterable[OpSpec],
    runtimes: Sequence[Runtime],
    precisions: Sequence[Precision],
    store: ArtifactStore,
) -> Iterator[Artifact]:
    """Yield the artifact of each op in each format, all formats of an op before the next op."""
    for op in ops:
        for runtime in runtimes:
            for precision in precisions:
                yield export_op(op, runtime, precision, store)


def export_module(
    module: nn.Module,
    architecture: Architecture,
    runtime: Runtime,
    precision: Precision,
    path: Path,
    *,
    samples: Sequence[Tensor],
) -> float | None:
    """Write a trained network to `path` and return its error against PyTorch.

    Args:
        module: the trained module of `architecture`; it is left in eval mode.
        samples: real inputs of one batch N, each (N, 3, input, input); int8 is calibrated on them.

    Returns:
        floats: the relative error; int8: the signal-to-noise ratio in dB; None: this machine cannot run it.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: its outputs deviate from PyTorch's; the file is removed.
        OutputFailed: `path` cannot be written.
    """
    if not samples:
        raise ExportFailed("an export needs at least 1 sample for calibration and checks, got 0")
    require_writer(runtime, precision)
    macs = architecture.macs
    ops = tuple(op.key for op in architecture.ops)
    recipe = Recipe(str(architecture), ops, runtime, precision, macs, EXPORTER)
    with _one_thread():
        prepared = prepare(module.eval(), samples)
        written = write(prepared, recipe)
        write_atomically(path, written.data)
        try:
            return _checked(path, prepared, written, recipe)
        except ExportFailed:
            path.unlink(missing_ok=True)
            raise
