"""This machine, measured on by a program that times models, in place of a runner of latbench."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latbench.device.host import affinity
from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient
from latbench.device.tools.programs import Tool, Visit, find_program
from latbench.device.tools.transport import Ended, ToolTransport
from latbench.errors import LatbenchError
from latbench.target import Runtime


class ToolHostDevice(HostDevice):
    """This machine, measured by a program; see `tool_host_device`."""

    def __init__(self, tool: Tool, program: Path) -> None:
        super().__init__()
        self.reference = None
        self._tool, self._program = tool, program

    def open_runner(self, max_seconds: int = 0) -> RunnerClient:
        """Return a runner that starts the program at every visit; `max_seconds` has no effect."""
        return RunnerClient(ToolTransport(self._tool, self._program, self))

    def require_runtime(self, runtime: Runtime) -> None:
        """As `Tool.require_runtime`."""
        self._tool.require_runtime(runtime)

    def local(self, path: str) -> Path:
        """As `Bench.local`."""
        return Path(path)

    def start(self, tool: Tool, visit: Visit, cores: Sequence[int], deadline: float) -> Ended:
        """As `Bench.start`."""
        pinned: list[str] = []
        if cores and affinity.allowed_cores() is not None:
            pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
        with tempfile.TemporaryDirectory(prefix="latbench-") as folder:
            results = Path(folder) / "results.csv"
            arguments = tool.arguments(replace(visit, results=str(results)))
            try:
                done = subprocess.run(
                    [*pinned, str(self._program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=max(0.0, deadline - time.monotonic()),
                )
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            except OSError as error:
                raise LatbenchError(f"cannot start {error.filename}: {error.strerror}") from None
            written = results.read_text(errors="replace") if results.exists() else ""
        return Ended(done.returncode, done.stdout.decode(errors="replace"), written)


def tool_host_device(tool: Tool, program: Path | None = None) -> ToolHostDevice:
    """Return this machine, measured by a program.

    Args:
        program: its file; by default it is searched on $PATH.

    Raises:
        DeviceUnavailable: there is no such program.
    """
    return ToolHostDevice(tool, find_program(tool.name, program))
