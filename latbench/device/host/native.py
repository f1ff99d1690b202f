"""This machine, measured on by the native runner, as a phone is: no Python in the timed loop.

The engines are those of the installed wheels, so that both runners of this machine time the same
versions. LiteRT's wheel has two libraries: the Python runner uses the interpreter, the native runner
compiled models.
"""

import os
from importlib import metadata, util
from pathlib import Path

from latbench.device.host.device import MAX_SECONDS, HostDevice, start_runner
from latbench.device.native.files import PROGRAM, host_file
from latbench.device.protocol.client import RunnerClient
from latbench.errors import BadRequest, CannotRead, DeviceUnavailable
from latbench.runtime.registry import descriptor
from latbench.target import Runtime

#: Environment variable that names the runner's file; by default it is in latbench's home.
VARIABLE = "LATBENCH_RUNNER"

_BUILD = "build it: latbench runner build --preset host"


class NativeHostDevice(HostDevice):
    """The machine that latbench runs on, with the native runner; see `native_host_device`."""

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self._command = [str(binary), *_engine_options()]
        with self.open_runner(max_seconds=60) as runner:
            hello = runner.hello()
        self.reference = hello.reference
        self._runtimes = tuple(engine.runtime for engine in hello.engines)

    def open_runner(self, max_seconds: int = MAX_SECONDS) -> RunnerClient:
        """Start the runner and return the client that talks to it; as `HostDevice.open_runner`."""
        limit = ["--max-seconds", str(max_seconds)]
        return start_runner([*self._command, *limit, *self.scratch_option()], os.environ)

    def require_runtime(self, runtime: Runtime) -> None:
        """Check that the runner can load models of `runtime`, before one is opened.

        Raises:
            BadRequest: the native runner has no such engine.
            DeviceUnavailable: the engine's library is not installed.
        """
        found = descriptor(runtime)
        engine = found.runner_engine
        if engine is None:
            raise BadRequest(
                f"the native runner has no engine for {found.title}",
                hint="leave out --runner to measure with the Python runner",
            )
        if engine.plugin is not None:
            library = host_file(engine.plugin)
            if not library.is_file():
                raise BadRequest(
                    f"the native runner has no engine for {found.title}",
                    hint=f"build it: {engine.build}; or choose --runtime {' or '.join(self._runtimes)}, "
                    "or leave out --runner",
                )
            # Opening a plugin takes a second, so a runner gets it only when it is needed.
            self._command += [engine.option, str(library)]
            return
        if runtime not in self._runtimes:
            raise DeviceUnavailable(
                f"the native runner found no library of {runtime}",
                hint="install the runtime again; its wheel contains the library",
            )


def native_host_device(binary: Path | None = None) -> NativeHostDevice:
    """Return this machine, measured on by the native runner.

    Args:
        binary: the runner; by default $LATBENCH_RUNNER, else runners/<abi>/latbench-runner in
            latbench's home.

    Raises:
        DeviceUnavailable: there is no such file.
        RunnerFailed: it does not start, or does not speak the protocol.
    """
    return NativeHostDevice(_runner(binary))


def _runner(binary: Path | None) -> Path:
    named = os.environ.get(VARIABLE)
    path = binary or (Path(named) if named else host_file(PROGRAM))
    if path.is_file() and os.access(path, os.X_OK):
        return path.absolute()
    if binary is None and named:
        raise DeviceUnavailable(f"${VARIABLE} names {path}, which does not exist", hint=_BUILD)
    missing = DeviceUnavailable if binary is None else CannotRead
    raise missing(f"no such runner: {path}", hint=_BUILD)


def _engine_options() -> list[str]:
    """The options that name the installed engine libraries."""
    options: list[str] = []
    for engine in (descriptor(runtime).runner_engine for runtime in Runtime):
        if engine is None or engine.wheel is None:
            continue
        library = _library(engine.wheel.package, engine.wheel.libraries)
        if library is not None:
            options += [engine.option, str(library)]
            if engine.version_option is not None:
                options += [engine.version_option, metadata.version(engine.wheel.name)]
    return options


def _library(package: str, patterns: tuple[str, ...]) -> Path | None:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return next((found for pattern in patterns for found in sorted(folder.glob(pattern))), None)
