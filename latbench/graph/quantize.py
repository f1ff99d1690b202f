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

from latbench.graph.lowering import GraphModule
from latbench.graph.nodes import GATES, Activate, Graph, Weighted, Weights

INT8_MIN, INT8_MAX = -128, 127


@dataclass(frozen=True)
class Scale:
    """real = scale * (stored - zero_point), stored in int8."""

    scale: float
    zero_point: int


#: That of sigmoid and hard-sigmoid: 0 to 1, as LiteRT's specification and PyTorch fix it.
GATE = Scale(1 / 256, INT8_MIN)


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

    def weights(self, node: Weighted) -> QuantizedWeights:
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

    int8 engines move stored values in a shuffle, a concatenation or a pool, so their inputs and outputs have
    one scale, which covers them all. Gates have `GATE`, so a writer rescales one that joins other values.

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
    gates: set[str] = set()
    for node in graph.nodes:
        made = isinstance(node, Activate) and node.activation in GATES
        if made or (node.moves and gates.issuperset(node.inputs)):
            gates.add(node.output)
    scales: dict[str, Scale] = {}
    for together in _moved_together(graph, gates):
        shared = _scale(min(lows[name] for name in together), max(highs[name] for name in together))
        scales |= dict.fromkeys(together, shared)
    return Quantization(scales | dict.fromkeys(gates, GATE))


def _moved_together(graph: Graph, gates: set[str]) -> list[set[str]]:
    """The values of `graph`, grouped so that those with one scale are in one group."""
    group = {name: {name} for name in (graph.input, *(node.output for node in graph.nodes))}
    for node in graph.nodes:
        if node.moves:
            joined = {node.output}.union(
                *(group[name] for name in node.inputs if name not in gates)
            )
            group |= dict.fromkeys(joined, joined)
    return list({id(one): one for one in group.values()}.values())


def _scale(low: float, high: float) -> Scale:
    """The scale that maps [low, high], which includes 0, onto int8 with 0 exact."""
    scale = max((high - low) / (INT8_MAX - INT8_MIN), 1e-8)
    zero_point = int(np.clip(round(INT8_MIN - low / scale), INT8_MIN, INT8_MAX))
    return Scale(scale, zero_point)
