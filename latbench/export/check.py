"""Check an artifact against PyTorch before anything may time it."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ExportFailed
from latbench.graph.lowering import Graph
from latbench.graph.quantize import INT8_MAX, INT8_MIN, Quantization, Scale
from latbench.quiet import without_notices
from latbench.runtime.coreml.writer import check_package
from latbench.runtime.executorch.writer import require_delegated
from latbench.runtime.registry import load_model
from latbench.target import Runtime

#: Largest deviation of fp32 from PyTorch, over the largest value of the output.
FP32_RELATIVE_ERROR = 1e-4

#: Least signal-to-noise ratio of int8 against fp32, in dB. One op loses little (16 to 38 dB were
#: measured over the space at 224). Over an untrained network the noise of some 60 layers adds up (5 to
#: 21 dB), so the bound there only tells a wrong scale or layout, which gives 0 dB or less, from a
#: right one.
INT8_SNR_OP = 15.0
INT8_SNR_NETWORK = 2.0

#: What LiteRT says of its delegate, and ExecuTorch of the processor and its threads.
_NOTICE = re.compile(
    rb"INFO: Created TensorFlow Lite XNNPACK delegate|\[(cpuinfo_utils|threadpool)\.cpp:\d+\]"
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What an artifact must compute: one input and PyTorch's eager output for it, NCHW."""

    input: Array
    output: Array


def check_artifact(
    path: Path,
    runtime: Runtime,
    graph: Graph,
    reference: Reference,
    quantization: Quantization | None,
    *,
    least_snr: float = INT8_SNR_OP,
) -> float | None:
    """Run the artifact at `path` and return its error against `reference`.

    Returns:
        fp32: the largest absolute deviation over the largest absolute value of the reference;
        int8: the signal-to-noise ratio in dB;
        None: it is a Core ML package, whose structure alone can be checked.

    Raises:
        ExportFailed: the file does not load, or the error is beyond its bound.
    """
    if runtime is Runtime.COREML:
        check_package(path, graph)
        return None
    if runtime is Runtime.EXECUTORCH:
        require_delegated(path)
    with without_notices(_NOTICE.match):
        model = load_model(runtime, path)
    stored = model.inputs[0].dtype == "int8"
    given = _to_layout(reference.input, runtime)
    if stored and quantization is not None:
        scale = quantization.scales[graph.input]
        model.set_inputs([_quantize(given, scale)])
    else:
        model.set_inputs([given])
    model.run()
    result = model.get_outputs()[0]
    if stored and quantization is not None:
        result = _dequantize(result, quantization.scales[graph.output])
    actual = _from_layout(result, runtime)
    if actual.shape != reference.output.shape:
        raise ExportFailed(
            f"{path.name} gives shape {actual.shape}, but PyTorch {reference.output.shape}"
        )
    noise = actual.astype(np.float64) - reference.output
    if quantization is None:
        error = float(np.abs(noise).max() / max(np.abs(reference.output).max(), 1e-12))
        if not error < FP32_RELATIVE_ERROR:
            raise ExportFailed(
                f"{path.name} deviates from PyTorch by {error:.1e}, "
                f"more than {FP32_RELATIVE_ERROR:.0e}"
            )
        return error
    power = float((reference.output.astype(np.float64) ** 2).mean())
    ratio = 10 * math.log10(max(power, 1e-30) / max(float((noise**2).mean()), 1e-30))
    if not ratio >= least_snr:
        raise ExportFailed(
            f"{path.name} has a signal-to-noise ratio of {ratio:.1f} dB against PyTorch in fp32, "
            f"less than {least_snr:g} dB"
        )
    return ratio


def _to_layout(value: Array, runtime: Runtime) -> Array:
    if runtime is Runtime.TFLITE and value.ndim == 4:
        return np.ascontiguousarray(value.transpose(0, 2, 3, 1))
    return value


def _from_layout(value: Array, runtime: Runtime) -> Array:
    return value.transpose(0, 3, 1, 2) if runtime is Runtime.TFLITE and value.ndim == 4 else value


def _quantize(value: Array, scale: Scale) -> NDArray[np.int8]:
    stored = np.rint(value / scale.scale) + scale.zero_point
    clipped: NDArray[np.int8] = np.clip(stored, INT8_MIN, INT8_MAX).astype(np.int8)
    return clipped


def _dequantize(stored: Array, scale: Scale) -> Array:
    return ((stored.astype(np.float32) - scale.zero_point) * scale.scale).astype(np.float32)
