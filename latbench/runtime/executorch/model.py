"""ExecuTorch with the delegates of its program: an optional extra, `pip install latbench[executorch]`.

Its public Python API copies inputs and results around every call. The method object below that API has inputs
that are set once, so that a run is nothing but the inference.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from latbench.errors import RuntimeFailed
from latbench.runtime.base import Array, Shapes, TensorInfo, check_arrays, settle_shapes
from latbench.runtime.executorch.program import read_pte

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # this API may change: hence the version bounds of the extra
    from executorch.extension.pybindings import portable_lib


class ExecutorchModel:
    """The first method of a .pte file. Raises as `latbench.runtime.registry.load_model`.

    ExecuTorch has one thread pool per process: the last load sets its size.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    coverage: Mapping[str, int]
    engine_threads: int | None

    def __init__(self, path: Path, *, threads: int, input_shapes: Shapes | None) -> None:
        method = read_pte(path)[0]
        self.inputs, self.outputs = method.inputs, method.outputs
        settle_shapes([tensor.shape for tensor in self.inputs], input_shapes)
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
        try:
            self._program = portable_lib._load_program(str(path))
            self._method = self._program.load_method(method.name)
        except RuntimeError as error:
            raise RuntimeFailed(f"ExecuTorch cannot load {path}: {error}") from None
        self.coverage = {
            "delegate_nodes": method.delegate_calls,
            "ops_outside_delegates": method.kernel_calls,
        }
        self.engine_threads = int(portable_lib._threadpool_get_thread_count())
        self.set_inputs([tensor.sample() for tensor in self.inputs])

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        check_arrays(self.inputs, arrays)
        self._arguments = [torch.from_numpy(array.copy()) for array in arrays]
        self._guarded(self._method.set_inputs, self._arguments)

    def run(self) -> None:
        try:
            self._method.execute()
        except RuntimeError as error:
            raise RuntimeFailed(f"ExecuTorch failed: {error}") from None

    def get_outputs(self) -> list[Array]:
        # ExecuTorch may reuse an input's memory for a later result: set the inputs again before computing.
        self._guarded(self._method.set_inputs, self._arguments)
        self.run()
        results = self._guarded(self._method.get_outputs)
        return [result.numpy() for result in results if isinstance(result, torch.Tensor)]

    @staticmethod
    def _guarded(call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RuntimeError as error:
            raise RuntimeFailed(f"ExecuTorch failed: {error}") from None
