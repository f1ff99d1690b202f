"""The registry of runtimes: find a descriptor, load a model, and report exactly which library runs it.

Engines are imported when the first model of theirs is loaded, so importing this module is cheap.
"""

import functools
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import BadRequest, RuntimeFailed, UnknownName
from latbench.runtime.descriptor import Distribution, RuntimeDescriptor
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from latbench.runtime.base import LoadedModel, TensorInfo

__all__ = [
    "HOST_RUNTIMES",
    "describe_model",
    "descriptor",
    "import_engine",
    "is_installed",
    "load_model",
    "model_suffixes",
    "require_format",
    "runtime_library",
    "runtime_of",
    "runtime_version",
]


@functools.cache
def descriptor(runtime: Runtime) -> RuntimeDescriptor:
    """Return the descriptor of `runtime`."""
    found = import_module(f"latbench.runtime.{runtime.value}").DESCRIPTOR
    assert isinstance(found, RuntimeDescriptor), f"{runtime} has no descriptor"
    return found


#: The runtimes that latbench's own dependencies install on this machine.
HOST_RUNTIMES = tuple(
    runtime
    for runtime in Runtime
    if descriptor(runtime).runs_here and descriptor(runtime).extra is None
)


def model_suffixes() -> tuple[str, ...]:
    """Return the file name suffixes of every runtime's models, each with its dot."""
    return tuple(suffix for runtime in Runtime for suffix in descriptor(runtime).suffixes)


def runtime_of(path: Path) -> Runtime:
    """Return the runtime that a model file is for, by its suffix; case does not matter.

    Raises:
        BadRequest: no runtime has that suffix.
    """
    for runtime in Runtime:
        if path.name.lower().endswith(descriptor(runtime).suffixes):
            return runtime
    raise BadRequest(
        f"{path} is not a model file: its name must end in one of {', '.join(model_suffixes())}"
    )


def require_format(runtime: Runtime, precision: Precision) -> None:
    """Check that artifacts are written for `runtime` in `precision`.

    Raises:
        BadRequest: they are not.
    """
    descriptor(runtime).require_format(precision)


def load_model(
    runtime: Runtime,
    path: Path,
    *,
    threads: int = 1,
    accelerator: str = "cpu",
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    prepared: Path | None = None,
) -> "LoadedModel":
    """Load the model in `path` into `runtime`, ready to run.

    Args:
        threads: how many threads one run may compute on. TorchScript and ExecuTorch have one such
            number a process: the last load sets it.
        accelerator: what to run on; this machine's runtimes run on "cpu" only.
        input_shapes: one shape per input, in the model's own layout. Without it a dynamic batch becomes
            1, and a file that does not declare its inputs is refused.
        prepared: where the runtime keeps what it computes from the file, if the same process or others of
            the same run load it again; see `RuntimeDescriptor.reload`.

    Raises:
        BadRequest: there is no such file, `input_shapes` are missing or do not fit, or `threads` is
            below 1.
        UnknownName: there is no such accelerator.
        RuntimeFailed: the file is not a model of this runtime, or the runtime cannot run it or is not
            installed.
    """
    if threads < 1:
        raise BadRequest(f"threads must be at least 1, got {threads}")
    if accelerator != "cpu":
        raise UnknownName("accelerator", accelerator, ("cpu",))
    if not path.is_file():
        raise BadRequest(f"there is no file {path}")
    import_engine(runtime)
    found = descriptor(runtime)
    if prepared is None:
        return found.load(path, threads=threads, input_shapes=input_shapes)
    return found.reload(path, prepared, threads=threads, input_shapes=input_shapes)


def describe_model(
    runtime: Runtime, path: Path, input_shapes: Sequence[tuple[int, ...]] | None = None
) -> "tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]":
    """Return the inputs and outputs of the model in `path`; it is loaded only where its file does not say.

    Raises:
        BadRequest, RuntimeFailed: as `load_model`.
    """
    described = descriptor(runtime).describe(path, input_shapes)
    if described is not None:
        return described
    model = load_model(runtime, path, input_shapes=input_shapes)
    return model.inputs, model.outputs


def import_engine(runtime: Runtime) -> None:
    """Import the engine of `runtime`, which takes up to seconds, so that loading a model does not.

    Raises:
        RuntimeFailed: it is not installed, or its library cannot be loaded.
    """
    distribution = _distribution(runtime)
    try:
        descriptor(runtime).import_engine()
    except ImportError as error:
        raise RuntimeFailed(
            f"the runtime {runtime} cannot be loaded: {error}",
            hint=f"reinstall it: pip install --force-reinstall {distribution.name}",
        ) from None


def is_installed(runtime: Runtime) -> bool:
    """Whether a distribution that runs `runtime` is installed on this machine."""
    try:
        _distribution(runtime)
    except RuntimeFailed:
        return False
    return True


@functools.cache
def runtime_version(runtime: Runtime) -> str:
    """Return the version of the installed runtime, such as '1.32.0'.

    Raises:
        RuntimeFailed: it is not installed.
    """
    from importlib import metadata

    return metadata.version(_distribution(runtime).name)


@functools.cache
def runtime_library(runtime: Runtime) -> tuple[str, str]:
    """Return the file name and the SHA-256 of the library that computes.

    The first call of a process reads the whole library (TorchScript's is 0.4 GB: about 0.4 s).

    Raises:
        RuntimeFailed: the runtime is not installed, or its wheel does not contain the library.
    """
    import hashlib

    distribution = _distribution(runtime)
    package_file = import_module(distribution.package).__file__
    assert package_file is not None, f"{distribution.package} is a namespace package"
    folder = Path(package_file).parent
    for pattern in distribution.libraries:
        for path in sorted(folder.glob(pattern)):
            if path.suffix in {".so", ".dylib", ".dll", ".pyd"}:
                with path.open("rb") as file:
                    return path.name, hashlib.file_digest(file, "sha256").hexdigest()
    raise RuntimeFailed(
        f"{distribution.name} does not contain a library {' or '.join(distribution.libraries)}",
        hint=f"reinstall it: pip install --force-reinstall {distribution.name}",
    )


@functools.cache  # called for every load, and reading what is installed takes longer than a load
def _distribution(runtime: Runtime) -> Distribution:
    """The installed distribution of a runtime."""
    from importlib import metadata  # 20 ms, which help texts need not wait for

    found = descriptor(runtime)
    if not found.runs_here:
        raise RuntimeFailed(
            f"{found.title} does not run on this machine, only on {found.runs_on}",
            hint="choose another --runtime, or a device: latbench devices",
        )
    for distribution in found.distributions:
        try:
            metadata.version(distribution.name)
        except metadata.PackageNotFoundError:
            continue
        return distribution
    raise RuntimeFailed(f"the runtime {runtime} is not installed", hint=found.install_command)
