"""This machine as a device: its runner is a Python process that speaks the runner protocol."""

import hashlib
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from latbench.device.conditions import Conditions
from latbench.device.host import affinity
from latbench.device.host.reference import WORKLOAD
from latbench.device.host.state import host_conditions
from latbench.device.linux import LocalFiles, peak_clocks_khz
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.errors import BadRequest, DeviceUnavailable, RunnerFailed
from latbench.runtime.registry import runtime_version
from latbench.target import Runtime

#: No profile of a whole space takes this long; a runner that is older is forgotten.
MAX_SECONDS = 6 * 3600
_START_S = 60.0


class HostDevice:
    """The machine that latbench runs on.

    Args:
        root: where /proc and /sys are looked for.
    """

    name = "host"
    emulated = False
    reference: str | None = WORKLOAD

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = LocalFiles(root)
        self.unit = _unit(self._files)
        self.description = _description(self._files)

    @property
    def properties(self) -> dict[str, str]:
        """What the machine tells of itself, as the catalogue recognises boards by."""
        model = _board(self._files)
        return {} if model is None else {"devicetree.model": model}

    def open_runner(self, max_seconds: int = MAX_SECONDS) -> RunnerClient:
        """Start a worker process and return the client that talks to it.

        Args:
            max_seconds: when the worker ends itself, whatever it is doing.

        Raises:
            DeviceUnavailable: this is Windows, whose pipes the runner's client cannot wait for.
            RunnerFailed: it does not start, or does not speak the protocol.
        """
        if sys.platform == "win32":
            raise DeviceUnavailable(
                "latbench cannot measure on Windows",
                hint="measure on Linux or in WSL; show, predict and drift work here",
            )
        command = [sys.executable, "-P", "-m", "latbench.device.host.worker"]
        command += ["--max-seconds", str(max_seconds), "--system-root", str(self._files.root)]
        return start_runner(command, _environment())

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Artifacts already lie where the worker can load them."""
        return {path: str(path.absolute()) for path in artifacts}

    def conditions(self) -> Conditions:
        """The state of this machine; `affinity` is that of this process, not of a runner."""
        return host_conditions(self._files)

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Make sure that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: this process may not use one of them, or they are fewer than the threads.
        """
        allowed = affinity.allowed_cores()
        if allowed is None:
            raise BadRequest("this system does not let a process choose its cores")
        absent = sorted(set(cores) - set(allowed))
        if absent:
            raise BadRequest(
                f"this process may not use core {', '.join(map(str, absent))}",
                hint=f"it may use {', '.join(map(str, sorted(allowed)))}",
            )
        if len(cores) < threads:
            raise BadRequest(
                f"{threads} threads on {len(cores)} core{'s' if len(cores) > 1 else ''} would wait "
                "for each other",
                hint="name as many cores as threads",
            )

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Choose the cores to pin `threads` threads to: one each, the best that may be used.

        Best are the fastest by peak clock, then those that share no physical core with one already
        chosen, then the last; core 0, which serves most interrupts, only if there is no other.
        Empty where the system does not let a process choose.

        Raises:
            BadRequest: this process may use fewer cores.
        """
        allowed = affinity.allowed_cores()
        if allowed is None:
            return ()
        if threads > len(allowed):
            raise BadRequest(
                f"{threads} threads need {threads} cores, but this process may use {len(allowed)}",
                hint=f"ask for at most --threads {len(allowed)}",
            )
        return choose_cores(self._files, allowed, threads)

    def require_runtime(self, runtime: Runtime) -> None:
        """Make sure that the worker can load models of `runtime`, before any is exported.

        Raises:
            RuntimeFailed: its engine is an extra that is not installed.
        """
        runtime_version(runtime)

    def close(self) -> None:
        """Nothing is held, and nothing was changed."""


def start_runner(command: Sequence[str], environment: Mapping[str, str]) -> RunnerClient:
    """Start a runner on its standard streams, and see that it speaks the protocol.

    Raises:
        RunnerFailed: it does not start, or does not speak the protocol.
    """
    try:
        client = RunnerClient(ProcessTransport(command, environment))
    except OSError as error:
        raise RunnerFailed("start", "crashed", f"{command[0]}: {error.strerror}") from None
    try:
        client.hello(_START_S)
    except BaseException:  # Ctrl-C included: the process must not stay behind
        client.kill()
        raise
    return client


def choose_cores(files: LocalFiles, allowed: Sequence[int], threads: int) -> tuple[int, ...]:
    """The `threads` best of the `allowed` cores, as `HostDevice.default_cores` ranks them."""
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
    """The cores that are hardware threads of the same physical core, itself included."""
    text = files.read(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or ""
    siblings = {core}
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
            siblings |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return siblings


def _environment() -> dict[str, str]:
    """The worker's environment: ours, and the way to this very latbench."""
    # NumPy's own threads would stand idle among those that are counted and pinned, and the reference
    # workload is one thread's.
    env = dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1"}
    parent = str(Path(__file__).resolve().parents[3])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if parent not in {str(Path(folder).resolve()) for folder in installed}:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [parent, env.get("PYTHONPATH")]))
    return env


def _unit(files: LocalFiles) -> str:
    """A name for this very machine that gives nothing away: eight digits of a hash."""
    identity = (
        files.read("/etc/machine-id")
        or files.read("/var/lib/dbus/machine-id")
        or f"{platform.node()} {platform.machine()}"
    )
    # machine-id(5) asks that the id itself be kept confidential and hashed with a key of one's own.
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
