"""ONNX Runtime on its CPU provider, with inputs and outputs bound before the run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from latbench.errors import BadRequest, RuntimeFailed
from latbench.runtime.base import Array, Shapes, TensorInfo, check_arrays, settle_shapes

# The only common base of its exceptions is Exception.
_ERRORS: tuple[type[Exception], ...] = (
    state.EPFail,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoModel,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
    ValueError,
)

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{kind: kind for kind in ("int8", "int16", "int32", "int64")},
    **{kind: kind for kind in ("uint8", "uint16", "uint32", "uint64")},
}


class OnnxModel:
    """An .onnx file in a session. Raises as `latbench.runtime.registry.load_model`."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def __init__(self, path: Path, *, threads: int, input_shapes: Shapes | None) -> None:
        onnxruntime.set_default_logger_severity(3)
        session = _session(path, threads, {})
        declared = [_dims(node.shape) for node in session.get_inputs()]
        shapes = settle_shapes(declared, input_shapes)
        symbols = _symbols(session.get_inputs(), shapes)
        if symbols:
            session = _session(path, threads, symbols)
        self._session = session
        self.inputs = tuple(
            TensorInfo(node.name, shape, _dtype(node))
            for node, shape in zip(session.get_inputs(), shapes, strict=True)
        )
        self.outputs = self._settle_outputs()
        self.coverage = {}
        self.engine_threads = None
        self._bind()

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        check_arrays(self.inputs, arrays)
        for value, array in zip(self._input_values, arrays, strict=True):
            value.update_inplace(np.ascontiguousarray(array))

    def run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except _ERRORS as error:
            raise RuntimeFailed(f"ONNX Runtime failed: {_first_line(error)}") from None

    def get_outputs(self) -> list[Array]:
        return [np.array(value.numpy()) for value in self._output_values]

    def _settle_outputs(self) -> tuple[TensorInfo, ...]:
        nodes = self._session.get_outputs()
        shapes = [_dims(node.shape) for node in nodes]
        if any(dim < 1 for shape in shapes for dim in shape):
            # Shapes that depend on values are known only after a run.
            feed = {info.name: info.sample() for info in self.inputs}
            try:
                shapes = [array.shape for array in self._session.run(None, feed)]
            except _ERRORS as error:
                raise RuntimeFailed(f"ONNX Runtime failed: {_first_line(error)}") from None
        return tuple(
            TensorInfo(node.name, tuple(shape), _dtype(node))
            for node, shape in zip(nodes, shapes, strict=True)
        )

    def _bind(self) -> None:
        self._binding = self._session.io_binding()
        self._input_values, self._output_values = [], []
        for info in self.inputs:
            value = onnxruntime.OrtValue.ortvalue_from_numpy(info.sample())
            self._binding.bind_ortvalue_input(info.name, value)
            self._input_values.append(value)
        for info in self.outputs:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(info.shape, info.dtype)
            self._binding.bind_ortvalue_output(info.name, value)
            self._output_values.append(value)


def _session(path: Path, threads: int, symbols: Mapping[str, int]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin after a run would slow down the next model.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, value in symbols.items():
        options.add_free_dimension_override_by_name(name, value)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _ERRORS as error:
        raise RuntimeFailed(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from None


def _symbols(nodes: Sequence[Any], shapes: Shapes) -> dict[str, int]:
    """The value of each named dynamic dimension.

    Raises:
        BadRequest: a name would have two values.
    """
    symbols: dict[str, int] = {}
    for node, shape in zip(nodes, shapes, strict=True):
        for dim, value in zip(node.shape, shape, strict=True):
            if isinstance(dim, str) and symbols.setdefault(dim, value) != value:
                raise BadRequest(
                    f"--input-shape sets dimension {dim} to both {symbols[dim]} and {value}"
                )
    return symbols


def _dims(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape)


def _dtype(node: Any) -> str:
    match = re.fullmatch(r"tensor\((\w+)\)", node.type)
    if match is None or match[1] not in _DTYPES:
        raise BadRequest(f"latbench cannot fill {node.name}, a {node.type}")
    return _DTYPES[match[1]]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
