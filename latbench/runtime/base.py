"""What a loaded model can do, whatever runtime it runs on."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latbench.errors import BadRequest, LatbenchError

Array = NDArray[Any]
Shapes = Sequence[tuple[int, ...]]


class RuntimeFailed(LatbenchError):
    """A runtime cannot load a model, or cannot run it, or is not installed."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: name, shape in the model's own layout, and dtype by its numpy name.

    `scale` and `zero_point` are those of an integer tensor: real = scale * (stored - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def sample(self, seed: int = 0) -> Array:
        """Return reproducible input, as every runner makes it: see docs/runner-protocol.md.

        Standard normal, quantized where the tensor is stored so, zero for other integers, true for
        flags.
        """
        real = standard_normal(math.prod(self.shape), seed).reshape(self.shape)
        kind = np.dtype(self.dtype)
        if kind.kind not in "iu":
            return real.astype(kind)
        if self.scale is None:  # an index or a flag: 0 is valid whatever it means
            return np.zeros(self.shape, kind)
        limits = np.iinfo(kind)
        stored = np.rint(real / self.scale) + (self.zero_point or 0)
        clipped: Array = np.clip(stored, limits.min, limits.max).astype(kind)
        return clipped


def standard_normal(count: int, seed: int) -> NDArray[np.float64]:
    """Return `count` standard normal numbers, the same in any language; they are read-only.

    Number i is sqrt(-2 ln u) cos(2 pi v) with u = ((b(2i) >> 11) + 1) / 2^53 and
    v = (b(2i + 1) >> 11) / 2^53 (Box and Muller 1958), where b(n) is the n-th output of SplitMix64
    (Steele et al. 2014) from `seed`. runner/core/tensor.c does the same.
    """
    # 200,000 numbers take 20 ms, and a runner fills hundreds of inputs: have sizes that recur.
    return _normals(1 << max(0, count - 1).bit_length(), seed)[:count]


@functools.lru_cache(maxsize=8)
def _normals(count: int, seed: int) -> NDArray[np.float64]:
    # Unsigned 64-bit arithmetic is meant to wrap around; arrays do so without a word.
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

    `coverage` says what runs where, as far as the runtime tells: numbers of ops and delegates.
    `engine_threads` is how many threads the runtime says it computes on, None where it does not.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        """Put `arrays` where `run` reads them; shapes and dtypes must be those of `inputs`.

        Raises:
            BadRequest: they are not.
        """

    def run(self) -> None:
        """Run once, with nothing but the inference inside.

        Raises:
            RuntimeFailed: the runtime says that it failed.
        """

    def get_outputs(self) -> list[Array]:
        """Return copies of what the last run gave."""


def check_arrays(inputs: Sequence[TensorInfo], arrays: Sequence[Array]) -> None:
    """Make sure that `arrays` fit `inputs` in number, shape and dtype.

    Raises:
        BadRequest: one does not; it is named.
    """
    if len(arrays) != len(inputs):
        raise BadRequest(f"the model takes {len(inputs)} inputs, not {len(arrays)}")
    for info, array in zip(inputs, arrays, strict=True):
        if array.shape != info.shape or array.dtype.name != info.dtype:
            raise BadRequest(
                f"input {info.name} is {info.dtype}{list(info.shape)}, "
                f"not {array.dtype.name}{list(array.shape)}"
            )


def settle_shapes(declared: Shapes, asked: Shapes | None) -> list[tuple[int, ...]]:
    """Return the input shapes to load a model with: `asked`, or `declared` with batch 1.

    Args:
        declared: the model's own shapes; a dimension below 1 is dynamic.
        asked: what the user wants, one shape an input.

    Raises:
        BadRequest: `asked` does not fit `declared`, or is needed and not there.
    """
    if asked is None:
        for shape in declared:
            if any(dim < 1 for dim in shape[1:]):
                shown = "x".join(str(dim) if dim > 0 else "?" for dim in shape)
                raise BadRequest(
                    f"the model leaves more than the batch of its input {shown} open",
                    hint="say its shape, like: --input-shape 1x3x224x224",
                )
        return [tuple(max(1, dim) for dim in shape) for shape in declared]
    if len(asked) != len(declared):
        raise BadRequest(
            f"the model takes {len(declared)} inputs, "
            f"but --input-shape was given {len(asked)} times"
        )
    for own, wanted in zip(declared, asked, strict=True):
        fits = len(own) == len(wanted) and all(
            mine < 1 or mine == theirs for mine, theirs in zip(own, wanted, strict=True)
        )
        if not fits or any(dim < 1 for dim in wanted):
            shown = "x".join(str(dim) if dim > 0 else "?" for dim in own)
            raise BadRequest(
                f"--input-shape {'x'.join(map(str, wanted))} does not fit the model's input {shown}"
            )
    return [tuple(shape) for shape in asked]
