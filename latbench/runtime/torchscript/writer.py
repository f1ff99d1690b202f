"""Write a graph as TorchScript: traced and frozen, fp32 or with PyTorch's quantized operators.

int8 models take and return float32 and quantize inside, like PyTorch's own. PyTorch's x86 kernels add pairs
of products in 16 bits, so activations use 7 of their 8 bits (PyTorch's `reduce_range`); otherwise the scales
are those of the other runtimes.
"""

import io
import json
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from latbench.graph.lowering import (
    Add,
    Conv,
    Graph,
    GraphModule,
    Linear,
    Pool,
    Shape,
    Shuffle,
    shuffle,
)
from latbench.graph.quantize import INT8_MIN, Quantization, Scale
from latbench.runtime.torchscript.metadata import METADATA_FILE


class _QuantizedModule(nn.Module):
    """A graph built from PyTorch's quantized operators."""

    def __init__(self, graph: Graph, quantization: Quantization) -> None:
        super().__init__()
        self.graph = graph
        self.scales = {name: _unsigned(scale) for name, scale in quantization.scales.items()}
        self.layers = nn.ModuleDict()
        for number, node in enumerate(graph.nodes):
            if isinstance(node, Conv | Linear):
                scale = self.scales[node.output]
                self.layers[str(number)] = _quantized_layer(node, quantization, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map the float32 input to the float32 output."""
        source = self.graph.input
        values = {source: torch.quantize_per_tensor(x, *self.scales[source], torch.quint8)}
        for number, node in enumerate(self.graph.nodes):
            given = values[node.input]
            match node:
                case Conv() | Linear():
                    made = self.layers[str(number)](given)
                case Shuffle():
                    made = shuffle(given, self.graph.shapes[node.input], node.groups)
                case Add():
                    made = torch.ops.quantized.add(
                        given, values[node.other], *self.scales[node.output]
                    )
                case Pool():
                    made = given.mean((2, 3))  # keeps its input's scale
            values[node.output] = made
        return values[self.graph.output].dequantize()


def _unsigned(scale: Scale) -> tuple[float, int]:
    """The 7-bit unsigned form of an int8 scale: the same range in half as many steps."""
    return scale.scale * 2, (scale.zero_point - INT8_MIN) // 2


def _quantized_layer(
    node: Conv | Linear, quantization: Quantization, output: tuple[float, int]
) -> nn.Module:
    from torch.ao.nn import quantized
    from torch.ao.nn.intrinsic import quantized as fused

    integers = quantization.weights(node)
    weight = torch._make_per_channel_quantized_tensor(
        torch.from_numpy(integers.weight),
        torch.from_numpy(integers.scales).double(),
        torch.zeros(len(integers.scales), dtype=torch.long),
        0,
    )
    layer: Any
    if isinstance(node, Linear):
        layer = quantized.Linear(  # type: ignore[no-untyped-call]
            *reversed(node.weight.shape)
        )
    else:
        out_channels, in_channels, kernel, _ = node.weight.shape
        layer = (fused.ConvReLU2d if node.relu else quantized.Conv2d)(  # type: ignore[no-untyped-call]
            in_channels * node.groups,
            out_channels,
            kernel,
            node.stride,
            node.padding,
            groups=node.groups,
        )
    layer.set_weight_bias(weight, torch.from_numpy(node.bias))
    layer.scale, layer.zero_point = output
    made: nn.Module = layer
    return made


def write_torchscript(
    graph: Graph, metadata: dict[str, Any], quantization: Quantization | None
) -> bytes:
    """Return the bytes of the TorchScript archive of `graph`; input and output are float32 NCHW.

    `metadata` is stored in the archive as the extra file `latbench.json`.
    """
    with warnings.catch_warnings():
        # Eager quantization is deprecated; it is what this format needs.
        warnings.simplefilter("ignore")
        module: nn.Module = (
            GraphModule(graph) if quantization is None else _QuantizedModule(graph, quantization)
        )
    extra = {METADATA_FILE: json.dumps(metadata, sort_keys=True)}
    return trace(module, graph.shapes[graph.input], extra)


def trace(module: nn.Module, shape: Shape, extra_files: dict[str, str]) -> bytes:
    """Return `module`, traced with an input of `shape` and frozen, as the bytes of a TorchScript archive."""
    sample = torch.zeros(shape)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module.eval(), sample, check_trace=False
        )
        frozen = torch.jit.freeze(traced)
        buffer = io.BytesIO()
        torch.jit.save(frozen, buffer, _extra_files=extra_files)
    return buffer.getvalue()
