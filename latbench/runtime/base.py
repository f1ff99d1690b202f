"""What a loaded model provides, whatever runtime it runs on."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latbench.errors import BadRequest

__all__ = [
    "Array",
    "LoadedModel",
    "Shapes",
    "TensorInfo",
    "check_arrays",
    "require_count",
    "settle_shapes",
    "standard_normal",
]

Array = NDArray[Any]
Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: name, shape in the model's own layout, and dtype by its NumPy name.

    `scale` and `zero_point` are set for quantized tensors: real = scale * (stored - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def sample(self, seed: int = 0) -> Array:
        """Return reproducible input, the same in every runner: see docs/runner-protocol.md.

        Standard normal, quantized for quantized tensors; zeros for other integers; true for booleans.
        """
        real = standard_normal(math.prod(self.shape), seed).reshape(self.shape)
        kind = np.dtype(self.dtype)
        if kind.kind not in "iu":
            return real.astype(kind)
        if self.scale is None:  # an index or a flag: 0 is valid for both
            return np.zeros(self.shape, kind)
        limits = np.iinfo(kind)
        stored = np.rint(real / self.scale) + (self.zero_point or 0)
        clipped: Array = np.clip(stored, limits.min, limits.max).astype(kind)
        return clipped


def standard_normal(count: int, seed: int) -> NDArray[np.float64]:
    """Return `count` standard normal numbers, read-only and the same in any language.

    Number i is sqrt(-2 ln u) cos(2 pi v) with u = ((b(2i) >> 11) + 1) / 2^53 and
    v = (b(2i + 1) >> 11) / 2^53 (Box and Muller 1958), where b(n) is the n-th output of SplitMix64
    (Steele et al. 2014) with `seed`. runner/core/tensor.c does the same.
    """
    # 200,000 numbers take 20 ms and a runner fills hundreds of inputs: rounded sizes hit the cache.
    return _normals(1 << max(0, count - 1).bit_length(), seed)[:count]


@functools.lru_cache(maxsize=8)
def _normals(count: int, seed: int) -> NDArray[np.float64]:
    # Unsigned 64-bit arithmetic must wrap around; arrays do so without a warning.
    steps = np.arange(1, 2 * count + 1, dtype=np.uint64)
    bits = np.uint64(seed) + steps * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mantissas = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64)
    u, v = (mantissas[::2] + 1) / 2**53, mantissas[1::2] / 2**53
    normals: NDArray[np.float64] = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    normals.flags.writeable = False
    return normals


class LoadedModel(Protocol):
    """A model in a runtime, ready to run. Not thread-safe.

    `coverage` counts ops and delegates, where the runtime reports them; it is empty otherwise.
    `engine_threads` is the number of threads that the runtime reports to compute on; None if it does not.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        """Copy `arrays` to where `run` reads them; shapes and dtypes must be those of `inputs`.

        Raises:
            BadRequest: they are not.
        """

    def run(self) -> None:
        """Run one inference and nothing else: this is what is timed.

        Raises:
            RuntimeFailed: the runtime reports an error.
        """

    def get_outputs(self) -> list[Array]:
        """Return copies of the outputs of the last run."""


def check_arrays(inputs: Sequence[TensorInfo], arrays: Sequence[Array]) -> None:
    """Check that `arrays` fit `inputs` in number, shape and dtype.

    Raises:
        BadRequest: one does not; it is named.
    """
    if len(arrays) != len(inputs):
        raise BadRequest(f"the model takes {_inputs(len(inputs))}, not {len(arrays)}")
    for info, array in zip(inputs, arrays, strict=True):
        if array.shape != info.shape or array.dtype.name != info.dtype:
            raise BadRequest(
                f"input {info.name} is {info.dtype}{list(info.shape)}, "
                f"not {array.dtype.name}{list(array.shape)}"
            )


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def settle_shapes(declared: Shapes, requested: Shapes | None) -> list[tuple[int, ...]]:
    """Return the input shapes to load a model with: `requested`, or `declared` with batch 1.

    Args:
        declared: the model's own shapes; a dimension below 1 is dynamic.
        requested: by the user, one shape per input.

    Raises:
        BadRequest: `requested` does not fit `declared`, or is missing where it is needed.
    """
    if requested is None:
        for shape in declared:
            if any(dim < 1 for dim in shape[1:]):
                raise BadRequest(
                    f"the model's input {_shown(shape)} has dynamic dimensions besides the batch",
                    hint="add its shape, like: --input-shape 1x3x224x224",
                )
        return [tuple(max(1, dim) for dim in shape) for shape in declared]
    require_count(len(declared), len(requested))
    for own, new in zip(declared, requested, strict=True):
        fits = len(own) == len(new) and all(
            mine < 1 or mine == theirs for mine, theirs in zip(own, new, strict=True)
        )
        if not fits or any(dim < 1 for dim in new):
            raise BadRequest(
                f"--input-shape {_shown(new)} does not fit the model's input {_shown(own)}"
            )
    return [tuple(shape) for shape in requested]


def require_count(inputs: int, shapes: int) -> None:
    """Check that there is one shape per input.

    Raises:
        BadRequest: there is not.
    """
    if inputs != shapes:
        times = "once" if shapes == 1 else f"{shapes} times"
        raise BadRequest(f"the model takes {_inputs(inputs)}, but --input-shape was given {times}")


def _shown(shape: Sequence[int]) -> str:
    return "x".join(str(dim) if dim > 0 else "?" for dim in shape)
