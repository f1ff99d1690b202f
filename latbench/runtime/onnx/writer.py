"""Write a graph as ONNX: fp32, fp16, or int8 in the QuantizeLinear/DequantizeLinear form.

Opset 17 is the newest that every ONNX Runtime since 1.12 reads, including those of phones.
"""

import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latbench.errors import ExportFailed
from latbench.graph.nodes import (
    CLAMPS,
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
    Pool,
    Reshape,
    Shape,
    Shuffle,
    Slice,
    Weighted,
    entry_of,
)
from latbench.graph.quantize import Quantization
from latbench.quiet import without_notices
from latbench.runtime.onnx import DESCRIPTOR

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
IR_VERSION = 8

#: The oldest that PyTorch's exporter writes.
MODULE_OPSET = 18


class _Writer:
    """Collects nodes and initializers; in int8 every value is quantized and dequantized."""

    def __init__(self, graph: Graph, quantization: Quantization | None, *, half: bool) -> None:
        self.graph, self.quantization = graph, quantization
        self.float = np.float16 if half else np.float32
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(kind, inputs, [output], name=f"{output}.{kind}", **attributes)
        self.nodes.append(node)
        return output

    def scale(self, name: str) -> list[str]:
        assert self.quantization is not None
        scale = self.quantization.scales[name]
        return [
            self.constant(f"{name}.scale", np.array(scale.scale, np.float32)),
            self.constant(f"{name}.zero_point", np.array(scale.zero_point, np.int8)),
        ]

    def weights(self, node: Weighted) -> list[str]:
        """The names of the node's float weight and bias."""
        if self.quantization is None:
            return [
                self.constant(f"{node.output}.weight", node.weight.astype(self.float)),
                self.constant(f"{node.output}.bias", node.bias.astype(self.float)),
            ]
        integers = self.quantization.weights(node)
        return [
            self._dequantized(f"{node.output}.weight", integers.weight, integers.scales),
            self._dequantized(f"{node.output}.bias", integers.bias, integers.bias_scales),
        ]

    def _dequantized(self, name: str, stored: NDArray[Any], scales: NDArray[Any]) -> str:
        inputs = [
            self.constant(f"{name}.stored", stored),
            self.constant(f"{name}.scale", scales),
            self.constant(f"{name}.zero_point", np.zeros(len(scales), stored.dtype)),
        ]
        return self.add("DequantizeLinear", inputs, name, axis=0)

    def make(self, node: Node) -> None:
        """Add `node`, and in int8 the rounding of its value.

        Raises:
            ExportFailed: ONNX has no operator for it.
        """
        result = node.output if self.quantization is None else f"{node.output}.real"
        entry_of(_NODES, node, DESCRIPTOR.files)(self, node, result)
        if self.quantization is not None:
            self.round(result, node.output)

    def ended(self, node: Ending, result: str, suffix: str) -> str:
        """The name that the node's own operator gives its result, before the activation that ends it."""
        return result if node.activation is Activation.NONE else f"{node.output}.{suffix}"

    def end(self, node: Ending, before: str, result: str) -> None:
        if node.activation is not Activation.NONE:
            self.activate(node.activation, before, result)

    def activate(self, kind: Activation, source: str, result: str) -> None:
        if kind is Activation.RELU6:
            low, high = CLAMPS[kind]
            limits = [
                self.constant(f"{result}.{name}", np.array(value, self.float))
                for name, value in (("low", low), ("high", high))
            ]
            self.add("Clip", [source, *limits], result)
        elif kind is Activation.SILU:
            gate = self.add("Sigmoid", [source], f"{result}.gate")
            self.add("Mul", [source, gate], result)
        else:
            operator, attributes = _ACTIVATIONS[kind]
            self.add(operator, [source], result, **attributes)

    def convolution(self, node: Conv, result: str) -> None:
        convolved = self.ended(node, result, "convolved")
        self.add(
            "Conv",
            [node.input, *self.weights(node)],
            convolved,
            kernel_shape=list(node.kernel),
            strides=list(node.stride),
            pads=[*node.padding] * 2,
            group=node.groups,
            **({} if node.dilation == (1, 1) else {"dilations": list(node.dilation)}),
        )
        self.end(node, convolved, result)

    def linear(self, node: Linear, result: str) -> None:
        before = self.ended(node, result, "linear")
        self.add("Gemm", [node.input, *self.weights(node)], before, transB=1)
        self.end(node, before, result)

    def activation(self, node: Activate, result: str) -> None:
        self.activate(node.activation, node.input, result)

    def sum(self, node: Add, result: str) -> None:
        before = self.ended(node, result, "sum")
        self.add("Add", list(node.inputs), before)
        self.end(node, before, result)

    def product(self, node: Mul, result: str) -> None:
        self.add("Mul", list(node.inputs), result)

    def concat(self, node: Concat, result: str) -> None:
        self.add("Concat", list(node.inputs), result, axis=1)

    def slice(self, node: Slice, result: str) -> None:
        numbers = [
            self.constant(f"{node.output}.{name}", np.array([value], np.int64))
            for name, value in (("start", node.start), ("stop", node.stop), ("axis", 1))
        ]
        self.add("Slice", [node.input, *numbers], result)

    def shuffle(self, node: Shuffle, result: str) -> None:
        names = [f"{node.output}.split", f"{node.output}.swapped"]
        shapes = [
            self.constant(f"{node.output}.split_shape", np.array(node.split, np.int64)),
            self.constant(f"{node.output}.shape", np.array(node.shape, np.int64)),
        ]
        self.add("Reshape", [node.input, shapes[0]], names[0])
        self.add("Transpose", [names[0]], names[1], perm=[0, 2, 1, 3, 4])
        self.add("Reshape", [names[1], shapes[1]], result)

    def pool(self, node: Pool, result: str) -> None:
        attributes: dict[str, Any] = {
            "kernel_shape": list(node.kernel),
            "strides": list(node.stride),
            "pads": [*node.padding] * 2,
        }
        if not node.maximum:
            attributes["count_include_pad"] = int(node.counts_padding)
        kind = "MaxPool" if node.maximum else "AveragePool"
        self.add(kind, [node.input], result, **attributes)

    def global_pool(self, node: GlobalPool, result: str) -> None:
        pooled = f"{node.output}.pooled" if node.flat else result
        self.add("GlobalAveragePool", [node.input], pooled)
        if node.flat:
            self.add("Flatten", [pooled], result)

    def reshape(self, node: Reshape, result: str) -> None:
        shape = self.constant(f"{node.output}.shape", np.array(node.shape, np.int64))
        self.add("Reshape", [node.input, shape], result)

    def round(self, real: str, name: str) -> None:
        """Quantize `real` and dequantize it again as `name`; the int8 output is left quantized."""
        scale = self.scale(name)
        stored = self.add("QuantizeLinear", [real, *scale], f"{name}.stored")
        self.add("DequantizeLinear", [stored, *scale], name)


_NODES: dict[type[Node], Callable[[_Writer, Any, str], None]] = {
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

#: The activations that are one operator, and its attributes.
_ACTIVATIONS: dict[Activation, tuple[str, dict[str, float]]] = {
    Activation.RELU: ("Relu", {}),
    Activation.HARD_SWISH: ("HardSwish", {}),
    Activation.HARD_SIGMOID: ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    Activation.SIGMOID: ("Sigmoid", {}),
}


def write_onnx(
    graph: Graph,
    metadata: dict[str, Any],
    quantization: Quantization | None,
    *,
    half: bool = False,
) -> bytes:
    """Return the bytes of the ONNX model of `graph`.

    The input is called 'input' and the output 'output', NCHW; int8 models take and return
    int8, fp16 models float16. `metadata` is stored in the model's metadata_props under 'latbench', as JSON.
    """
    writer = _Writer(graph, quantization, half=half)
    floats = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    kind = floats if quantization is None else TensorProto.INT8
    if quantization is None:
        for node in graph.nodes:
            writer.make(node)
        ends = {graph.input: "input", graph.output: "output"}
    else:
        writer.add(
            "DequantizeLinear", [f"{graph.input}.stored", *writer.scale(graph.input)], graph.input
        )
        for node in graph.nodes:
            writer.make(node)
        used = {name for node in writer.nodes for name in node.input}
        writer.nodes = [
            n for n in writer.nodes if n.output[0] != graph.output or graph.output in used
        ]
        ends = {f"{graph.input}.stored": "input", f"{graph.output}.stored": "output"}
    for proto in writer.nodes:
        _rename(proto, ends)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "latbench",
            [helper.make_tensor_value_info("input", kind, graph.shapes[graph.input])],
            [helper.make_tensor_value_info("output", kind, graph.shapes[graph.output])],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="latbench",
    )
    return _serialised(model, metadata)


def write_module(module: "nn.Module", shape: Shape, metadata: dict[str, Any]) -> bytes:
    """Return the bytes of an fp32 ONNX model of a module without a graph, as PyTorch's exporter writes it.

    Input, output and metadata are those of `write_onnx`.

    Raises:
        ExportFailed: onnxscript is not installed, or the exporter refuses the module.
    """
    import torch

    if find_spec("onnxscript") is None:
        raise ExportFailed(
            "torch.onnx needs onnxscript, which is not installed",
            hint="pip install latbench[exporters]",
        )
    # It reports its progress, and warns of deprecations.
    with without_notices(lambda line: True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (torch.zeros(shape),),
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
                opset_version=MODULE_OPSET,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportFailed(f"torch.onnx cannot export the module: {reason}") from None
    assert program is not None
    return _serialised(program.model_proto, metadata)


def _rename(proto: NodeProto, names: dict[str, str]) -> None:
    for field in (proto.input, proto.output):
        for index, name in enumerate(field):
            field[index] = names.get(name, name)


def _serialised(model: ModelProto, metadata: dict[str, Any]) -> bytes:
    helper.set_model_props(model, {"latbench": json.dumps(metadata, sort_keys=True)})
    return bytes(model.SerializeToString(deterministic=True))
