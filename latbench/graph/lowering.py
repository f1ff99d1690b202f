"""The flat graph that every writer starts from: a module with its BN folded and its ReLUs fused.

A `Graph` is a list of nodes in execution order, each naming its output value. There are five kinds of node,
which is all that the search spaces' networks need. The graph also runs as a PyTorch module: that is how
TorchScript is written and int8 is calibrated.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from latbench.errors import ExportFailed
from latbench.space.blocks import ChannelShuffle

Weights = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """2D convolution with square kernel and symmetric padding; weight (O, I / groups, k, k)."""

    input: str
    output: str
    weight: Weights
    bias: Weights
    stride: int
    padding: int
    groups: int
    relu: bool = False

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved separately."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


@dataclass(frozen=True)
class Shuffle:
    """Channel shuffle over `groups` groups."""

    input: str
    output: str
    groups: int


@dataclass(frozen=True)
class Add:
    """Sum of two values of the same shape."""

    input: str
    other: str
    output: str


@dataclass(frozen=True)
class Pool:
    """Global average pool: (N, C, H, W) to (N, C)."""

    input: str
    output: str


@dataclass(frozen=True)
class Linear:
    """Fully connected layer; weight (O, I)."""

    input: str
    output: str
    weight: Weights
    bias: Weights


Node = Conv | Shuffle | Add | Pool | Linear


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order. `shapes` has the shape of every value, NCHW at batch 1."""

    nodes: tuple[Node, ...]
    input: str
    output: str
    shapes: dict[str, Shape]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ChannelShuffle) or super().is_leaf_module(m, module_qualified_name)


def lower(module: nn.Module, input_shape: Shape) -> Graph:
    """Return the graph of `module` in eval mode, for one input of `input_shape`, NCHW or NC.

    Raises:
        ExportFailed: the module contains something that the graph has no node for.
    """
    traced = _Tracer().trace(module)
    modules = dict(module.named_modules())
    nodes: dict[str, Node] = {}
    convolutions: dict[str, nn.Conv2d] = {}
    alias: dict[str, str] = {}
    graph_input = graph_output = ""
    for node in traced.nodes:
        inputs = [alias.get(source.name, source.name) for source in node.all_input_nodes]
        made = modules[str(node.target)] if node.op == "call_module" else None
        match made:
            case None if node.op == "placeholder":
                graph_input = node.name
            case None if node.op == "output":
                graph_output = inputs[0]
            case None if node.op == "call_function" and node.target is operator.add:
                nodes[node.name] = Add(inputs[0], inputs[-1], node.name)
            case nn.Conv2d():
                convolutions[node.name] = made
                nodes[node.name] = _conv(inputs[0], node.name, made)
            case nn.BatchNorm2d() if inputs[0] in convolutions:
                _only_user(node, traced)
                previous = nodes[inputs[0]]
                fused = fuse_conv_bn_eval(convolutions[inputs[0]], made)
                nodes[inputs[0]] = _conv(previous.input, previous.output, fused)
                alias[node.name] = inputs[0]
            case nn.ReLU() if isinstance(activated := nodes.get(inputs[0]), Conv):
                _only_user(node, traced)
                nodes[inputs[0]] = replace(activated, relu=True)
                alias[node.name] = inputs[0]
            case ChannelShuffle():
                nodes[node.name] = Shuffle(inputs[0], node.name, made.groups)
            case nn.AdaptiveAvgPool2d() if made.output_size in (1, (1, 1)):
                nodes[node.name] = Pool(inputs[0], node.name)
            case nn.Flatten() if isinstance(nodes.get(inputs[0]), Pool):
                alias[node.name] = inputs[0]
            case nn.Linear():
                nodes[node.name] = Linear(
                    inputs[0], node.name, _array(made.weight), _bias(made.bias, made.out_features)
                )
            case _:
                raise ExportFailed(
                    f"cannot export {node.target} ({type(made).__name__}): no graph node for it",
                    hint="export this model with its own framework and time the file: "
                    "latbench measure MODEL",
                )
    return _with_shapes(tuple(nodes.values()), graph_input, graph_output, input_shape)


def _only_user(node: fx.Node, traced: fx.Graph) -> None:
    source = node.all_input_nodes[0]
    if len(source.users) != 1:
        raise ExportFailed(
            f"cannot fuse {node.name} into {source.name}, whose output is used elsewhere"
        )


def _array(tensor: Tensor) -> Weights:
    return tensor.detach().numpy().astype(np.float32)


def _bias(bias: Tensor | None, channels: int) -> Weights:
    return np.zeros(channels, np.float32) if bias is None else _array(bias)


def _conv(source: str, output: str, conv: nn.Conv2d) -> Conv:
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    square = kernel[0] == kernel[1] and stride[0] == stride[1] and conv.dilation == (1, 1)
    if not square or isinstance(padding, str) or padding[0] != padding[1]:
        raise ExportFailed(f"convolutions must be square and undilated, got {conv}")
    return Conv(
        source,
        output,
        _array(conv.weight),
        _bias(conv.bias, conv.out_channels),
        stride[0],
        padding[0],
        conv.groups,
    )


def _with_shapes(nodes: tuple[Node, ...], source: str, output: str, shape: Shape) -> Graph:
    shapes = {source: shape}
    for node in nodes:
        n, c, *size = shapes[node.input]
        match node:
            case Conv():
                kernel = node.weight.shape[-1]
                after = [(side + 2 * node.padding - kernel) // node.stride + 1 for side in size]
                shapes[node.output] = (n, node.weight.shape[0], *after)
            case Linear():
                shapes[node.output] = (n, node.weight.shape[0])
            case Pool():
                shapes[node.output] = (n, c)
            case Shuffle() | Add():
                shapes[node.output] = shapes[node.input]
    return Graph(nodes, source, output, shapes)


class GraphModule(nn.Module):
    """A graph as a module that runs it node by node; weights are buffers, which do not train."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        for number, node in enumerate(graph.nodes):
            if isinstance(node, Conv | Linear):
                self.register_buffer(f"weight{number}", torch.from_numpy(node.weight))
                self.register_buffer(f"bias{number}", torch.from_numpy(node.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the graph's output from its input, both in the graph's shapes."""
        values = {self.graph.input: x}
        for name, value in self.steps(values):
            values[name] = value
        return values[self.graph.output]

    def steps(self, values: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield each value's name and tensor in execution order; the caller adds them to `values`."""
        for number, node in enumerate(self.graph.nodes):
            x = values[node.input]
            match node:
                case Conv():
                    weight = self.get_buffer(f"weight{number}")
                    bias = self.get_buffer(f"bias{number}")
                    y = nn.functional.conv2d(
                        x, weight, bias, node.stride, node.padding, groups=node.groups
                    )
                    yield node.output, torch.relu_(y) if node.relu else y
                case Linear():
                    weight = self.get_buffer(f"weight{number}")
                    yield (
                        node.output,
                        nn.functional.linear(x, weight, self.get_buffer(f"bias{number}")),
                    )
                case Shuffle():
                    yield node.output, shuffle(x, self.graph.shapes[node.input], node.groups)
                case Add():
                    yield node.output, x + values[node.other]
                case Pool():
                    yield node.output, self.pool(x)

    def pool(self, x: Tensor) -> Tensor:
        """The global average; formats that need another form override it."""
        return x.mean((2, 3))


def shuffle(x: Tensor, shape: Shape, groups: int) -> Tensor:
    """Channel shuffle with the shape as Python integers, so that a trace has no shape arithmetic."""
    n, c, h, w = shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)
