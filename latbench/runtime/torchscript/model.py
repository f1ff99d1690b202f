"""TorchScript on PyTorch's JIT interpreter.

Files of `latbench export` contain `latbench.json` (`latbench.runtime.torchscript.metadata`). A file of
another origin does not declare its input shapes; the user must.
"""

import ctypes
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from latbench.errors import BadRequest, RuntimeFailed
from latbench.runtime.base import Array, Shapes, TensorInfo, check_arrays, require_count
from latbench.runtime.torchscript.metadata import METADATA_FILE

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
_KEPT_BYTES = 32 << 20  # the largest mmap threshold that 64-bit glibc accepts


class TorchscriptModel:
    """A TorchScript file in this process's JIT. Raises as `latbench.runtime.registry.load_model`."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def __init__(self, path: Path, *, threads: int, input_shapes: Shapes | None) -> None:
        torch.set_num_threads(threads)
        extra: dict[str, Any] = {METADATA_FILE: ""}
        try:
            # torch.jit.load has no annotations.
            module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise RuntimeFailed(f"{path} is not a TorchScript model: {_gist(error)}") from None
        self._forward = module.eval().forward
        description = _description(path, extra[METADATA_FILE])
        self.inputs = _inputs(path, description, input_shapes)
        self.outputs = tuple(map(_info, description.get("outputs", ())))
        self._arguments = [torch.from_numpy(info.sample()) for info in self.inputs]
        self._result: Any = None
        self.coverage = {}
        # PyTorch starts its threads with the first parallel work: start them now, so that they are
        # counted after loading.
        torch.ones(1 << 18).sin_()
        self.engine_threads = torch.get_num_threads()

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        check_arrays(self.inputs, arrays)
        self._arguments = [torch.from_numpy(array.copy()) for array in arrays]

    @torch.inference_mode()
    def run(self) -> None:
        try:
            self._result = self._forward(*self._arguments)
        except (RuntimeError, TypeError, torch.jit.Error) as error:
            raise RuntimeFailed(f"TorchScript failed: {_gist(error)}") from None

    def get_outputs(self) -> list[Array]:
        return [tensor.numpy().copy() for tensor in _tensors(self._result)]


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system.

    PyTorch allocates every intermediate result; fresh memory from mmap makes timings vary by a factor of
    two to five. Without glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _description(path: Path, text: str | bytes) -> dict[str, Any]:
    if not text:
        return {}
    try:
        description = json.loads(text)
    except ValueError as error:
        raise RuntimeFailed(f"{path}: its {METADATA_FILE} is not JSON: {error}") from None
    if not isinstance(description, dict):
        raise RuntimeFailed(f"{path}: its {METADATA_FILE} is not an object")
    return description


def _inputs(
    path: Path, description: Mapping[str, Any], shapes: Shapes | None
) -> tuple[TensorInfo, ...]:
    try:
        described = tuple(map(_info, description.get("inputs", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeFailed(f"{path}: its {METADATA_FILE} is damaged: {error!r}") from None
    if shapes is None:
        if not described:
            raise BadRequest(
                f"{path} does not declare its inputs",
                hint="add one shape per input, like: --input-shape 1x3x224x224",
            )
        return described
    if described:
        require_count(len(described), len(shapes))
    if any(dim < 1 for shape in shapes for dim in shape):
        raise BadRequest("--input-shape must have dimensions of at least 1")
    return tuple(
        TensorInfo(
            name=described[place].name if described else f"input{place}",
            shape=tuple(shape),
            dtype=described[place].dtype if described else "float32",
        )
        for place, shape in enumerate(shapes)
    )


def _info(tensor: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(
        str(tensor["name"]), tuple(int(dim) for dim in tensor["shape"]), str(tensor["dtype"])
    )


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [tensor for part in result for tensor in _tensors(part)]
    return []


def _gist(error: Exception) -> str:
    """The error itself, without the traceback that the JIT puts before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [
        line for line in lines if line.startswith(("RuntimeError", "Error", "PytorchStreamReader"))
    ]
    return errors[-1] if errors else (lines or [type(error).__name__])[0]
