"""Lower a module to the flat graph that every writer starts from.

The module runs once, and PyTorch's own dispatcher tells which tensor functions it runs (`_Recorder`): whether
a block calls a module, a function, a method or an operator, few kinds of calls arrive here. Each becomes a
node (`_RULES`). Then passes join nodes, as the runtimes do: they fold BN and scalings into convolutions, find
activations and channel shuffles that are written out, and let convolutions and sums end with their ReLUs.
The graph also runs as a PyTorch module: that is how TorchScript is written and int8 is calibrated.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from latbench.errors import ExportFailed
from latbench.graph.nodes import (
    CLAMPS,
    KINDS,
    Activate,
    Activation,
    Add,
    Concat,
    Conv,
    Ending,
    GlobalPool,
    Graph,
    Linear,
    Mul,
    Node,
    NoNode,
    Pool,
    Reshape,
    Shape,
    Shuffle,
    Slice,
    Weights,
)

_aten = torch.ops.aten

#: Names of values that writers give to their ends.
_RESERVED = ("input", "output")


_NO_NODE = "a value is read that no node holds: a second result, or one written over through a view"


# Nodes that passes turn into others. A graph never holds them.


@dataclass(frozen=True, eq=False, kw_only=True)
class _Affine(Node):
    """Each channel times a factor, plus an offset: BN, or arithmetic with constants."""

    factor: Weights  # of one value, or of one a channel
    offset: Weights

    @property
    def scalar(self) -> tuple[float, float] | None:
        """Factor and offset, if they are the same for all channels."""
        if self.factor.size > 1 or self.offset.size > 1:
            return None
        return float(self.factor.item()), float(self.offset.item())


@dataclass(frozen=True, eq=False, kw_only=True)
class _Permute(Node):
    """Dimensions in another order."""

    order: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mean(Node):
    """Averages over some dimensions."""

    dims: tuple[int, ...]
    keeps: bool


# Recording


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns the tensor functions that run while it is active into nodes, each result named by its module."""

    def __init__(self, module: nn.Module, given: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._running: list[nn.Module] = []
        self._names: dict[int, str] = {}
        self._kept: list[
            Tensor
        ] = []  # so that no other tensor gets an identity or a memory of these
        self._unknown: set[int] = set()
        self._taken = set(_RESERVED)
        self.input = self.named(given, "input")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler, for seconds, to keep it away from a recorder."""
        return False

    def record(self, module: nn.Module, given: Tensor) -> Any:
        """Run `module` on `given` and return what it returns."""

        # The hooks are those of all modules: other threads may run some that are not part of this one.
        def enter(entered: nn.Module, _: Any) -> None:
            if id(entered) in self._paths:
                self._running.append(entered)

        def leave(left: nn.Module, *_: Any) -> None:
            if id(left) in self._paths:
                self._running.pop()

        hooks = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            with torch.no_grad(), self:
                return module(given)
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [part for part in _flat((args, kwargs)) if isinstance(part, Tensor)]
        if not any(id(tensor) in self._names for tensor in given):
            return result  # of constants alone
        if any(id(tensor) in self._unknown for tensor in given):
            raise self.refused(func, _NO_NODE)
        rule = _RULES.get(func.overloadpacket)
        if rule is None:
            raise self.refused(func, "no graph node for it")
        _Call(self, func, args, kwargs, result).follow(rule)
        return result

    def refused(self, func: Any, reason: str) -> NoNode:
        """The error for a call, which it names with the module that it is in."""
        running = [(self._paths.get(id(part), ""), type(part).__name__) for part in self._running]
        path, kind = running[-1] if running else ("", "")
        place = f"{path or 'the module'} ({kind})" if kind else "the module"
        return NoNode(
            f"cannot export {place}, which calls {func.overloadpacket}: {reason}",
            hint="export this model with its own framework and time the file: latbench measure MODEL",
        )

    def name_of(self, tensor: Tensor) -> str | None:
        """The name of a recorded tensor; None for a constant."""
        return self._names.get(id(tensor))

    def output_of(self, result: Any) -> str:
        """The name of what the module returned.

        Raises:
            ExportFailed: it is not one tensor that a node made.
        """
        name = self.name_of(result) if isinstance(result, Tensor) else None
        if name is None:
            raise ExportFailed(
                "cannot export the module: it must return one tensor that depends on its input"
            )
        if id(result) in self._unknown:
            raise NoNode(f"cannot export the module: {_NO_NODE}")
        if name == self.input:
            raise ExportFailed("cannot export the module: it returns its input")
        return name

    def fresh_name(self, func: Any) -> str:
        """A new name: that of the innermost module if it has no parts, otherwise the function's."""
        part = self._running[-1] if self._running else None
        inner = part is not None and next(part.children(), None) is None
        path = self._paths.get(id(part), "") if inner else ""
        return self._unique(path or func.overloadpacket.__name__.rstrip("_"))

    def _unique(self, wanted: str) -> str:
        name = re.sub(r"\W+", "_", wanted, flags=re.ASCII)
        name = f"_{name}" if name[0].isdigit() else name
        number, found = 0, name
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found

    def named(self, tensor: Tensor, wanted: str) -> str:
        """Name a tensor."""
        name = self._unique(wanted)
        self.bind(tensor, name)
        return name

    def bind(self, tensor: Tensor, name: str) -> None:
        """Let `tensor` be the value `name`."""
        self._names[id(tensor)] = name
        self._unknown.discard(id(tensor))
        self.shapes.setdefault(name, tuple(tensor.shape))
        self._kept.append(tensor)

    def forget(self, tensor: Tensor) -> None:
        """Let `tensor` be a value that no node holds, so that nothing may read it."""
        self._names.setdefault(id(tensor), "")
        self._unknown.add(id(tensor))
        self._kept.append(tensor)

    def written_over(self, tensor: Tensor) -> None:
        """Note that `tensor` got new values: other tensors of its memory have other ones than recorded."""
        memory = tensor.untyped_storage().data_ptr()
        for other in list(self._kept):
            if other is not tensor and other.untyped_storage().data_ptr() == memory:
                self.forget(other)


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        yield from _flat(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _flat(value)
    else:
        yield values


class _Call:
    """A call of a tensor function that is being recorded."""

    def __init__(
        self, recorder: _Recorder, func: Any, args: Sequence[Any], kwargs: Any, result: Any
    ) -> None:
        self.recorder, self.func, self.result = recorder, func, result
        names = [argument.name for argument in func._schema.arguments]
        defaults = {argument.name: argument.default_value for argument in func._schema.arguments}
        self.arguments: dict[str, Any] = defaults | dict(zip(names, args, strict=False)) | kwargs

    def follow(self, rule: "Callable[[_Call], Node | None]") -> None:
        """Record what `rule` makes of the call: a node, or None if the rule did all."""
        node = rule(self)
        if node is not None:
            result, *others = self.result if isinstance(self.result, tuple) else [self.result]
            self.add(node, result)
            for other in others:
                self.recorder.forget(other)

    def add(self, node: Node, result: Tensor) -> None:
        """Record `node`, which computes `result`."""
        if self.func._schema.name.endswith("_"):
            self.recorder.written_over(result)
        self.recorder.nodes.append(node)
        self.recorder.bind(result, node.output)

    def alias(self) -> None:
        """Let the result be the value that was given."""
        self.recorder.bind(self.result, self.broadcast("self"))

    def new(self) -> str:
        """A name for the result."""
        return self.recorder.fresh_name(self.func)

    def value(self, argument: str) -> str:
        """The name of the value of an argument."""
        name = self.broadcast(argument)
        self.require(
            self.shape(argument) == self.recorder.shapes[name], "it reads an expanded value"
        )
        return name

    def broadcast(self, argument: str) -> str:
        """The same for a function that broadcasts: the tensor may be an expanded form of the value."""
        name = self.recorder.name_of(self.arguments[argument])
        if name is None:
            raise self.refused(f"its {argument} is a constant")
        return name

    def pair_of_values(self) -> tuple[str, str]:
        """The names of the two values of a sum or a product."""
        names = self.broadcast("self"), self.broadcast("other")
        made = np.broadcast_shapes(*(self.recorder.shapes[name] for name in names))
        self.require(made == tuple(self.result.shape), "it reads an expanded value")
        return names

    def shape(self, argument: str = "self") -> Shape:
        """The shape of an argument."""
        return tuple(self.arguments[argument].shape)

    def constant(self, argument: str) -> Weights | None:
        """The values of an argument that does not depend on the input; None if it does."""
        given = self.arguments[argument]
        if isinstance(given, Tensor):
            if self.recorder.name_of(given) is not None:
                return None
            return _array(given)
        return np.array(given, np.float32)

    def pair(self, argument: str, default: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """Two integers, for which one may stand."""
        given = [int(number) for number in self.arguments[argument] or ()]
        if not given:
            return default
        return (given[0], given[-1])

    def require(self, condition: bool, reason: str) -> None:
        """Raise `ExportFailed` with the reason unless the condition holds."""
        if not condition:
            raise self.refused(reason)

    def refused(self, reason: str) -> NoNode:
        return self.recorder.refused(self.func, reason)


def _array(tensor: Tensor) -> Weights:
    return tensor.detach().numpy().astype(np.float32)


# Rules: one for each function, or for each family of them


def _convolution(call: _Call) -> Node:
    call.require(not call.arguments["transposed"], "transposed convolutions have no node")
    call.require(len(call.shape("input")) == 4, "only 2-D convolutions have a node")
    weight = call.constant("weight")
    call.require(weight is not None, "its weight depends on the input")
    assert weight is not None
    return Conv(
        (call.value("input"),),
        call.new(),
        weight=weight,
        bias=_bias(call, len(weight)),
        stride=call.pair("stride"),
        padding=call.pair("padding"),
        dilation=call.pair("dilation"),
        groups=int(call.arguments["groups"]),
    )


def _bias(call: _Call, channels: int, argument: str = "bias") -> Weights:
    if call.arguments[argument] is None:
        return np.zeros(channels, np.float32)
    bias = call.constant(argument)
    call.require(bias is not None, "its bias depends on the input")
    assert bias is not None
    return bias


def _norm(call: _Call) -> Node:
    if call.arguments.get("training"):
        raise ExportFailed("cannot export BN in training mode", hint="call module.eval() before")
    given = call.arguments
    mean, variance = given["running_mean"], given["running_var"]
    # In the order of PyTorch's own folding, so that the results are the same to the bit.
    root = torch.rsqrt(variance + given["eps"])
    factor = root if given["weight"] is None else given["weight"] * root
    offset = -mean * factor if given["weight"] is None else -mean * root * given["weight"]
    if given["bias"] is not None:
        offset = offset + given["bias"]
    return _Affine((call.value("input"),), call.new(), factor=_array(factor), offset=_array(offset))


def _addmm(call: _Call) -> Node:
    weight = call.constant("mat2")
    call.require(weight is not None, "its weight depends on the input")
    assert weight is not None
    call.require(call.arguments["alpha"] == call.arguments["beta"] == 1, "it scales its terms")
    bias = _bias(call, weight.shape[1], "self")
    return Linear(
        (call.value("mat1"),),
        call.new(),
        weight=np.ascontiguousarray(weight.T),
        bias=np.broadcast_to(bias, weight.shape[1:]).copy(),
    )


def _mm(call: _Call) -> Node:
    weight = call.constant("mat2")
    call.require(weight is not None, "its weight depends on the input")
    assert weight is not None
    bias = np.zeros(weight.shape[1], np.float32)
    weight = np.ascontiguousarray(weight.T)
    return Linear((call.value("self"),), call.new(), weight=weight, bias=bias)


def _activation(kind: Activation) -> Callable[[_Call], Node]:
    def rule(call: _Call) -> Node:
        return Activate((call.value("self"),), call.new(), activation=kind)

    return rule


def _limits(low: str, high: str) -> Callable[[_Call], Node]:
    """The rule of a function with limits, which must be those of ReLU or ReLU6."""

    def rule(call: _Call) -> Node:
        limits = call.arguments.get(low), call.arguments.get(high)
        kind = next((kind for kind, known in CLAMPS.items() if limits == known), None)
        call.require(kind is not None, f"limits of {limits[0]} and {limits[1]} have no node")
        assert kind is not None
        return Activate((call.value("self"),), call.new(), activation=kind)

    return rule


def _sum(sign: int) -> Callable[[_Call], Node]:
    def rule(call: _Call) -> Node:
        call.require(call.arguments.get("alpha", 1) == 1, "it scales a term")
        one, other = call.constant("self"), call.constant("other")
        if one is None and other is None:
            call.require(sign > 0, "differences of two values have no node")
            return Add(call.pair_of_values(), call.new())
        if one is not None:
            return _affine(call, "other", np.float32(sign), one)
        assert other is not None
        return _affine(call, "self", np.float32(1), sign * other)

    return rule


def _product(call: _Call) -> Node:
    one, other = call.constant("self"), call.constant("other")
    if one is None and other is None:
        return Mul(call.pair_of_values(), call.new())
    if one is not None:
        return _affine(call, "other", one, np.float32(0))
    assert other is not None
    return _affine(call, "self", other, np.float32(0))


def _quotient(call: _Call) -> Node:
    other = call.constant("other")
    call.require(call.arguments.get("rounding_mode") is None, "it rounds")
    call.require(other is not None, "quotients of two values have no node")
    assert other is not None
    return _affine(call, "self", np.float32(1) / other, np.float32(0))


def _affine(call: _Call, argument: str, factor: Any, offset: Any) -> Node:
    """The node that scales a value; constants must be scalars, or one value a channel."""
    shape = call.shape(argument)
    call.require(tuple(call.result.shape) == shape, "a constant of more dimensions has no node")
    channels = shape[1] if len(shape) > 1 else 1
    parts = [np.asarray(part, np.float32) for part in (factor, offset)]
    for part in parts:
        wide = part.reshape((1,) * (len(shape) - part.ndim) + part.shape)
        call.require(
            part.size == 1 or (part.size == channels and wide.shape[1] == channels),
            f"a constant of shape {part.shape} has no node",
        )
    flat = [part.reshape(-1) for part in parts]
    return _Affine((call.value(argument),), call.new(), factor=flat[0], offset=flat[1])


def _concat(call: _Call) -> Node:
    tensors = call.arguments["tensors"]
    call.require(call.arguments["dim"] in (1, 1 - tensors[0].ndim), "only channels can be joined")
    names = [call.recorder.name_of(tensor) or "" for tensor in tensors]
    known = [call.recorder.shapes.get(name) for name in names]
    call.require(
        known == [tuple(tensor.shape) for tensor in tensors],
        "it joins a constant or an expanded value",
    )
    return Concat(tuple(names), call.new())


def _split(call: _Call) -> None:
    """Each part of a split is a node."""
    start = 0
    dim = call.arguments["dim"]
    call.require(dim in (1, 1 - len(call.shape())), "only channels can be split")
    for part in call.result:
        stop = start + part.shape[1]
        call.add(Slice((call.value("self"),), call.new(), start=start, stop=stop), part)
        start = stop


def _slice(call: _Call) -> Node | None:
    given = call.shape()
    if tuple(call.result.shape) == given:
        call.alias()
        return None
    call.require(call.arguments["dim"] in (1, 1 - len(given)), "only channels can be selected")
    call.require(call.arguments["step"] == 1, "only consecutive channels can be selected")
    start = int(call.arguments["start"] or 0)
    start += given[1] if start < 0 else 0
    stop = start + call.result.shape[1]
    return Slice((call.value("self"),), call.new(), start=start, stop=stop)


def _view(call: _Call) -> Node | None:
    shape = tuple(call.result.shape)
    if shape == call.shape():
        call.alias()
        return None
    return Reshape((call.value("self"),), call.new(), shape=shape)


def _expand(call: _Call) -> None:
    """Sums and products broadcast by themselves, and nothing else takes an expanded value."""
    call.alias()


def _transpose(call: _Call) -> Node:
    order = list(range(len(call.shape())))
    one, other = call.arguments["dim0"], call.arguments["dim1"]
    order[one], order[other] = order[other], order[one]
    return _Permute((call.value("self"),), call.new(), order=tuple(order))


def _permute(call: _Call) -> Node:
    order = tuple(dim % len(call.shape()) for dim in call.arguments["dims"])
    return _Permute((call.value("self"),), call.new(), order=order)


def _mean(call: _Call) -> Node:
    rank = len(call.shape())
    dims = tuple(sorted(dim % rank for dim in call.arguments["dim"]))
    keeps = bool(call.arguments["keepdim"])
    if rank == 4 and dims == (2, 3):
        return GlobalPool((call.value("self"),), call.new(), flat=not keeps)
    return _Mean((call.value("self"),), call.new(), dims=dims, keeps=keeps)


def _pool(call: _Call) -> Node:
    maximum = call.func.overloadpacket is _aten.max_pool2d_with_indices
    kernel = call.pair("kernel_size")
    node = Pool(
        (call.value("self"),),
        call.new(),
        maximum=maximum,
        kernel=kernel,
        stride=call.pair("stride", kernel),
        padding=call.pair("padding"),
        counts_padding=bool(call.arguments.get("count_include_pad", True)),
    )
    call.require(call.arguments.get("divisor_override") is None, "it has another divisor")
    call.require(
        not maximum or call.pair("dilation", (1, 1)) == (1, 1), "dilated pools have no node"
    )
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    whole = tuple(
        (side + 2 * padding - kernel) // stride + 1
        for side, padding, kernel, stride in zip(
            call.shape()[2:], node.padding, node.kernel, node.stride, strict=True
        )
    )
    call.require(whole == tuple(result.shape[2:]), "its last windows are cut off (ceil_mode)")
    return node


def _adaptive(call: _Call) -> Node:
    before, after = call.shape()[-2:], tuple(map(int, call.arguments["output_size"]))
    call.require(
        all(side % parts == 0 for side, parts in zip(before, after, strict=True)),
        f"{before} values cannot be pooled into {after} windows of one size",
    )
    window = (before[0] // after[0], before[1] // after[1])
    maximum = call.func.overloadpacket is _aten.adaptive_max_pool2d
    return Pool((call.value("self"),), call.new(), maximum=maximum, kernel=window, stride=window)


_Rule = Callable[[_Call], Node | None]

_RULES: dict[Any, _Rule] = {
    _aten.convolution: _convolution,
    _aten.native_batch_norm: _norm,
    _aten._native_batch_norm_legit_no_training: _norm,
    _aten.addmm: _addmm,
    _aten.mm: _mm,
    _aten.relu: _activation(Activation.RELU),
    _aten.relu_: _activation(Activation.RELU),
    _aten.hardswish: _activation(Activation.HARD_SWISH),
    _aten.hardswish_: _activation(Activation.HARD_SWISH),
    _aten.hardsigmoid: _activation(Activation.HARD_SIGMOID),
    _aten.hardsigmoid_: _activation(Activation.HARD_SIGMOID),
    _aten.sigmoid: _activation(Activation.SIGMOID),
    _aten.sigmoid_: _activation(Activation.SIGMOID),
    _aten.silu: _activation(Activation.SILU),
    _aten.silu_: _activation(Activation.SILU),
    _aten.hardtanh: _limits("min_val", "max_val"),
    _aten.hardtanh_: _limits("min_val", "max_val"),
    _aten.clamp: _limits("min", "max"),
    _aten.clamp_: _limits("min", "max"),
    _aten.clamp_min: _limits("min", "max"),
    _aten.clamp_min_: _limits("min", "max"),
    _aten.add: _sum(1),
    _aten.add_: _sum(1),
    _aten.sub: _sum(-1),
    _aten.sub_: _sum(-1),
    _aten.mul: _product,
    _aten.mul_: _product,
    _aten.div: _quotient,
    _aten.div_: _quotient,
    _aten.cat: _concat,
    _aten.split: _split,
    _aten.split_with_sizes: _split,
    _aten.slice: _slice,
    _aten.view: _view,
    _aten._unsafe_view: _view,
    _aten._reshape_alias: _view,
    _aten.unsqueeze: _view,
    _aten.squeeze: _view,
    _aten.expand: _expand,
    _aten.alias: _Call.alias,
    _aten.clone: _Call.alias,
    _aten.detach: _Call.alias,
    _aten.transpose: _transpose,
    _aten.permute: _permute,
    _aten.mean: _mean,
    _aten.max_pool2d_with_indices: _pool,
    _aten.avg_pool2d: _pool,
    _aten._adaptive_avg_pool2d: _adaptive,
    _aten.adaptive_max_pool2d: _adaptive,
}


# Passes


class _Draft:
    """Nodes that passes change, by the name of their output, in execution order."""

    def __init__(self, recorder: _Recorder, output: str) -> None:
        self.nodes = {node.output: node for node in recorder.nodes}
        self.shapes, self.output = recorder.shapes, output
        self.prune()

    def prune(self) -> None:
        """Drop nodes that the output does not depend on."""
        needed = {self.output}
        for node in reversed(self.nodes.values()):
            if node.output in needed:
                needed.update(node.inputs)
        self.nodes = {name: node for name, node in self.nodes.items() if name in needed}

    def maker(self, name: str) -> Node | None:
        """The node that makes a value, if nothing but one node reads it."""
        readers = sum(node.inputs.count(name) for node in self.nodes.values())
        return self.nodes.get(name) if readers == 1 and name != self.output else None

    def join(self, last: Node, joined: Node) -> None:
        """Let `joined` stand for the nodes from the one of its name to `last`."""
        self.shapes[joined.output] = self.shapes[last.output]
        del self.nodes[last.output]
        self.nodes[joined.output] = joined
        self.rename(last.output, joined.output)

    def rename(self, value: str, other: str) -> None:
        """Let all that reads `value` read `other`."""
        for name, node in self.nodes.items():
            if value in node.inputs:
                inputs = tuple(other if given == value else given for given in node.inputs)
                self.nodes[name] = replace(node, inputs=inputs)
        if self.output == value:
            self.output = other


def _find_activations(draft: _Draft) -> None:
    """Find hard-sigmoid, hard-swish and SiLU where a module writes them out, such as x * relu6(x + 3) / 6."""
    for name, node in draft.nodes.items():
        found = _written_out(draft, node)
        if found is not None:
            draft.nodes[name] = Activate((found[1],), name, activation=found[0])
    draft.prune()


def _written_out(draft: _Draft, node: Node) -> tuple[Activation, str] | None:
    """The activation that ends with `node`, and its input."""
    if isinstance(node, _Affine) and _is(node, 1 / 6, 0):
        inner = draft.maker(node.input)
        source = _limited_shift(draft, inner)
        if source is not None:
            return Activation.HARD_SIGMOID, source
        if isinstance(inner, Mul):
            for x, gate in (inner.inputs, inner.inputs[::-1]):
                if _limited_shift(draft, draft.maker(gate)) == x:
                    return Activation.HARD_SWISH, x
    if isinstance(node, Mul):
        for x, other in (node.inputs, node.inputs[::-1]):
            gating = draft.maker(other)
            if isinstance(gating, Activate) and gating.input == x:
                whole = _GATED_BY_ITSELF.get(gating.activation)
                if whole is not None:
                    return whole, x
    return None


#: What x * f(x) is, by f.
_GATED_BY_ITSELF = {
    Activation.HARD_SIGMOID: Activation.HARD_SWISH,
    Activation.SIGMOID: Activation.SILU,
}


def _limited_shift(draft: _Draft, node: Node | None) -> str | None:
    """x, if `node` is relu6(x + 3)."""
    if isinstance(node, Activate) and node.activation is Activation.RELU6:
        shift = draft.maker(node.input)
        if isinstance(shift, _Affine) and _is(shift, 1, 3):
            return shift.input
    return None


def _is(node: _Affine, factor: float, offset: float) -> bool:
    return node.scalar is not None and bool(np.allclose(node.scalar, (factor, offset), atol=0))


def _join_reshapes(draft: _Draft) -> None:
    """Join reshapes that follow one another, and drop those to the same shape."""
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if isinstance(node, Reshape) and isinstance(first := draft.maker(node.input), Reshape):
            node = replace(first, shape=node.shape)
            draft.join(draft.nodes[name], node)
        if isinstance(node, Reshape) and draft.shapes[node.input] == node.shape:
            draft.rename(node.output, node.input)
    draft.prune()


def _find_shuffles(draft: _Draft) -> None:
    """Find channel shuffles: channels as groups, exchanged with what is in them, and as channels again."""
    for last in list(draft.nodes.values()):
        exchanged = draft.maker(last.input) if isinstance(last, Reshape) else None
        if isinstance(exchanged, _Permute) and exchanged.order == (0, 2, 1, 3, 4):
            split = draft.maker(exchanged.input)
            if isinstance(split, Reshape):
                shape, groups = draft.shapes[split.input], split.shape[1]
                made = Shuffle(split.inputs, split.output, groups=groups, shape=shape)
                if (
                    len(shape) == 4
                    and made.split == split.shape
                    and draft.shapes[last.output] == shape
                ):
                    draft.join(last, made)
    draft.prune()


def _find_global_pools(draft: _Draft) -> None:
    """Find averages over one dimension after the other, and let global pools drop their dimensions of 1."""
    for last in list(draft.nodes.values()):
        first = draft.maker(last.input)
        if isinstance(last, _Mean) and isinstance(first, _Mean) and first.keeps is last.keeps:
            if (
                len(draft.shapes[first.input]) == 4
                and (first.dims, last.dims) in _BOTH[first.keeps]
            ):
                draft.join(last, GlobalPool(first.inputs, first.output, flat=not first.keeps))
        elif isinstance(last, Reshape) and len(last.shape) == 2 and isinstance(first, GlobalPool):
            draft.join(last, replace(first, flat=True))


#: Dimensions of averages that together are global: by whether the first keeps its dimension.
_BOTH = {True: (((2,), (3,)), ((3,), (2,))), False: (((2,), (2,)), ((3,), (2,)))}


def _fold_affines(draft: _Draft) -> None:
    """Fold BN and constants into the convolution or linear layer before them, or make a depthwise one."""
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if not isinstance(node, _Affine):
            continue
        before = draft.maker(node.input)
        if isinstance(before, Conv | Linear) and before.activation is Activation.NONE:
            factor = node.factor.reshape(-1, *[1] * (before.weight.ndim - 1))
            bias = before.bias * node.factor + node.offset
            draft.join(node, replace(before, weight=before.weight * factor, bias=bias))
        elif len(draft.shapes[name]) == 4:
            channels = draft.shapes[name][1]
            weight, bias = (np.resize(part, channels) for part in (node.factor, node.offset))
            draft.nodes[name] = Conv(
                node.inputs, name, weight=weight.reshape(-1, 1, 1, 1), bias=bias, groups=channels
            )


def _end_with_clamps(draft: _Draft) -> None:
    """Let nodes that can end with a ReLU do so."""
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if isinstance(node, Activate) and node.activation in CLAMPS:
            before = draft.maker(node.input)
            if isinstance(before, Ending) and before.activation is Activation.NONE:
                draft.join(node, replace(before, activation=node.activation))


def _write_over(draft: _Draft) -> None:
    """Let activations write over their input where nothing else reads it."""
    for name, node in draft.nodes.items():
        if isinstance(node, Activate):
            before = draft.maker(node.input)
            draft.nodes[name] = replace(node, in_place=before is not None and before.fresh)


_PASSES: tuple[Callable[[_Draft], None], ...] = (
    _find_activations,
    _find_shuffles,  # before the last reshape of one is joined with the first of the next
    _join_reshapes,
    _find_shuffles,
    _find_global_pools,
    _fold_affines,
    _end_with_clamps,
    _write_over,
)


def lower(module: nn.Module, input_shape: Shape) -> Graph:
    """Return the graph of `module`, which must be in eval mode, for one input of `input_shape`, NCHW or NC.

    Raises:
        NoNode: the module contains something that the graph has no node for.
        ExportFailed: its BN is in training mode, or it does not return one tensor made of its input.
    """
    given = torch.zeros(input_shape)
    recorder = _Recorder(module, given)
    draft = _Draft(recorder, recorder.output_of(recorder.record(module, given)))
    for rewrite in _PASSES:
        rewrite(draft)
    for node in draft.nodes.values():
        _require_kind(node, draft.shapes)
    kept = {recorder.input, *draft.nodes}
    shapes = {name: shape for name, shape in draft.shapes.items() if name in kept}
    return Graph(tuple(draft.nodes.values()), recorder.input, draft.output, shapes)


def _require_kind(node: Node, shapes: dict[str, Shape]) -> None:
    """Check that a node is one that graphs hold.

    Raises:
        NoNode: it is a step of something that no pass knows.
    """
    if isinstance(node, Reshape):
        before, after = shapes[node.input], node.shape
        flat = len(before) == 4 and len(after) == 2
        if flat or (len(before) == 2 and after == (*before, 1, 1)):
            return
        change = f"a change of shape from {before} to {after}"
    elif isinstance(node, KINDS):
        return
    else:
        change = f"its {type(node).__name__.strip('_').lower()}"
    raise NoNode(
        f"cannot export {node.output}: no graph node for {change} in this place",
        hint="export this model with its own framework and time the file: latbench measure MODEL",
    )


class GraphModule(nn.Module):
    """A graph as a module that runs it node by node; weights are buffers, which do not train.

    Attributes:
        forms: how kinds of nodes are computed that a format needs in another form than their own.
    """

    forms: ClassVar[Mapping[type[Node], Callable[..., Tensor]]] = {}

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        for number, node in enumerate(graph.nodes):
            for name, values in node.parameters.items():
                self.register_buffer(f"{name}{number}", torch.from_numpy(values))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the graph's output from its input, both in the graph's shapes."""
        values = {self.graph.input: x}
        for name, value in self.steps(values):
            values[name] = value
        return values[self.graph.output]

    def steps(self, values: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield each value's name and tensor in execution order; the caller adds them to `values`.

        A value may be written over by the next step (`Activate.in_place`).
        """
        for number, node in enumerate(self.graph.nodes):
            given = [values[name] for name in node.inputs]
            parameters = [self.get_buffer(f"{name}{number}") for name in node.parameters]
            form = self.forms.get(type(node))
            made = node.compute(*given, *parameters) if form is None else form(node, *given)
            yield node.output, made
