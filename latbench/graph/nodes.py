"""The nodes of a graph: what each kind holds, and what it computes in PyTorch.

A new kind is one class here, one rule in `latbench.graph.lowering` that makes it, and one entry in the table
of each writer. A writer without an entry refuses the kind by its name (`entry_of`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.errors import ExportFailed

Weights = NDArray[np.float32]
Shape = tuple[int, ...]
Pair = tuple[int, int]


class NoNode(ExportFailed):
    """A module contains something that no node holds."""


class Activation(StrEnum):
    """The functions of one value that nodes may end with, or `Activate` is."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    HARD_SWISH = "hard_swish"
    HARD_SIGMOID = "hard_sigmoid"
    SIGMOID = "sigmoid"
    SILU = "silu"


#: Lower and upper limit of the activations that only limit values; None: no limit. Every format can end a
#: convolution with them, and in int8 they cost nothing, since the scale of the result ends there.
CLAMPS: Mapping[Activation, tuple[float, float | None]] = {
    Activation.RELU: (0.0, None),
    Activation.RELU6: (0.0, 6.0),
}

#: Activations whose results are between 0 and 1 whatever they are given.
GATES = frozenset({Activation.SIGMOID, Activation.HARD_SIGMOID})

_FUNCTIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: torch.relu,
    Activation.RELU6: functional.relu6,
    Activation.HARD_SWISH: functional.hardswish,
    Activation.HARD_SIGMOID: functional.hardsigmoid,
    Activation.SIGMOID: torch.sigmoid,
    Activation.SILU: functional.silu,
}

#: The same, written over their argument.
_IN_PLACE: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: torch.relu_,
    Activation.RELU6: lambda x: functional.relu6(x, inplace=True),
    Activation.HARD_SWISH: lambda x: functional.hardswish(x, inplace=True),
    Activation.HARD_SIGMOID: lambda x: functional.hardsigmoid(x, inplace=True),
    Activation.SIGMOID: torch.sigmoid_,
    Activation.SILU: lambda x: functional.silu(x, inplace=True),
}


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a graph: it computes the value `output` from the values `inputs`.

    `fresh`: its result is new memory, which an activation may write over. `moves`: it only moves or selects
    values, so that in int8 its output must have the scale of its inputs.
    """

    inputs: tuple[str, ...]
    output: str

    fresh: ClassVar[bool] = False
    moves: ClassVar[bool] = False

    @property
    def input(self) -> str:
        """The first of the inputs, for kinds that have one."""
        return self.inputs[0]

    @property
    def parameters(self) -> dict[str, Weights]:
        """The weights by name, in the order that `compute` takes them."""
        return {}

    def compute(self, *given: Tensor) -> Tensor:
        """Return the output from the inputs, followed by the parameters."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Ending(Node):
    """A node that may end with an activation of `CLAMPS`."""

    activation: Activation = Activation.NONE

    fresh: ClassVar[bool] = True

    def ended(self, result: Tensor) -> Tensor:
        """Return `result`, which nothing else refers to, with the activation applied."""
        return _IN_PLACE[self.activation](result)


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighted(Ending):
    """A node with a weight, whose first dimension is that of output channels, and one bias for each."""

    weight: Weights
    bias: Weights

    @property
    def parameters(self) -> dict[str, Weights]:
        """Weight and bias."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Weighted):
    """2D convolution; weight (O, I / groups, height, width), pairs are (vertical, horizontal)."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is convolved separately, with one or more results."""
        return self.groups > 1 and self.weight.shape[1] == 1

    def compute(self, *given: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H', W')."""
        x, weight, bias = given
        return self.ended(
            functional.conv2d(
                x, weight, bias, self.stride, self.padding, self.dilation, groups=self.groups
            )
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Weighted):
    """Fully connected layer; weight (O, I)."""

    def compute(self, *given: Tensor) -> Tensor:
        """(N, I) to (N, O)."""
        return self.ended(functional.linear(*given))


@dataclass(frozen=True, eq=False, kw_only=True)
class Activate(Node):
    """An activation that is not part of another node."""

    activation: Activation
    in_place: bool = False

    def compute(self, *given: Tensor) -> Tensor:
        """Any shape, to the same shape; over the input if nothing else reads that."""
        return (_IN_PLACE if self.in_place else _FUNCTIONS)[self.activation](given[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Ending):
    """Sum of two values; one may be broadcast."""

    def compute(self, *given: Tensor) -> Tensor:
        """The larger of both shapes."""
        return self.ended(given[0] + given[1])


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Node):
    """Product of two values; one may be broadcast, as the gate of squeeze-and-excitation is."""

    fresh: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """The larger of both shapes."""
        return given[0] * given[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Values joined along their channels."""

    fresh: ClassVar[bool] = True
    moves: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """(N, Ci, H, W) each, to (N, sum of Ci, H, W)."""
        return torch.cat(given, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """The channels from `start` to before `stop`."""

    start: int
    stop: int

    moves: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """(N, C, H, W) to (N, stop - start, H, W)."""
        return given[0][:, self.start : self.stop]


@dataclass(frozen=True, eq=False, kw_only=True)
class Shuffle(Node):
    """Channel shuffle over `groups` groups; `shape` is that of input and output."""

    groups: int
    shape: Shape

    moves: ClassVar[bool] = True

    @property
    def split(self) -> Shape:
        """The shape with the channels as groups."""
        n, c, *size = self.shape
        return (n, self.groups, c // self.groups, *size)

    def compute(self, *given: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        # Shapes are Python integers, so that a trace has no shape arithmetic.
        return given[0].reshape(self.split).transpose(1, 2).reshape(self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Node):
    """The maximum or the average of each window; pairs are (vertical, horizontal).

    `counts_padding`: averages count the zeros around the input.
    """

    maximum: bool
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    counts_padding: bool = True

    fresh: ClassVar[bool] = True
    moves: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if self.maximum:
            return functional.max_pool2d(given[0], self.kernel, self.stride, self.padding)
        return functional.avg_pool2d(
            given[0],
            self.kernel,
            self.stride,
            self.padding,
            count_include_pad=self.counts_padding,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalPool(Node):
    """The average of each channel; `flat`: without the height and width of 1."""

    flat: bool = False

    fresh: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1), or to (N, C)."""
        return given[0].mean((2, 3), keepdim=not self.flat)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same values in the same order, NCHW, in another `shape`: (N, C), (N, C, 1, 1) or flattened."""

    shape: Shape

    moves: ClassVar[bool] = True

    def compute(self, *given: Tensor) -> Tensor:
        """Any shape, to `shape`."""
        return given[0].reshape(self.shape)


#: Every kind that `lower` returns.
KINDS: tuple[type[Node], ...] = (
    Conv,
    Linear,
    Activate,
    Add,
    Mul,
    Concat,
    Slice,
    Shuffle,
    Pool,
    GlobalPool,
    Reshape,
)

_Entry = TypeVar("_Entry")


def entry_of(table: Mapping[type[Node], _Entry], node: Node, files: str) -> _Entry:
    """Return the entry of the node's kind in a writer's table.

    Args:
        files: what the writer's files are called, for the message.

    Raises:
        ExportFailed: it has none.
    """
    found = table.get(type(node))
    if found is None:
        kinds = ", ".join(kind.__name__ for kind in table)
        raise ExportFailed(
            f"cannot write {node.output}, a {type(node).__name__} node: {files} are written with "
            f"{kinds} alone",
            hint="choose another --runtime: latbench export --help lists them",
        )
    return found


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order. `shapes` has the shape of every value, NCHW or NC, at the graph's batch."""

    nodes: tuple[Node, ...]
    input: str
    output: str
    shapes: dict[str, Shape]

    @property
    def batch(self) -> int:
        """How many images one run takes."""
        return self.shapes[self.input][0]

    def inputs_of(self, node: Node) -> Sequence[Shape]:
        """The shapes of the node's inputs."""
        return [self.shapes[name] for name in node.inputs]
