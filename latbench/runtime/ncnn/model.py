"""ncnn on the CPU: an optional extra, `pip install latbench[ncnn]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from latbench.errors import BadRequest, RuntimeFailed
from latbench.runtime.base import (
    Array,
    Shapes,
    TensorInfo,
    check_arrays,
    require_count,
    settle_shapes,
)
from latbench.runtime.ncnn.files import shapes_in, unpacked

_DIMENSIONS = (1, 4)  # the least and the most that an ncnn.Mat has


class NcnnModel:
    """An artifact, or a .param with its .bin. Raises as `latbench.runtime.registry.load_model`.

    ncnn's tensors have no batch: inputs and outputs have a batch of 1 here, and none in ncnn.

    Args:
        prepared: a folder in which the files of an artifact stay unpacked.
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
        self._results: list[Any] = []
        self._arguments: list[Any] = []
        self._net = net = ncnn.Net()
        # As in ncnn's own benchmark: without pools every layer would allocate memory from the system.
        self._allocators = (ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator())
        net.opt.blob_allocator, net.opt.workspace_allocator = self._allocators
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        # By default ncnn stores and computes in 16 bits where the CPU can.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        with unpacked(path, prepared) as (param, weights):
            shapes = shapes_in(path, param)
            if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
                raise RuntimeFailed(f"ncnn cannot load {path}")
        self.inputs = _inputs(path, net.input_names(), shapes, input_shapes)
        self._given, self._made = net.input_indexes(), net.output_indexes()
        self.coverage = {}
        self.engine_threads = int(net.opt.num_threads)
        self.set_inputs([tensor.sample() for tensor in self.inputs])
        self.run()  # the shapes of outputs are known only after a run
        self.outputs = tuple(
            TensorInfo(name, array.shape, array.dtype.name)
            for name, array in zip(net.output_names(), self.get_outputs(), strict=True)
        )

    def __del__(self) -> None:
        # The allocators must outlive all that they allocated, in whatever order Python releases them.
        self._results.clear()
        self._net.clear()

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        check_arrays(self.inputs, arrays)
        # A Mat made of an array refers to it; the clone owns its memory, aligned as ncnn does.
        self._arguments = [ncnn.Mat(np.ascontiguousarray(array[0])).clone() for array in arrays]

    def run(self) -> None:
        # An extractor keeps every value that it computed, so each run takes a new one, which is cheap.
        extractor = self._net.create_extractor()
        for index, argument in zip(self._given, self._arguments, strict=True):
            extractor.input(index, argument)
        self._results.clear()
        for index in self._made:
            status, result = extractor.extract(index)
            if status != 0:
                extractor.clear()  # a traceback may keep it longer than the allocators
                raise RuntimeFailed(f"ncnn failed with status {status}")
            self._results.append(result)

    def get_outputs(self) -> list[Array]:
        return [np.array(result)[None] for result in self._results]


def _inputs(
    path: Path, names: Sequence[str], declared: Shapes | None, requested: Shapes | None
) -> tuple[TensorInfo, ...]:
    if declared is not None:
        shapes = settle_shapes(declared, requested)
    elif requested is None:
        raise BadRequest(
            f"{path} does not declare its inputs",
            hint="add one shape per input, like: --input-shape 1x3x224x224",
        )
    else:
        shapes = [tuple(shape) for shape in requested]
    require_count(len(names), len(shapes))
    least, most = _DIMENSIONS
    for shape in shapes:
        if shape[0] != 1 or not least <= len(shape) - 1 <= most:
            raise BadRequest(
                "ncnn takes a batch of 1 and 1 to 4 more dimensions, "
                f"got --input-shape {'x'.join(map(str, shape))}"
            )
    return tuple(
        TensorInfo(name, shape, "float32") for name, shape in zip(names, shapes, strict=True)
    )
