"""LiteRT (TensorFlow Lite) with its default XNNPACK delegate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latbench.errors import BadRequest, RuntimeFailed
from latbench.runtime.base import Array, Shapes, TensorInfo, check_arrays, settle_shapes

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter

_FILE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer


class TfliteModel:
    """A .tflite file in the interpreter. Raises as `latbench.runtime.registry.load_model`."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def __init__(self, path: Path, *, threads: int, input_shapes: Shapes | None) -> None:
        with path.open("rb") as file:
            if file.read(8)[4:] != _FILE_IDENTIFIER:
                raise RuntimeFailed(f"{path} is not a TFLite model")
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            details = self._interpreter.get_input_details()
            declared = [
                tuple(map(int, detail.get("shape_signature", detail["shape"])))
                for detail in details
            ]
            shapes = settle_shapes(declared, input_shapes)
            for detail, shape in zip(details, shapes, strict=True):
                if tuple(detail["shape"]) != shape:
                    self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RuntimeFailed(f"LiteRT cannot load {path}: {error}") from None
        details = self._interpreter.get_input_details()
        self.inputs = tuple(map(_info, details))
        self._input_indices = [detail["index"] for detail in details]
        details = self._interpreter.get_output_details()
        self.outputs = tuple(map(_info, details))
        self._output_indices = [detail["index"] for detail in details]
        self.engine_threads = None
        self.coverage = _coverage(self._interpreter, self._output_indices)

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        check_arrays(self.inputs, arrays)
        for index, array in zip(self._input_indices, arrays, strict=True):
            self._interpreter.set_tensor(index, array)

    def run(self) -> None:
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise RuntimeFailed(f"LiteRT failed: {error}") from None

    def get_outputs(self) -> list[Array]:
        return [self._interpreter.get_tensor(index) for index in self._output_indices]


def _info(detail: Mapping[str, Any]) -> TensorInfo:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "fiubc":
        raise BadRequest(f"latbench cannot fill {detail['name']}, a tensor of {dtype}")
    scale, zero_point = detail["quantization"]
    quantized = dtype.kind in "iu" and scale > 0
    return TensorInfo(
        name=detail["name"],
        shape=tuple(map(int, detail["shape"])),
        dtype=dtype.name,
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )


def _coverage(interpreter: Any, outputs: Sequence[int]) -> dict[str, int]:
    """Count the ops of the model, the delegate's nodes, and the ops left to the interpreter.

    The interpreter lists replaced ops beside the delegate nodes that replace them. The ops that still run
    are those reachable from the outputs, with a delegate node as the preferred producer of a tensor.
    """
    # `_get_ops_details` describes every tensor of every op too, which takes half the time of a load.
    nodes = interpreter._interpreter
    delegated = [nodes.NodeName(op) == "DELEGATE" for op in range(nodes.NumNodes())]
    producers: dict[int, int] = {}
    for op in sorted(range(len(delegated)), key=delegated.__getitem__):
        producers.update(dict.fromkeys(map(int, nodes.NodeOutputs(op)), op))
    running: set[int] = set()
    pending = list(outputs)
    while pending:
        producer = producers.get(int(pending.pop()))
        if producer is not None and producer not in running:
            running.add(producer)
            pending.extend(nodes.NodeInputs(producer))
    delegates = sum(delegated[op] for op in running)
    return {
        "ops": delegated.count(False),
        "delegate_nodes": delegates,
        "ops_outside_delegates": len(running) - delegates,
    }
