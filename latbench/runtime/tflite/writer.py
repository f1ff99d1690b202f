"""Write a graph as TFLite, fp32, fp16 or full-integer int8, with the schema classes that LiteRT ships.

Field names are those of the TFLite schema (tensorflow/lite/schema/schema.fbs). Three choices make every
block one XNNPACK partition: activations are NHWC; a stride-2 convolution is PAD + VALID, since TFLite's SAME
pads an even size on one side only; and the channel shuffle is a transpose of rank 3, since XNNPACK has none
of rank 5. What TFLite has no operator for is written as its own converter does: hard-sigmoid as
relu6(x + 3) / 6, SiLU as x * sigmoid(x).
"""

import importlib
import json
import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from latbench.errors import ExportFailed
from latbench.graph.nodes import (
    CLAMPS,
    Activate,
    Activation,
    Add,
    Concat,
    Conv,
    GlobalPool,
    Graph,
    Linear,
    Mul,
    Node,
    Pair,
    Pool,
    Reshape,
    Shape,
    Shuffle,
    Slice,
    Weighted,
    Weights,
    entry_of,
)
from latbench.graph.quantize import GATE, INT8_MAX, INT8_MIN, Quantization, Scale
from latbench.quiet import without_notices
from latbench.runtime.tflite import DESCRIPTOR

if TYPE_CHECKING:
    from torch import nn

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
SIGNATURE = b"serving_default"

_OPERATOR, _OPTIONS, _TYPE = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType

#: The operator versions that have the int8 kernels we use (tensorflow/lite/tools/versioning).
_INT8_VERSIONS = {
    _OPERATOR.CONV_2D: 3,
    _OPERATOR.DEPTHWISE_CONV_2D: 3,
    _OPERATOR.FULLY_CONNECTED: 5,
    _OPERATOR.ADD: 2,
    _OPERATOR.MEAN: 2,
    _OPERATOR.PAD: 2,
    _OPERATOR.TRANSPOSE: 2,
    _OPERATOR.MUL: 2,
    _OPERATOR.LOGISTIC: 2,
    _OPERATOR.CONCATENATION: 2,
    _OPERATOR.SLICE: 2,
    _OPERATOR.MAX_POOL_2D: 2,
    _OPERATOR.AVERAGE_POOL_2D: 2,
    _OPERATOR.RELU: 2,
    _OPERATOR.RELU6: 2,
    _OPERATOR.PADV2: 2,
    _OPERATOR.QUANTIZE: 2,
}

#: The operator versions that have the kernels of floats, where they are not the first.
_FLOAT_VERSIONS = {_OPERATOR.DEQUANTIZE: 3}

_FUSED = schema.ActivationFunctionType

#: The activations that operators can end with.
_ENDINGS = {
    Activation.NONE: _FUSED.NONE,
    Activation.RELU: _FUSED.RELU,
    Activation.RELU6: _FUSED.RELU6,
}

#: The activations that are one operator, and its options.
_ACTIVATIONS: dict[Activation, tuple[int, Any]] = {
    Activation.RELU: (_OPERATOR.RELU, None),
    Activation.RELU6: (_OPERATOR.RELU6, None),
    Activation.HARD_SWISH: (_OPERATOR.HARD_SWISH, schema.HardSwishOptionsT),
    Activation.SIGMOID: (_OPERATOR.LOGISTIC, None),
}

#: The scale of relu6(x + 3), in hard-sigmoid.
_LIMITED = Scale(6 / (INT8_MAX - INT8_MIN), INT8_MIN)


def nhwc(shape: Shape) -> Shape:
    """The shape of an NCHW value in TFLite's layout; shapes of other ranks stay."""
    return DESCRIPTOR.shape(shape)


class _Writer:
    """Builds one subgraph; tensors have the names of the graph's values."""

    def __init__(self, graph: Graph, quantization: Quantization | None, *, half: bool) -> None:
        self.graph, self.quantization, self.half = graph, quantization, half
        self.model = schema.ModelT()
        self.model.version = SCHEMA_VERSION
        self.model.description = b"latbench"
        self.model.buffers = [schema.BufferT()]  # buffer 0 is by convention empty
        self.model.operatorCodes = []
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = b"main"
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.model.subgraphs = [self.subgraph]
        self.tensors = {graph.input: self.value(graph.input)}
        self.codes: dict[tuple[int, int], int] = {}

    # Tensors

    def buffer(self, data: bytes) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def tensor(self, name: str, shape: Shape, kind: int, data: NDArray[Any] | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), kind
        made.buffer = 0 if data is None else self.buffer(np.ascontiguousarray(data).tobytes())
        self.subgraph.tensors.append(made)
        return len(self.subgraph.tensors) - 1

    def value(self, name: str, shape: Shape | None = None, scale: Scale | None = None) -> int:
        """The tensor of an activation; `shape` is TFLite's. Shape and scale default to the graph's."""
        given = nhwc(self.graph.shapes[name]) if shape is None else shape
        if self.quantization is None:
            return self.tensor(name, given, _TYPE.FLOAT32)
        index = self.tensor(name, given, _TYPE.INT8)
        self.quantize(index, self.quantization.scales[name] if scale is None else scale)
        return index

    def scale(self, name: str) -> Scale | None:
        """The scale of a value of the graph; None in floats."""
        return None if self.quantization is None else self.quantization.scales[name]

    def constant(self, name: str, values: Any) -> int:
        """The tensor of constant factors or terms, in int8 with a symmetric scale."""
        data = np.asarray(values, np.float32)
        if self.quantization is None:
            return self.tensor(name, data.shape, _TYPE.FLOAT32, data)
        scale = float(np.abs(data).max()) / INT8_MAX
        stored = np.rint(data / scale).astype(np.int8)
        index = self.tensor(name, data.shape, _TYPE.INT8, stored)
        self.quantize(index, Scale(scale, 0))
        return index

    def quantize(self, index: int, scale: Scale) -> None:
        self.quantize_channels(index, [scale.scale], [scale.zero_point], axis=0)

    def quantize_channels(
        self, index: int, scales: Any, zero_points: list[int], *, axis: int
    ) -> None:
        made = schema.QuantizationParametersT()
        made.scale = np.asarray(scales, np.float32)
        made.zeroPoint = np.asarray(zero_points, np.int64)
        made.quantizedDimension = axis
        self.subgraph.tensors[index].quantization = made

    def weights(self, node: Weighted) -> list[int]:
        """The tensors of the node's weight and bias, in TFLite's layouts."""
        depthwise = isinstance(node, Conv) and node.depthwise
        order: tuple[int, ...]
        if isinstance(node, Linear):
            order, axis = (0, 1), 0
        else:  # OIHW to OHWI, or for depthwise to 1HWO
            order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        names = f"{node.output}.weight", f"{node.output}.bias"
        if self.quantization is None:
            floats = self.narrow if self.half else self.wide
            weight = node.weight.transpose(order)
            return [floats(names[0], weight), floats(names[1], node.bias)]
        integers = self.quantization.weights(node)
        stored = integers.weight.transpose(order)
        zeros = [0] * len(integers.scales)
        weight_index = self.tensor(names[0], stored.shape, _TYPE.INT8, stored)
        self.quantize_channels(weight_index, integers.scales, zeros, axis=axis)
        bias_index = self.tensor(names[1], integers.bias.shape, _TYPE.INT32, integers.bias)
        self.quantize_channels(bias_index, integers.bias_scales, zeros, axis=0)
        return [weight_index, bias_index]

    def wide(self, name: str, values: Weights) -> int:
        return self.tensor(name, values.shape, _TYPE.FLOAT32, values)

    def narrow(self, name: str, values: Weights) -> int:
        """A tensor of floats that is stored in 16 bits, and its operator."""
        stored = self.tensor(
            f"{name}.stored", values.shape, _TYPE.FLOAT16, values.astype(np.float16)
        )
        made = self.tensor(name, values.shape, _TYPE.FLOAT32)
        return self.operator(_OPERATOR.DEQUANTIZE, [stored], made, schema.DequantizeOptionsT())

    def integers(self, name: str, values: Any) -> int:
        data = np.asarray(values, np.int32)
        return self.tensor(name, data.shape, _TYPE.INT32, data)

    # Operators

    def operator(self, code: int, inputs: list[int], output: int, options: Any = None) -> int:
        version = (_FLOAT_VERSIONS if self.quantization is None else _INT8_VERSIONS).get(code, 1)
        if (code, version) not in self.codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)
            made.version = version
            self.model.operatorCodes.append(made)
            self.codes[code, version] = len(self.model.operatorCodes) - 1
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes[code, version]
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(
                _OPTIONS, type(options).__name__.removesuffix("T")
            )
        self.subgraph.operators.append(operator)
        return output

    def make(self, node: Node) -> None:
        """Add the operators of `node`.

        Raises:
            ExportFailed: TFLite has none.
        """
        entry_of(_NODES, node, DESCRIPTOR.files)(self, node)

    def given(self, node: Node) -> list[int]:
        """The tensors of the node's inputs."""
        return [self.tensors[name] for name in node.inputs]

    def output(self, node: Node) -> int:
        self.tensors[node.output] = self.value(node.output)
        return self.tensors[node.output]

    def convolution(self, node: Conv) -> None:
        (source,) = self.given(node)
        same = self.pads_as_same(node, node.dilation)
        if not same and any(node.padding):
            source = self.pad(node, node.padding)
        depthwise = node.depthwise
        options = (schema.DepthwiseConv2DOptionsT if depthwise else schema.Conv2DOptionsT)()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH, options.strideW = node.stride
        options.dilationHFactor, options.dilationWFactor = node.dilation
        if depthwise:
            options.depthMultiplier = len(node.weight) // node.groups
        options.fusedActivationFunction = _ENDINGS[node.activation]
        code = _OPERATOR.DEPTHWISE_CONV_2D if depthwise else _OPERATOR.CONV_2D
        self.operator(code, [source, *self.weights(node)], self.output(node), options)

    def pads_as_same(self, node: Conv | Pool, dilation: Pair = (1, 1)) -> bool:
        """Whether TFLite's SAME pads as `node` does: what is odd comes last."""
        size = self.graph.shapes[node.input][2:]
        for side, kernel, stride, padding, step in zip(
            size, node.kernel, node.stride, node.padding, dilation, strict=True
        ):
            span = (kernel - 1) * step + 1
            total = max((-(-side // stride) - 1) * stride + span - side, 0)
            if (total // 2, total - total // 2) != (padding, padding):
                return False
        return any(node.padding) or node.stride == (1, 1)

    def pad(self, node: Node, padding: Pair, lowest: bool = False) -> int:
        """The node's input with zeros around it, or with the lowest value that there is."""
        n, c, h, w = self.graph.shapes[node.input]
        top, left = padding
        amounts = [[0, 0], [top, top], [left, left], [0, 0]]
        inputs = [*self.given(node), self.integers(f"{node.output}.paddings", amounts)]
        if lowest:
            inputs.append(self.lowest(node))
        return self.operator(
            _OPERATOR.PADV2 if lowest else _OPERATOR.PAD,
            inputs,
            self.value(
                f"{node.output}.padded", (n, h + 2 * top, w + 2 * left, c), self.scale(node.input)
            ),
            schema.PadV2OptionsT() if lowest else schema.PadOptionsT(),
        )

    def lowest(self, node: Node) -> int:
        name, scale = f"{node.output}.lowest", self.scale(node.input)
        if scale is None:
            least = np.full(1, np.finfo(np.float32).min)
            return self.tensor(name, least.shape, _TYPE.FLOAT32, least)
        index = self.tensor(name, (1,), _TYPE.INT8, np.full(1, INT8_MIN, np.int8))
        self.quantize(index, scale)
        return index

    def linear(self, node: Linear) -> None:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = _ENDINGS[node.activation]
        inputs = [*self.given(node), *self.weights(node)]
        self.operator(_OPERATOR.FULLY_CONNECTED, inputs, self.output(node), options)

    def activation(self, node: Activate) -> None:
        (source,) = self.given(node)
        match node.activation:
            case Activation.HARD_SIGMOID:
                options = schema.AddOptionsT()
                options.fusedActivationFunction = _FUSED.RELU6
                shape = nhwc(self.graph.shapes[node.output])
                limited = self.operator(
                    _OPERATOR.ADD,
                    [source, self.constant(f"{node.output}.three", [3])],
                    self.value(f"{node.output}.limited", shape, _LIMITED),
                    options,
                )
                inputs = [limited, self.constant(f"{node.output}.sixth", [1 / 6])]
                self.operator(_OPERATOR.MUL, inputs, self.output(node), schema.MulOptionsT())
            case Activation.SILU:
                shape = nhwc(self.graph.shapes[node.output])
                gate = self.operator(
                    _OPERATOR.LOGISTIC, [source], self.value(f"{node.output}.gate", shape, GATE)
                )
                inputs = [source, gate]
                self.operator(_OPERATOR.MUL, inputs, self.output(node), schema.MulOptionsT())
            case _:
                code, options_of = _ACTIVATIONS[node.activation]
                options = None if options_of is None else options_of()
                self.operator(code, [source], self.output(node), options)

    def sum(self, node: Add) -> None:
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _ENDINGS[node.activation]
        self.operator(_OPERATOR.ADD, self.given(node), self.output(node), options)

    def product(self, node: Mul) -> None:
        self.operator(_OPERATOR.MUL, self.given(node), self.output(node), schema.MulOptionsT())

    def concat(self, node: Concat) -> None:
        """Join the inputs; those with a scale of their own are rescaled first."""
        inputs: list[int] = []
        scale = self.scale(node.output)
        for name, index in zip(node.inputs, self.given(node), strict=True):
            if self.scale(name) != scale:
                shape = nhwc(self.graph.shapes[name])
                rescaled = self.value(f"{node.output}.{len(inputs)}", shape, scale)
                options = schema.QuantizeOptionsT()
                index = self.operator(_OPERATOR.QUANTIZE, [index], rescaled, options)
            inputs.append(index)
        options = schema.ConcatenationOptionsT()
        options.axis = len(self.graph.shapes[node.output]) - 1
        self.operator(_OPERATOR.CONCATENATION, inputs, self.output(node), options)

    def slice(self, node: Slice) -> None:
        size = nhwc(self.graph.shapes[node.output])
        begin = [*[0] * (len(size) - 1), node.start]
        names = f"{node.output}.begin", f"{node.output}.size"
        inputs = [*self.given(node), self.integers(names[0], begin), self.integers(names[1], size)]
        self.operator(_OPERATOR.SLICE, inputs, self.output(node), schema.SliceOptionsT())

    def reshape(self, node: Reshape) -> None:
        """Values are in the order of NCHW, so those of several places are transposed first."""
        (source,) = self.given(node)
        n, c, *size = self.graph.shapes[node.input]
        if math.prod(size) > 1:
            source = self.transposed(
                node, source, (0, 3, 1, 2), (n, c, *size), self.scale(node.input)
            )
        self.reshaped(source, self.output(node), nhwc(node.shape))

    def reshaped(self, source: int, output: int, shape: Shape) -> int:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        name = self.subgraph.tensors[output].name.decode()
        target = self.integers(f"{name}.shape", shape)
        return self.operator(_OPERATOR.RESHAPE, [source, target], output, options)

    def transposed(
        self, node: Node, source: int, order: Shape, shape: Shape, scale: Scale | None
    ) -> int:
        inputs = [source, self.integers(f"{node.output}.permutation", order)]
        made = self.value(f"{node.output}.swapped", shape, scale)
        return self.operator(_OPERATOR.TRANSPOSE, inputs, made, schema.TransposeOptionsT())

    def shuffle(self, node: Shuffle) -> None:
        (source,), scale = self.given(node), self.scale(node.input)
        n, c, h, w = node.shape
        split = (n * h * w, node.groups, c // node.groups)
        swapped = (n * h * w, c // node.groups, node.groups)
        apart = self.reshaped(source, self.value(f"{node.output}.split", split, scale), split)
        crossed = self.transposed(node, apart, (0, 2, 1), swapped, scale)
        self.reshaped(crossed, self.output(node), nhwc(node.shape))

    def pool(self, node: Pool) -> None:
        (source,) = self.given(node)
        counted = any(node.padding) and not node.maximum and node.counts_padding
        same = self.pads_as_same(node) and not counted
        if not same and any(node.padding):
            source = self.pad(
                node, node.padding, lowest=node.maximum and self.may_be_negative(node)
            )
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.filterHeight, options.filterWidth = node.kernel
        options.strideH, options.strideW = node.stride
        code = _OPERATOR.MAX_POOL_2D if node.maximum else _OPERATOR.AVERAGE_POOL_2D
        if same or node.maximum or counted or not any(node.padding):
            self.operator(code, [source], self.output(node), options)
            return
        # The zeros were counted: multiply each average by its window over the part of it that is inside.
        shape = nhwc(self.graph.shapes[node.output])
        average = self.value(f"{node.output}.counted", shape, self.scale(node.input))
        self.operator(code, [source], average, options)
        shares = [
            [
                kernel
                / (min(start - padding + kernel, side) - max(start - padding, 0))
                for start in range(0, side + 2 * padding - kernel + 1, stride)
            ]
            for side, kernel, stride, padding in zip(
                self.graph.shapes[node.input][2:],
                node.kernel,
                node.stride,
                node.padding,
                strict=True,
            )
        ]  # fmt: skip
        factors = np.outer(np.array(shares[0]), np.array(shares[1]))[None, :, :, None]
        inputs = [average, self.constant(f"{node.output}.factors", factors)]
        self.operator(_OPERATOR.MUL, inputs, self.output(node), schema.MulOptionsT())

    def may_be_negative(self, node: Node) -> bool:
        """Whether zeros could be more than the values of the node's input, so that a maximum shows them."""
        maker = next((one for one in self.graph.nodes if one.output == node.input), None)
        return getattr(maker, "activation", Activation.NONE) not in CLAMPS

    def global_pool(self, node: GlobalPool) -> None:
        n, c = self.graph.shapes[node.output][:2]
        options = schema.ReducerOptionsT()
        options.keepDims = True
        inputs = [*self.given(node), self.integers(f"{node.output}.axes", [1, 2])]
        if not node.flat:
            self.operator(_OPERATOR.MEAN, inputs, self.output(node), options)
            return
        mean = self.value(f"{node.output}.mean", (n, 1, 1, c), self.scale(node.output))
        self.reshaped(
            self.operator(_OPERATOR.MEAN, inputs, mean, options), self.output(node), (n, c)
        )

    # The file

    def finish(self, metadata: dict[str, Any]) -> bytes:
        ends = self.tensors[self.graph.input], self.tensors[self.graph.output]
        self.subgraph.inputs, self.subgraph.outputs = [ends[0]], [ends[1]]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [_tensor_map(b"input", ends[0])]
        signature.outputs = [_tensor_map(b"output", ends[1])]
        self.model.signatureDefs = [signature]
        return _packed(self.model, metadata)


def _packed(model: Any, metadata: dict[str, Any]) -> bytes:
    """The bytes of a model, with `metadata` added to it."""
    made = schema.BufferT()
    made.data = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8)
    model.buffers.append(made)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"latbench", len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


_NODES: dict[type[Node], Callable[[_Writer, Any], None]] = {
    Conv: _Writer.convolution,
    Linear: _Writer.linear,
    Activate: _Writer.activation,
    Add: _Writer.sum,
    Mul: _Writer.product,
    Concat: _Writer.concat,
    Slice: _Writer.slice,
    Shuffle: _Writer.shuffle,
    Pool: _Writer.pool,
    GlobalPool: _Writer.global_pool,
    Reshape: _Writer.reshape,
}


def _tensor_map(name: bytes, index: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def write_tflite(
    graph: Graph,
    metadata: dict[str, Any],
    quantization: Quantization | None,
    *,
    half: bool = False,
) -> bytes:
    """Return the bytes of the TFLite model of `graph`.

    Input and output are NHWC, float32 or int8; in fp16 weights and biases alone are stored in 16 bits.
    `metadata` is stored in the model's metadata under 'latbench', as JSON.
    """
    writer = _Writer(graph, quantization, half=half)
    for node in graph.nodes:
        writer.make(node)
    return writer.finish(metadata)


def write_module(module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
    """Return the bytes of an fp32 TFLite model of a module without a graph, as LiteRT's exporter writes it.

    Input, output and metadata are those of `write_tflite`.

    Raises:
        ExportFailed: litert-torch is not installed, or refuses the module.
    """
    import torch

    if find_spec("litert_torch") is None:
        raise ExportFailed(
            "exporting the module needs litert-torch, which is not installed",
            hint="pip install latbench[exporters]",
        )
    sample = torch.zeros(shape)
    with torch.inference_mode():
        flat = module(sample).ndim != 4
    # It warns of libraries that it would convert from, and reports its progress.
    with without_notices(lambda line: True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exporter: Any = importlib.import_module("litert_torch")
        if len(shape) == 4:
            sample = sample.permute(0, 2, 3, 1).contiguous()
            outputs = None if flat else [0]
            module = exporter.to_channel_last_io(module, args=[0], outputs=outputs)
        try:
            converted = exporter.convert(module.eval(), (sample,))
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportFailed(f"litert-torch cannot export the module: {reason}") from None
        with TemporaryDirectory(prefix="latbench-litert-") as name:
            path = Path(name) / "module.tflite"
            converted.export(str(path))
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    return _packed(model, metadata)
