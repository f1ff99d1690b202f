"""Compare an artifact's outputs with PyTorch's before it may be timed: check numerics."""

import contextlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ExportFailed
from latbench.graph.nodes import Graph
from latbench.graph.quantize import INT8_MAX, INT8_MIN, Quantization, Scale
from latbench.quiet import without_notices
from latbench.runtime.registry import descriptor, load_model
from latbench.target import Precision, Runtime

#: Largest deviation of fp32 from PyTorch, relative to the largest value of the output.
FP32_RELATIVE_ERROR = 1e-4

#: The same for fp16, whose numbers have 11 bits: 1e-3 was measured for ops, and 2e-3 to 2e-2 for untrained
#: networks at 224, since noise adds up as it does in int8.
FP16_ERROR_OP = 1e-2
FP16_ERROR_NETWORK = 1e-1

#: Least signal-to-noise ratio of int8 against fp32, in dB. One op loses little (16 to 38 dB were
#: measured over the space at 224). Over an untrained network the noise of some 60 layers adds up (5 to
#: 21 dB), so the bound there only tells a wrong scale or layout, which gives 0 dB or less, from a
#: right one.
INT8_SNR_OP = 15.0
INT8_SNR_NETWORK = 2.0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What an artifact must compute: one input and PyTorch's eager output for it, NCHW."""

    input: Array
    output: Array


@dataclass(frozen=True)
class Bound:
    """What the error of an artifact may be: the largest relative error, or the least SNR in dB.

    Args:
        precision: floats are held to a relative error, int8 to a signal-to-noise ratio.
        limit: the largest or the least allowed value.
    """

    precision: Precision
    limit: float

    @classmethod
    def of(cls, precision: Precision, *, ops: int) -> "Bound":
        """Return the bound for an artifact of `ops` ops in sequence."""
        if precision is Precision.INT8:
            return cls(precision, INT8_SNR_OP if ops == 1 else INT8_SNR_NETWORK)
        if precision is Precision.FP16:
            return cls(precision, FP16_ERROR_OP if ops == 1 else FP16_ERROR_NETWORK)
        return cls(precision, FP32_RELATIVE_ERROR)

    def holds(self, error: float) -> bool:
        """Whether `error` is within the bound; NaN never is."""
        return error >= self.limit if self.precision is Precision.INT8 else error < self.limit

    def describe(self, error: float) -> str:
        """What `error` is, against the limit."""
        if self.precision is Precision.INT8:
            return f"a signal-to-noise ratio of {error:.1f} dB, limit {self.limit:g} dB"
        return f"a relative error of {error:.1e}, limit {self.limit:.0e}"


def output_error(actual: NDArray[Any], expected: NDArray[Any], precision: Precision) -> float:
    """Return the error of an output against PyTorch's in fp32.

    Returns:
        floats: max |actual - expected| / max |expected|;
        int8: the signal-to-noise ratio 10 log10(mean expected² / mean (actual - expected)²), in dB.

    Raises:
        ValueError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"its output has shape {actual.shape}, PyTorch's {expected.shape}")
    signal = expected.astype(np.float64)
    noise = actual.astype(np.float64) - signal
    if precision is not Precision.INT8:
        return float(np.abs(noise).max() / max(float(np.abs(signal).max()), 1e-12))
    power = max(float((signal**2).mean()), 1e-30)
    return 10 * math.log10(power / max(float((noise**2).mean()), 1e-30))


def check_artifact(
    path: Path,
    runtime: Runtime,
    graph: Graph | None,
    reference: Reference,
    quantization: Quantization | None,
    bound: Bound,
) -> float | None:
    """Check the structure of the artifact at `path`, run it, and return its error against `reference`.

    Args:
        graph: what it was written of; None if the ecosystem's exporter wrote it, in floats.
        quantization: the scales of an int8 artifact; None for floats.
        bound: what its error may be, in its precision.

    Returns:
        What `output_error` returns; None if this machine cannot run it, so that only its structure was
        checked.

    Raises:
        ExportFailed: the file does not load, or the error is beyond its bound.
    """
    described = descriptor(runtime)
    described.check_structure(path, graph)
    if not described.runs_here:
        return None
    with _quiet(described.notices):
        model = load_model(runtime, path)
    given = np.ascontiguousarray(described.from_nchw(reference.input))
    stored = quantization is not None and model.inputs[0].dtype == "int8"
    if stored and quantization is not None and graph is not None:
        model.set_inputs([_quantize(given, quantization.scales[graph.input])])
    else:
        model.set_inputs([given.astype(model.inputs[0].dtype)])
    model.run()
    result = model.get_outputs()[0]
    if stored and quantization is not None and graph is not None:
        result = _dequantize(result, quantization.scales[graph.output])
    try:
        error = output_error(described.to_nchw(result), reference.output, bound.precision)
    except ValueError as differs:
        raise ExportFailed(f"{path.name}: {differs}") from None
    if not bound.holds(error):
        raise ExportFailed(f"{path.name} deviates from PyTorch: {bound.describe(error)}")
    return error


def _quiet(notices: bytes | None) -> contextlib.AbstractContextManager[None]:
    """Drop what an engine prints when it loads a model."""
    if notices is None:
        return contextlib.nullcontext()
    return without_notices(re.compile(notices).match)


def _quantize(value: Array, scale: Scale) -> NDArray[np.int8]:
    stored = np.rint(value / scale.scale) + scale.zero_point
    clipped: NDArray[np.int8] = np.clip(stored, INT8_MIN, INT8_MAX).astype(np.int8)
    return clipped


def _dequantize(stored: Array, scale: Scale) -> Array:
    return ((stored.astype(np.float32) - scale.zero_point) * scale.scale).astype(np.float32)
