"""Small real models of every runtime, well-behaved and not."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from latbench.target import Runtime

WEIGHT = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)  # OIHW


def convolve(image: np.ndarray) -> np.ndarray:
    """The function of every model here: 3x3 convolution of an NCHW image, padding 1."""
    with torch.inference_mode():
        result = torch.nn.functional.conv2d(
            torch.from_numpy(image), torch.from_numpy(WEIGHT), padding=1
        )
    return result.numpy()


class Endless(torch.nn.Module):
    """A model that never ends."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = 0
        while True:
            n += 1
        return x + n


class Wild(torch.nn.Module):
    """A model that reads where there is no memory, and so takes its process with it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten._reshape_alias(x, [1 << 20], [1 << 40]).sum()


class Noisy(torch.nn.Module):
    """A model that prints to the standard output in every run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print('{"id": 3, "ok": true} not a reply')
        return x + 1


class Failing(torch.nn.Module):
    """A model that loads, and fails when it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.size(0) == 17, "seventeen it must be"
        return x


@dataclass(frozen=True)
class Models:
    """Paths of model files. `of` holds the same convolution for each runtime."""

    of: dict[Runtime, Path]
    dynamic_onnx: Path
    dynamic_tflite: Path
    computed_shape_onnx: Path
    foreign: Path
    endless: Path
    wild: Path
    noisy: Path
    failing: Path


def write_models(folder: Path) -> Models:
    """Write every model below `folder`."""
    return Models(
        of={
            Runtime.TFLITE: _tflite(folder / "conv.tflite"),
            Runtime.ONNX: _onnx(folder / "conv.onnx", batch=1),
            Runtime.TORCHSCRIPT: _torchscript(folder / "conv.pt", described=True),
            Runtime.EXECUTORCH: _executorch(folder / "conv.pte"),
        },
        dynamic_onnx=_onnx(folder / "dynamic.onnx", batch="N"),
        dynamic_tflite=_tflite(folder / "dynamic.tflite", dynamic=True),
        computed_shape_onnx=_nonzero_onnx(folder / "computed.onnx"),
        foreign=_torchscript(folder / "foreign.pt", described=False),
        endless=_scripted(Endless(), folder / "endless.pt"),
        wild=_scripted(Wild(), folder / "wild.pt"),
        noisy=_scripted(Noisy(), folder / "noisy.pt"),
        failing=_scripted(Failing(), folder / "failing.pt"),
    )


def _onnx(path: Path, batch: int | str) -> Path:
    node = helper.make_node("Conv", ["image", "weight"], ["result"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [batch, 4, 8, 8])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    return _save_onnx(graph, path)


def _nonzero_onnx(path: Path) -> Path:
    """A model whose output shape depends on the input's values."""
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["places"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])],
        [helper.make_tensor_value_info("places", TensorProto.INT64, [1, "count"])],
    )
    return _save_onnx(graph, path)


def write_wide_onnx(path: Path) -> Path:
    """A model of one number whose output, the number 4 million times, is longer than a reply."""
    count = 4_000_000
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [count])],
        [numpy_helper.from_array(np.array([count], np.int64), "shape")],
    )
    return _save_onnx(graph, path)


def _save_onnx(graph: Any, path: Path) -> Path:
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))
    return path


def _torchscript(path: Path, *, described: bool) -> Path:
    module = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False).eval()
    module.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT), requires_grad=False)
    frozen = torch.jit.freeze(torch.jit.trace(module, torch.zeros(1, 3, 8, 8)))
    description = {
        "inputs": [{"name": "image", "shape": [1, 3, 8, 8], "dtype": "float32"}],
        "outputs": [{"name": "result", "shape": [1, 4, 8, 8], "dtype": "float32"}],
    }
    extra = {"latbench.json": json.dumps(description)} if described else {}
    torch.jit.save(frozen, str(path), _extra_files=extra)
    return path


def _executorch(path: Path) -> Path:
    """What executorch 1.5.1 wrote by latbench's writer; the extra need not be installed."""
    shutil.copyfile(Path(__file__).parent / "data" / "conv.pte", path)
    return path


def _scripted(module: torch.nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(module), str(path))
    return path


def _tflite(path: Path, *, dynamic: bool = False) -> Path:
    weight = _buffer(WEIGHT.transpose(0, 2, 3, 1))  # OHWI
    bias = _buffer(np.zeros(4, np.float32))
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [
        _tensor("image", [1, 8, 8, 3], 0, [-1, 8, 8, 3] if dynamic else None),
        _tensor("weight", [4, 3, 3, 3], 1),
        _tensor("bias", [4], 2),
        _tensor("result", [1, 8, 8, 4], 0, [-1, 8, 8, 4] if dynamic else None),
    ]
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.dilationHFactor = options.dilationWFactor = 1
    options.padding = schema.Padding.SAME
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options
    graph.operators = [operator]
    graph.inputs, graph.outputs = [0], [3]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes, model.subgraphs = [code], [graph]
    model.buffers = [schema.BufferT(), weight, bias]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _buffer(array: np.ndarray) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    return buffer


def _tensor(name: str, shape: list[int], buffer: int, signature: list[int] | None = None) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = schema.TensorType.FLOAT32
    if signature is not None:
        tensor.shapeSignature = signature
    return tensor
