"""Write a graph as ONNX: fp32, or int8 in the QuantizeLinear/DequantizeLinear form.

Opset 17 is the newest that every ONNX Runtime since 1.12 reads, including those of phones.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latbench.graph.lowering import Add, Conv, Graph, Linear, Node, Pool, Shuffle
from latbench.graph.quantize import Quantization

OPSET = 17
IR_VERSION = 8


class _Writer:
    """Collects nodes and initializers; in int8 every value is quantized and dequantized."""

    def __init__(self, graph: Graph, quantization: Quantization | None) -> None:
        self.graph, self.quantization = graph, quantization
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

    def weights(self, node: Conv | Linear) -> list[str]:
        """The names of the node's float weight and bias."""
        if self.quantization is None:
            return [
                self.constant(f"{node.output}.weight", node.weight),
                self.constant(f"{node.output}.bias", node.bias),
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
        """Add `node`, and in int8 the rounding of its value."""
        result = node.output if self.quantization is None else f"{node.output}.real"
        shape = self.graph.shapes[node.input]
        match node:
            case Conv():
                convolved = f"{node.output}.convolved" if node.relu else result
                kernel = node.weight.shape[-1]
                self.add(
                    "Conv",
                    [node.input, *self.weights(node)],
                    convolved,
                    kernel_shape=[kernel, kernel],
                    strides=[node.stride] * 2,
                    pads=[node.padding] * 4,
                    group=node.groups,
                )
                if node.relu:
                    self.add("Relu", [convolved], result)
            case Shuffle():
                n, c, h, w = shape
                split = np.array([n, node.groups, c // node.groups, h, w], np.int64)
                names = [f"{node.output}.split", f"{node.output}.swapped"]
                shapes = [
                    self.constant(f"{node.output}.split_shape", split),
                    self.constant(f"{node.output}.shape", np.array(shape, np.int64)),
                ]
                self.add("Reshape", [node.input, shapes[0]], names[0])
                self.add("Transpose", [names[0]], names[1], perm=[0, 2, 1, 3, 4])
                self.add("Reshape", [names[1], shapes[1]], result)
            case Add():
                self.add("Add", [node.input, node.other], result)
            case Pool():
                pooled = self.add("GlobalAveragePool", [node.input], f"{node.output}.pooled")
                self.add("Flatten", [pooled], result)
            case Linear():
                self.add("Gemm", [node.input, *self.weights(node)], result, transB=1)
        if self.quantization is not None:
            self.round(result, node.output)

    def round(self, real: str, name: str) -> None:
        """Quantize `real` and dequantize it again as `name`; the int8 output is left quantized."""
        scale = self.scale(name)
        stored = self.add("QuantizeLinear", [real, *scale], f"{name}.stored")
        self.add("DequantizeLinear", [stored, *scale], name)


def write_onnx(graph: Graph, metadata: dict[str, Any], quantization: Quantization | None) -> bytes:
    """Return the bytes of the ONNX model of `graph`.

    The input is called 'input' and the output 'output', NCHW at batch 1; int8 models take and return
    int8. `metadata` is stored in the model's metadata_props under 'latbench', as JSON.
    """
    writer = _Writer(graph, quantization)
    kind = TensorProto.FLOAT if quantization is None else TensorProto.INT8
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


def _rename(proto: NodeProto, names: dict[str, str]) -> None:
    for field in (proto.input, proto.output):
        for index, name in enumerate(field):
            field[index] = names.get(name, name)


def _serialised(model: ModelProto, metadata: dict[str, Any]) -> bytes:
    helper.set_model_props(model, {"latbench": json.dumps(metadata, sort_keys=True)})
    return bytes(model.SerializeToString(deterministic=True))
