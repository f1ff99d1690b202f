"""Turn ops, architectures and trained modules into artifacts."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latbench._version import __version__
from latbench.errors import ExportFailed
from latbench.export import check
from latbench.export.store import Artifact, ArtifactStore, Recipe
from latbench.files import write_atomically
from latbench.graph.lowering import Graph, lower
from latbench.graph.quantize import Quantization, calibrate
from latbench.runtime.coreml.writer import require_coremltools, write_coreml
from latbench.runtime.executorch.writer import require_executorch, write_executorch
from latbench.runtime.formats import require_format
from latbench.runtime.onnx.writer import write_onnx
from latbench.runtime.tflite.writer import nhwc, write_tflite
from latbench.runtime.torchscript.writer import write_torchscript
from latbench.space.architecture import Architecture
from latbench.space.blocks import build_ops, initialise
from latbench.space.opspec import OpSpec
from latbench.target import Precision, Runtime

#: Part of every recipe: raised when a writer changes what it writes.
EXPORTER = "1"

_CALIBRATION_SAMPLES = 4


def _write_coreml(graph: Graph, metadata: dict[str, Any], _: Quantization | None) -> bytes:
    return write_coreml(graph, metadata)


def _write_executorch(graph: Graph, metadata: dict[str, Any], _: Quantization | None) -> bytes:
    return write_executorch(graph, metadata)


_WRITERS = {
    Runtime.ONNX: write_onnx,
    Runtime.TFLITE: write_tflite,
    Runtime.TORCHSCRIPT: write_torchscript,
    Runtime.COREML: _write_coreml,
    Runtime.EXECUTORCH: _write_executorch,
}


@dataclass(frozen=True)
class Prepared:
    """A module that is ready to be written in any format: its graph, and what it must compute."""

    graph: Graph
    samples: tuple[Tensor, ...]
    reference: check.Reference


def require_writer(runtime: Runtime, precision: Precision) -> None:
    """Make sure that artifacts can be written in a format, before any is.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: it takes an extra that is not installed.
    """
    require_format(runtime, precision)
    if runtime is Runtime.COREML:
        require_coremltools()
    if runtime is Runtime.EXECUTORCH:
        require_executorch()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors are slower on many threads, and the other cores may be measuring."""
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
        samples: inputs (1, C, H, W) or (1, C) of the range that real data has; int8 is calibrated
            on all of them, and the last is what artifacts are checked on.
    """
    with torch.inference_mode():
        output = module(samples[-1])
    reference = check.Reference(samples[-1].numpy(), output.numpy())
    return Prepared(lower(module, tuple(samples[-1].shape)), tuple(samples), reference)


def reproducible_module(ops: Sequence[OpSpec]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return ops in sequence with the weights that their artifact has, and standard normal inputs.

    Both follow from the keys of the ops alone.
    """
    seed = zlib.crc32(" ".join(op.key for op in ops).encode())
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(_CALIBRATION_SAMPLES, *ops[0].input_shape[1:], generator=generator)
    module = build_ops(ops)
    initialise(module, batch, seed=seed)
    return module, torch.split(batch, 1)


@lru_cache(maxsize=2)
def _prepared_ops(ops: tuple[OpSpec, ...]) -> Prepared:
    """Prepare ops in sequence; a bounded cache, since an op's formats are written one after another."""
    return prepare(*reproducible_module(ops))


def write(prepared: Prepared, recipe: Recipe) -> tuple[bytes, Quantization | None]:
    """Return the bytes of the artifact, and the scales it was written with if it is int8."""
    quantization = None
    if recipe.precision is Precision.INT8:
        quantization = calibrate(prepared.graph, prepared.samples)
    graph = prepared.graph
    shapes = graph.shapes[graph.input], graph.shapes[graph.output]
    dtype = "float32"
    if recipe.precision is Precision.INT8 and recipe.runtime is not Runtime.TORCHSCRIPT:
        dtype = "int8"
    layout = nhwc if recipe.runtime is Runtime.TFLITE else tuple
    names = ("input", "output")
    ends = [
        [{"name": name, "shape": list(layout(shape)), "dtype": dtype}]
        for name, shape in zip(names, shapes, strict=True)
    ]
    metadata = recipe.to_dict() | {"inputs": ends[0], "outputs": ends[1], "latbench": __version__}
    return _WRITERS[recipe.runtime](graph, metadata, quantization), quantization


def export_ops(
    ops: Sequence[OpSpec], key: str, runtime: Runtime, precision: Precision, store: ArtifactStore
) -> Artifact:
    """Return the artifact of `ops` in sequence, exporting and checking it if the store lacks it.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: it does not compute what PyTorch computes.
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
        data, quantization = write(prepared, recipe)
        least = check.INT8_SNR_OP if len(ops) == 1 else check.INT8_SNR_NETWORK

        def checked(path: Path) -> float | None:
            return check.check_artifact(
                path, runtime, prepared.graph, prepared.reference, quantization, least_snr=least
            )

        return store.put(recipe, data, checked)


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
    """Yield the artifact of each op in each format, an op's formats one after the other."""
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
        module: the trained module of `architecture`, left in eval mode.
        samples: real inputs, each (1, 3, input, input); int8 is calibrated on them.

    Returns:
        fp32: the relative error; int8: the signal-to-noise ratio in dB; None: this machine cannot run it.

    Raises:
        BadRequest: there is no such format.
        ExportFailed: the file does not compute what PyTorch computes; it is not left behind.
        OutputFailed: `path` cannot be written.
    """
    if not samples:
        raise ExportFailed("an export needs at least one sample to be calibrated and checked on")
    require_writer(runtime, precision)
    macs = architecture.macs
    ops = tuple(op.key for op in architecture.ops)
    recipe = Recipe(str(architecture), ops, runtime, precision, macs, EXPORTER)
    with _one_thread():
        prepared = prepare(module.eval(), samples)
        data, quantization = write(prepared, recipe)
        write_atomically(path, data)
        try:
            return check.check_artifact(
                path,
                runtime,
                prepared.graph,
                prepared.reference,
                quantization,
                least_snr=check.INT8_SNR_NETWORK,
            )
        except ExportFailed:
            path.unlink(missing_ok=True)
            raise
