"""Write a graph as TFLite, fp32 or full-integer int8, with the schema classes that LiteRT ships.

Field names are those of the TFLite schema (tensorflow/lite/schema/schema.fbs). Three choices make every
block one XNNPACK partition: activations are NHWC; a stride-2 convolution is PAD + VALID, since TFLite's SAME
pads an even size on one side only; and the channel shuffle is a transpose of rank 3, since XNNPACK has none
of rank 5.
"""

import json
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from latbench.graph.lowering import Add, Conv, Graph, Linear, Node, Pool, Shape, Shuffle
from latbench.graph.quantize import Quantization, Scale
from latbench.runtime.tflite import DESCRIPTOR

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
}


def nhwc(shape: Shape) -> Shape:
    """The shape of an NCHW value in TFLite's layout; shapes of other ranks stay."""
    return DESCRIPTOR.shape(shape)


class _Writer:
    """Builds one subgraph; tensors have the names of the graph's values."""

    def __init__(self, graph: Graph, quantization: Quantization | None) -> None:
        self.graph, self.quantization = graph, quantization
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

    def value(self, name: str, shape: Shape | None = None, scale_of: str | None = None) -> int:
        """The tensor of an activation; `shape` is TFLite's, and defaults to the graph's."""
        given = nhwc(self.graph.shapes[name]) if shape is None else shape
        if self.quantization is None:
            return self.tensor(name, given, _TYPE.FLOAT32)
        index = self.tensor(name, given, _TYPE.INT8)
        self.quantize(index, self.quantization.scales[scale_of or name])
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

    def weights(self, node: Conv | Linear) -> list[int]:
        """The tensors of the node's weight and bias, in TFLite's layouts."""
        depthwise = isinstance(node, Conv) and node.depthwise
        order: tuple[int, ...]
        if isinstance(node, Linear):
            order, axis = (0, 1), 0
        else:  # OIHW to OHWI, or for depthwise to 1HWO
            order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        names = f"{node.output}.weight", f"{node.output}.bias"
        if self.quantization is None:
            weight = node.weight.transpose(order)
            return [
                self.tensor(names[0], weight.shape, _TYPE.FLOAT32, weight),
                self.tensor(names[1], node.bias.shape, _TYPE.FLOAT32, node.bias),
            ]
        integers = self.quantization.weights(node)
        stored = integers.weight.transpose(order)
        zeros = [0] * len(integers.scales)
        weight_index = self.tensor(names[0], stored.shape, _TYPE.INT8, stored)
        self.quantize_channels(weight_index, integers.scales, zeros, axis=axis)
        bias_index = self.tensor(names[1], integers.bias.shape, _TYPE.INT32, integers.bias)
        self.quantize_channels(bias_index, integers.bias_scales, zeros, axis=0)
        return [weight_index, bias_index]

    def integers(self, name: str, values: Any) -> int:
        data = np.asarray(values, np.int32)
        return self.tensor(name, data.shape, _TYPE.INT32, data)

    # Operators

    def operator(self, code: int, inputs: list[int], output: int, options: Any = None) -> int:
        version = 1 if self.quantization is None else _INT8_VERSIONS.get(code, 1)
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
        """Add the operators of `node`."""
        source = self.tensors[node.input]
        match node:
            case Conv():
                self.convolution(node, source)
            case Linear():
                options = schema.FullyConnectedOptionsT()
                inputs = [source, *self.weights(node)]
                self.operator(_OPERATOR.FULLY_CONNECTED, inputs, self.output(node), options)
            case Shuffle():
                self.shuffle(node, source)
            case Add():
                inputs = [source, self.tensors[node.other]]
                self.operator(_OPERATOR.ADD, inputs, self.output(node), schema.AddOptionsT())
            case Pool():
                self.pool(node, source)

    def output(self, node: Node) -> int:
        self.tensors[node.output] = self.value(node.output)
        return self.tensors[node.output]

    def convolution(self, node: Conv, source: int) -> None:
        n, c, h, w = self.graph.shapes[node.input]
        kernel, padding = node.weight.shape[-1], node.padding
        same = node.stride == 1 and padding == kernel // 2
        if padding and not same:
            padded = (n, h + 2 * padding, w + 2 * padding, c)
            amounts = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
            source = self.operator(
                _OPERATOR.PAD,
                [source, self.integers(f"{node.output}.paddings", amounts)],
                self.value(f"{node.output}.padded", padded, scale_of=node.input),
                schema.PadOptionsT(),
            )
        depthwise = node.depthwise
        options = (schema.DepthwiseConv2DOptionsT if depthwise else schema.Conv2DOptionsT)()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH = options.strideW = node.stride
        options.dilationHFactor = options.dilationWFactor = 1
        if depthwise:
            options.depthMultiplier = 1
        if node.relu:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        code = _OPERATOR.DEPTHWISE_CONV_2D if depthwise else _OPERATOR.CONV_2D
        self.operator(code, [source, *self.weights(node)], self.output(node), options)

    def reshape(self, source: int, output: int, shape: Shape) -> int:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        name = self.subgraph.tensors[output].name.decode()
        target = self.integers(f"{name}.shape", shape)
        return self.operator(_OPERATOR.RESHAPE, [source, target], output, options)

    def shuffle(self, node: Shuffle, source: int) -> None:
        n, c, h, w = self.graph.shapes[node.input]
        split, swapped = (
            (n * h * w, node.groups, c // node.groups),
            (n * h * w, c // node.groups, node.groups),
        )
        names = f"{node.output}.split", f"{node.output}.swapped"
        apart = self.reshape(source, self.value(names[0], split, scale_of=node.input), split)
        crossed = self.operator(
            _OPERATOR.TRANSPOSE,
            [apart, self.integers(f"{node.output}.permutation", [0, 2, 1])],
            self.value(names[1], swapped, scale_of=node.input),
            schema.TransposeOptionsT(),
        )
        self.reshape(crossed, self.output(node), nhwc(self.graph.shapes[node.output]))

    def pool(self, node: Pool, source: int) -> None:
        n, c = self.graph.shapes[node.output]
        options = schema.ReducerOptionsT()
        options.keepDims = True
        mean = self.operator(
            _OPERATOR.MEAN,
            [source, self.integers(f"{node.output}.axes", [1, 2])],
            self.value(f"{node.output}.mean", (n, 1, 1, c), scale_of=node.output),
            options,
        )
        self.reshape(mean, self.output(node), (n, c))

    # The file

    def finish(self, metadata: dict[str, Any]) -> bytes:
        ends = self.tensors[self.graph.input], self.tensors[self.graph.output]
        self.subgraph.inputs, self.subgraph.outputs = [ends[0]], [ends[1]]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [_tensor_map(b"input", ends[0])]
        signature.outputs = [_tensor_map(b"output", ends[1])]
        self.model.signatureDefs = [signature]
        entry = schema.MetadataT()
        entry.name = b"latbench"
        entry.buffer = self.buffer(json.dumps(metadata, sort_keys=True).encode())
        self.model.metadata = [entry]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())


def _tensor_map(name: bytes, index: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def write_tflite(
    graph: Graph, metadata: dict[str, Any], quantization: Quantization | None
) -> bytes:
    """Return the bytes of the TFLite model of `graph`.

    Input and output are NHWC at batch 1, float32 or int8. `metadata` is stored in the model's metadata
    under 'latbench', as JSON.
    """
    writer = _Writer(graph, quantization)
    for node in graph.nodes:
        writer.make(node)
    return writer.finish(metadata)
