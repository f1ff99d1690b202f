"""This machine as a device. Its runner is a Python process that speaks the runner protocol."""

import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from weakref import finalize

from latbench.device.base import require_a_core_each
from latbench.device.conditions import Conditions
from latbench.device.host import affinity
from latbench.device.host.reference import WORKLOAD
from latbench.device.host.state import host_conditions
from latbench.device.linux import LocalFiles, peak_clocks_khz
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.errors import BadRequest, DeviceUnavailable, RunnerFailed
from latbench.files import home
from latbench.runtime.registry import runtime_version
from latbench.target import Runtime

#: No run takes this long: an older runner is a leftover, and ends by itself.
MAX_SECONDS = 6 * 3600
_START_S = 60.0


class HostDevice:
    """The machine that latbench runs on.

    Args:
        root: the folder that contains /proc and /sys.
    """

    name = "host"
    emulated = False
    reference: str | None = WORKLOAD

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = LocalFiles(root)
        self._scratch: Path | None = None
        self._remove_scratch: Callable[[], object] = lambda: None
        self.unit = _unit(self._files)
        self.description = _description(self._files)

    @property
    def properties(self) -> dict[str, str]:
        """The properties by which the catalogue recognises boards."""
        model = _board(self._files)
        return {} if model is None else {"devicetree.model": model}

    def open_runner(self, max_seconds: int = MAX_SECONDS) -> RunnerClient:
        """Start a worker process and return a client for it.

        Args:
            max_seconds: after this time the worker ends itself, whatever it is doing.

        Raises:
            DeviceUnavailable: this is Windows, where the client cannot wait for pipes.
            RunnerFailed: it does not start, or does not speak the protocol.
        """
        if sys.platform == "win32":
            raise DeviceUnavailable(
                "latbench cannot measure on Windows",
                hint="measure on Linux or in WSL; latbench show, predict and drift work here",
            )
        command = [sys.executable, "-P", "-m", "latbench.device.host.worker"]
        command += ["--max-seconds", str(max_seconds), "--system-root", str(self._files.root)]
        return start_runner([*command, *self.scratch_option()], _environment())

    def scratch_option(self) -> list[str]:
        """The option for runners of the folder that they share, which is made for the first one.

        There is none where latbench's home is read-only. The folder is not in the system's folder for
        temporary files, which may be in memory: it holds as much as the artifacts of a run.
        """
        if self._scratch is None:
            folder = home() / "scratch"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._scratch = Path(tempfile.mkdtemp(dir=folder))
            except OSError:
                return []
            # At the latest when this process ends.
            self._remove_scratch = finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return ["--scratch", str(self._scratch)]

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Return the paths of the artifacts: the worker can load them where they are."""
        return {path: str(path.absolute()) for path in artifacts}

    def conditions(self) -> Conditions:
        """Read the state of this machine; `affinity` is that of this process, not of a runner."""
        return host_conditions(self._files)

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Check that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: this process may not use one of them, or there are fewer cores than threads.
        """
        allowed = affinity.allowed_cores()
        if allowed is None:
            raise BadRequest(
                "this operating system does not allow a process to choose its cores",
                hint="leave out --cores",
            )
        absent = sorted(set(cores) - set(allowed))
        if absent:
            raise BadRequest(
                f"this process may not use core {', '.join(map(str, absent))}",
                hint=f"choose from --cores {','.join(map(str, sorted(allowed)))}",
            )
        require_a_core_each(cores, threads)

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Choose the best cores to pin `threads` threads to, one each.

        The best are the fastest by peak clock, then those that share no physical core with a chosen one,
        then the highest numbers; core 0, which serves most interrupts, only if there is no other. Empty if
        the system does not allow a process to choose.

        Raises:
            BadRequest: this process may use fewer cores.
        """
        allowed = affinity.allowed_cores()
        if allowed is None:
            return ()
        if threads > len(allowed):
            raise BadRequest(
                f"{threads} threads need {threads} cores, but this process may use {len(allowed)}",
                hint=f"at most: --threads {len(allowed)}",
            )
        return choose_cores(self._files, allowed, threads)

    def require_runtime(self, runtime: Runtime) -> None:
        """Check that the worker can load models of `runtime`, before one is exported.

        Raises:
            RuntimeFailed: its engine is an extra that is not installed.
        """
        runtime_version(runtime)

    def close(self) -> None:
        """Remove what its runners kept for one another."""
        self._remove_scratch()
        self._scratch = None


def start_runner(command: Sequence[str], environment: Mapping[str, str]) -> RunnerClient:
    """Start a runner that speaks the protocol on its standard streams, and say hello to it.

    Raises:
        RunnerFailed: it does not start, or does not speak the protocol.
    """
    try:
        client = RunnerClient(ProcessTransport(command, environment))
    except OSError as error:
        raise RunnerFailed("start", "refused", f"{command[0]}: {error.strerror}") from None
    try:
        client.hello(_START_S)
    except BaseException:  # Ctrl-C included: the process may not stay behind
        client.kill()
        raise
    return client


def choose_cores(files: LocalFiles, allowed: Sequence[int], threads: int) -> tuple[int, ...]:
    """Choose the `threads` best of the `allowed` cores, as `HostDevice.default_cores` describes."""
    peaks = peak_clocks_khz(files) or {}
    left = sorted(allowed, key=lambda core: (core != 0, peaks.get(core, 0), core), reverse=True)
    chosen: list[int] = []
    while len(chosen) < threads:
        taken = {sibling for core in chosen for sibling in _siblings(files, core)}
        free = [core for core in left if core not in taken and core != 0]
        core = (free or left)[0]
        chosen.append(core)
        left.remove(core)
    return tuple(sorted(chosen))


def _siblings(files: LocalFiles, core: int) -> set[int]:
    """The cores that are hardware threads of the same physical core, including itself."""
    text = files.read(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or ""
    siblings = {core}
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
            siblings |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return siblings


def _environment() -> dict[str, str]:
    """The worker's environment: that of this process, with the path of this latbench."""
    # NumPy's own threads would idle among those that are counted and pinned; the reference workload is
    # single-threaded. Pydantic would search all that is installed for plugins, which takes 50 ms.
    env = dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    parent = str(Path(__file__).resolve().parents[3])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if parent not in {str(Path(folder).resolve()) for folder in installed}:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [parent, env.get("PYTHONPATH")]))
    return env


def _unit(files: LocalFiles) -> str:
    """An anonymous identifier of this machine: eight digits of a hash."""
    identity = (
        files.read("/etc/machine-id")
        or files.read("/var/lib/dbus/machine-id")
        or f"{platform.node()} {platform.machine()}"
    )
    # machine-id(5): the id is confidential, and to be hashed with a key of the application.
    return hashlib.sha256(f"latbench unit {identity}".encode()).hexdigest()[:8]


def _board(files: LocalFiles) -> str | None:
    return files.read("/sys/firmware/devicetree/base/model") or files.read(
        "/proc/device-tree/model"
    )


def _description(files: LocalFiles) -> str:
    cores = os.cpu_count() or 1
    match = re.search(r"^model name\s*:\s*(.+)$", files.read("/proc/cpuinfo") or "", re.MULTILINE)
    model = (
        _board(files) or (match[1] if match else None) or platform.processor() or platform.machine()
    )
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"
