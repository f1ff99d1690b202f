"""ONNX Runtime on its CPU provider, with inputs and outputs bound before the run."""

import contextlib
import os
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

_SAVING_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, OSError)

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{kind: kind for kind in ("int8", "int16", "int32", "int64")},
    **{kind: kind for kind in ("uint8", "uint16", "uint32", "uint64")},
}


class OnnxModel:
    """An .onnx file in a session. Raises as `latbench.runtime.registry.load_model`.

    Args:
        prepared: the file of the graph as ONNX Runtime optimised it: it is written if there is none, and
            loaded in place of `path` otherwise. It holds what is best on this machine.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        input_shapes: Shapes | None,
        prepared: Path | None = None,
    ) -> None:
        onnxruntime.set_default_logger_severity(3)
        session = _prepared_session(prepared, threads) or _session(path, threads, {}, prepared)
        declared = [_dims(node.shape) for node in session.get_inputs()]
        shapes = settle_shapes(declared, input_shapes)
        symbols = _symbols(session.get_inputs(), shapes)
        if symbols:
            session = _session(path, threads, symbols, prepared)
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


def _session(
    path: Path, threads: int, symbols: Mapping[str, int], prepared: Path | None = None
) -> Any:
    options = _options(threads)
    for name, value in symbols.items():
        options.add_free_dimension_override_by_name(name, value)
    if prepared is not None and (session := _saving_session(path, options, prepared)) is not None:
        return session
    try:
        return _open(path, options)
    except _ERRORS as error:
        raise RuntimeFailed(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from None


def _saving_session(path: Path, options: Any, prepared: Path) -> Any:
    """The session of `path`, after its optimised graph was written to `prepared`; None if that fails.

    It is written in ORT's own format, which keeps the order of the nodes. After ONNX's they run in another
    one: weights of int8 models are then dequantised just before their use.
    """
    unfinished = prepared.with_name(f"{prepared.name}.{os.getpid()}")
    options.optimized_model_filepath = str(unfinished)
    options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        session = _open(path, options)
        unfinished.replace(prepared)
    except _SAVING_ERRORS:  # the folder is gone, or the disk is full; or no model is in `path`
        session = None
        with contextlib.suppress(OSError):
            unfinished.unlink()
    options.optimized_model_filepath = ""
    return session


def _prepared_session(prepared: Path | None, threads: int) -> Any:
    """The session of the optimised graph in `prepared`; None if there is none that can be loaded."""
    if prepared is None or not prepared.is_file():
        return None
    options = _options(threads)
    options.add_session_config_entry("session.load_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return _open(prepared, options)
    except _ERRORS:
        return None


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin after a run would slow down the next model.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _open(path: Path, options: Any) -> Any:
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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
