"""The inference runtimes: load a model, run it, and say exactly which library did.

Engines are imported when the first model of theirs is loaded, so that importing this package, and
starting a worker that will run one of them, stays cheap.
"""

import functools
import hashlib
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

from latbench.errors import BadRequest, UnknownName
from latbench.runtime.base import LoadedModel, RuntimeFailed, TensorInfo
from latbench.runtime.formats import Runtime

__all__ = [
    "LoadedModel",
    "RuntimeFailed",
    "TensorInfo",
    "describe_model",
    "import_engine",
    "load_model",
    "runtime_library",
    "runtime_version",
]

#: For each runtime, the distributions that hold it, best first: name, import name, and the patterns
#: of the library that computes (Linux, macOS, Windows).
_DISTRIBUTIONS: dict[Runtime, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    Runtime.TFLITE: (
        (
            "ai-edge-litert",
            "ai_edge_litert",
            ("*pywrap_litert_common.*", "_pywrap_*interpreter_wrapper*"),
        ),
        ("tflite-runtime", "tflite_runtime", ("_pywrap_*interpreter_wrapper*",)),
    ),
    Runtime.ONNX: (("onnxruntime", "onnxruntime", ("capi/onnxruntime_pybind11_state*",)),),
    Runtime.TORCHSCRIPT: (("torch", "torch", ("lib/*torch_cpu.*",)),),
    # The package itself is a namespace, which has no file. XNNPACK computes what we export.
    Runtime.EXECUTORCH: (
        ("executorch", "executorch.version", ("lib/*executorch_backend_xnnpack.*",)),
    ),
}

#: What to install where it is not just the distribution.
_EXTRAS = {Runtime.EXECUTORCH: "latbench[executorch]"}


def load_model(
    runtime: Runtime,
    path: Path,
    *,
    threads: int = 1,
    accelerator: str = "cpu",
    input_shapes: Sequence[tuple[int, ...]] | None = None,
) -> LoadedModel:
    """Load the model in `path` into `runtime`, ready to run.

    Args:
        threads: how many threads one run may compute on. TorchScript and ExecuTorch have one such
            number a process: the last load sets it.
        accelerator: what to run on; the runtimes of this version run on "cpu".
        input_shapes: one shape an input. Without it a dynamic dimension becomes 1, and a
            TorchScript file that says nothing of its inputs is refused.

    Raises:
        BadRequest: there is no such file, `input_shapes` are missing or do not fit, or `threads`
            is no positive number.
        UnknownName: there is no such accelerator.
        RuntimeFailed: the file is no model of this runtime, or the runtime cannot run it or is
            not installed.
    """
    if threads < 1:
        raise BadRequest(f"{threads} threads make no sense")
    if accelerator != "cpu":
        raise UnknownName("accelerator", accelerator, ("cpu",))
    if not path.is_file():
        raise BadRequest(f"there is no file {path}")
    import_engine(runtime)
    if runtime is Runtime.TFLITE:
        from latbench.runtime.tflite.model import TfliteModel

        return TfliteModel(path, threads=threads, input_shapes=input_shapes)
    if runtime is Runtime.ONNX:
        from latbench.runtime.onnx.model import OnnxModel

        return OnnxModel(path, threads=threads, input_shapes=input_shapes)
    if runtime is Runtime.EXECUTORCH:
        from latbench.runtime.executorch.model import ExecutorchModel

        return ExecutorchModel(path, threads=threads, input_shapes=input_shapes)
    from latbench.runtime.torchscript.model import TorchscriptModel

    return TorchscriptModel(path, threads=threads, input_shapes=input_shapes)


def describe_model(
    runtime: Runtime, path: Path, input_shapes: Sequence[tuple[int, ...]] | None = None
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return the inputs and outputs of the model in `path`.

    ExecuTorch's programs say it themselves, so that extra is not needed; others are loaded.

    Raises:
        BadRequest, RuntimeFailed: as `load_model`.
    """
    if runtime is Runtime.EXECUTORCH:
        from latbench.runtime.base import settle_shapes
        from latbench.runtime.executorch.program import read_pte

        method = read_pte(path)[0]
        settle_shapes([tensor.shape for tensor in method.inputs], input_shapes)
        return method.inputs, method.outputs
    model = load_model(runtime, path, input_shapes=input_shapes)
    return model.inputs, model.outputs


def import_engine(runtime: Runtime) -> None:
    """Import the engine of `runtime`, which takes up to seconds, so that loading then does not.

    Raises:
        RuntimeFailed: it is not installed, or its library cannot be loaded.
    """
    name, _, _ = _distribution(runtime)
    try:
        import_module(f"latbench.runtime.{runtime.value}.model")
    except ImportError as error:
        raise RuntimeFailed(
            f"the runtime {runtime} cannot be loaded: {error}",
            hint=f"install it again with: pip install --force-reinstall {name}",
        ) from None


@functools.cache
def runtime_version(runtime: Runtime) -> str:
    """Return the version of the installed runtime, such as '1.32.0'.

    Raises:
        RuntimeFailed: it is not installed.
    """
    return metadata.version(_distribution(runtime)[0])


@functools.cache
def runtime_library(runtime: Runtime) -> tuple[str, str]:
    """Return the file name and the SHA-256 of the library that computes.

    The first call of a process reads the whole library (TorchScript's is 0.4 GB: about 0.4 s).

    Raises:
        RuntimeFailed: the runtime is not installed, or not as its wheel installs it.
    """
    distribution, package, patterns = _distribution(runtime)
    spec_file = import_module(package).__file__
    assert spec_file is not None, f"{package} is no namespace package"
    folder = Path(spec_file).parent
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.suffix in {".so", ".dylib", ".dll", ".pyd"}:
                with path.open("rb") as file:
                    return path.name, hashlib.file_digest(file, "sha256").hexdigest()
    raise RuntimeFailed(
        f"{distribution} holds no library {' or '.join(patterns)}",
        hint=f"install it again with: pip install --force-reinstall {distribution}",
    )


@functools.cache  # every load asks, and reading what is installed takes longer than loading a model
def _distribution(runtime: Runtime) -> tuple[str, str, tuple[str, ...]]:
    if runtime not in _DISTRIBUTIONS:
        raise RuntimeFailed(
            "this machine does not run Core ML packages", hint="measure them on an iPhone"
        )
    for choice in _DISTRIBUTIONS[runtime]:
        try:
            metadata.version(choice[0])
        except metadata.PackageNotFoundError:
            continue
        return choice
    wanted = _DISTRIBUTIONS[runtime][0][0]
    raise RuntimeFailed(
        f"the runtime {runtime} is not installed",
        hint=f"pip install {_EXTRAS.get(runtime, wanted)}",
    )
