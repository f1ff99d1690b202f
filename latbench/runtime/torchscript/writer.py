"""Write a graph as TorchScript: traced and frozen, fp32 or with PyTorch's quantized operators.

int8 models take and return float32 and quantize inside, like PyTorch's own. PyTorch's x86 kernels add pairs
of products in 16 bits, so activations use 7 of their 8 bits (PyTorch's `reduce_range`); otherwise the scales
are those of the other runtimes.
"""

import io
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latbench.graph.lowering import GraphModule
from latbench.graph.nodes import (
    Activate,
    Activation,
    Add,
    Concat,
    Conv,
    Graph,
    Linear,
    Mul,
    Node,
    Shape,
    Weighted,
)
from latbench.graph.quantize import GATE, INT8_MIN, Quantization, Scale
from latbench.runtime.torchscript.metadata import METADATA_FILE


class _QuantizedModule(nn.Module):
    """A graph built from PyTorch's quantized operators."""

    def __init__(self, graph: Graph, quantization: Quantization) -> None:
        super().__init__()
        self.graph = graph
        self.scales = {name: _unsigned(scale) for name, scale in quantization.scales.items()}
        self.layers = nn.ModuleDict()
        for number, node in enumerate(graph.nodes):
            if isinstance(node, Weighted):
                scale = self.scales[node.output]
                self.layers[str(number)] = _quantized_layer(node, quantization, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map the float32 input to the float32 output."""
        source = self.graph.input
        values = {source: torch.quantize_per_tensor(x, *self.scales[source], torch.quint8)}
        for number, node in enumerate(self.graph.nodes):
            given = [values[name] for name in node.inputs]
            form = _QUANTIZED.get(type(node))
            if isinstance(node, Weighted):
                made = self.layers[str(number)](*given)
                if node.activation is Activation.RELU6:
                    made = nn.functional.relu6(made)
            elif form is not None:
                made = form(node, self.scales[node.output], *given)
            else:
                made = node.compute(*given)  # keeps the scale of its input
            values[node.output] = made
        return values[self.graph.output].dequantize()


def _sum(node: Add, scale: tuple[float, int], one: Tensor, other: Tensor) -> Tensor:
    add = torch.ops.quantized.add
    if node.activation is Activation.RELU:
        add = torch.ops.quantized.add_relu
    made: Tensor = add(one, other, *scale)
    return nn.functional.relu6(made) if node.activation is Activation.RELU6 else made


def _product(node: Mul, scale: tuple[float, int], one: Tensor, other: Tensor) -> Tensor:
    made: Tensor = torch.ops.quantized.mul(one, other, *scale)
    return made


def _concat(node: Concat, scale: tuple[float, int], *given: Tensor) -> Tensor:
    made: Tensor = torch.ops.quantized.cat(list(given), 1, *scale)
    return made


def _activation(node: Activate, scale: tuple[float, int], given: Tensor) -> Tensor:
    """Activations that only limit values keep the scale of their input; hard-sigmoid has one of its own."""
    made: Tensor
    match node.activation:
        case Activation.HARD_SWISH:
            made = torch.ops.quantized.hardswish(given, *scale)
        case Activation.SIGMOID:
            made = torch.ops.quantized.sigmoid(given, *scale)
        case Activation.SILU:
            gate = torch.ops.quantized.sigmoid(given, *_unsigned(GATE))
            made = torch.ops.quantized.mul(given, gate, *scale)
        case _:
            made = node.compute(given)
    return made


_QUANTIZED: dict[type[Node], Callable[..., Tensor]] = {
    Activate: _activation,
    Add: _sum,
    Mul: _product,
    Concat: _concat,
}


def _unsigned(scale: Scale) -> tuple[float, int]:
    """The 7-bit unsigned form of an int8 scale: the same range in half as many steps."""
    return scale.scale * 2, (scale.zero_point - INT8_MIN) // 2


def _quantized_layer(
    node: Weighted, quantization: Quantization, output: tuple[float, int]
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
    ends_with_relu = node.activation is Activation.RELU
    if isinstance(node, Linear):
        kind: Any = fused.LinearReLU if ends_with_relu else quantized.Linear
        layer = kind(*reversed(node.weight.shape))
    elif isinstance(node, Conv):
        kind = fused.ConvReLU2d if ends_with_relu else quantized.Conv2d
        layer = kind(
            node.weight.shape[1] * node.groups,
            len(node.weight),
            node.kernel,
            node.stride,
            node.padding,
            node.dilation,
            node.groups,
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
    return write_module(module, graph.shapes[graph.input], metadata)


def write_module(module: nn.Module, shape: Shape, metadata: dict[str, Any]) -> bytes:
    """The same for a module, traced as it is, in fp32."""
    return trace(module, shape, {METADATA_FILE: json.dumps(metadata, sort_keys=True)})


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
