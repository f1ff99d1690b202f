"""Full-integer quantization of a graph: one calibration, the same scales in every runtime.

Activations are int8, asymmetric, per value; weights int8, symmetric, per output channel; biases int32 with
scale = input scale * weight scale. These are the rules of LiteRT's 8-bit quantization specification. ONNX's
QuantizeLinear and PyTorch's quantized modules can express them too, so all three runtimes use one set of
scales and their latencies are those of the same network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latbench.graph.lowering import Conv, Graph, GraphModule, Linear, Weights

INT8_MIN, INT8_MAX = -128, 127


@dataclass(frozen=True)
class Scale:
    """real = scale * (stored - zero_point), stored in int8."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantizedWeights:
    """int8 weights with one scale per output channel, and their int32 bias."""

    weight: NDArray[np.int8]
    scales: Weights
    bias: NDArray[np.int32]
    bias_scales: Weights


@dataclass(frozen=True)
class Quantization:
    """The scale of every value of a graph."""

    scales: dict[str, Scale]

    def weights(self, node: Conv | Linear) -> QuantizedWeights:
        """Return the node's weights and bias as integers."""
        flat = np.abs(node.weight).reshape(len(node.weight), -1).max(axis=1)
        scales = np.maximum(flat / INT8_MAX, 1e-8).astype(np.float32)
        column = scales.reshape(-1, *[1] * (node.weight.ndim - 1))
        weight = np.clip(np.rint(node.weight / column), -INT8_MAX, INT8_MAX).astype(np.int8)
        bias_scales = (scales * np.float32(self.scales[node.input].scale)).astype(np.float32)
        bias = np.clip(np.rint(node.bias / bias_scales), -(2**31) + 1, 2**31 - 1)
        return QuantizedWeights(weight, scales, bias.astype(np.int32), bias_scales)


def calibrate(graph: Graph, samples: Sequence[Tensor]) -> Quantization:
    """Return scales that cover the range of every value of `graph` over `samples`.

    int8 engines move stored values in a shuffle, so its output must have the scale of its input; it does,
    since both have the same values.

    Args:
        samples: inputs of the graph's input shape, with the range of real data.
    """
    module = GraphModule(graph)
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}

    def observe(name: str, value: Tensor) -> None:
        lows[name] = min(lows.get(name, 0.0), value.min().item())
        highs[name] = max(highs.get(name, 0.0), value.max().item())

    with torch.inference_mode():
        for sample in samples:
            values = {graph.input: sample}
            observe(graph.input, sample)
            for name, value in module.steps(values):
                values[name] = value
                observe(name, value)
    return Quantization({name: _scale(lows[name], highs[name]) for name in lows})


def _scale(low: float, high: float) -> Scale:
    """The scale that maps [low, high], which includes 0, onto int8 with 0 exact."""
    scale = max((high - low) / (INT8_MAX - INT8_MIN), 1e-8)
    zero_point = int(np.clip(round(INT8_MIN - low / scale), INT8_MIN, INT8_MAX))
    return Scale(scale, zero_point)
