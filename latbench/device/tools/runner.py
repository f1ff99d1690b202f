"""A program that times models as a runner: `ToolTransport` answers the runner protocol by starting it.

`ToolHostDevice` is this machine so; `latbench.device.android.tool_phone` has phones.
"""

import json
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from latbench.device.conditions import Conditions
from latbench.device.host import affinity
from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import LoadRequest, RunRequest
from latbench.device.tools.programs import Tool, Visit, find_program
from latbench.errors import BadRequest, DeviceLost, LatbenchError
from latbench.files import sha256_of
from latbench.runtime.base import TensorInfo
from latbench.runtime.registry import describe_model
from latbench.target import Runtime

_SHOWN = 400  # characters of what a program said


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, what it printed, and what it wrote to its results."""

    exit_code: int
    printed: str
    written: str


class Bench(Protocol):
    """Where a program runs."""

    def local(self, path: str) -> Path:
        """The artifact on this machine that lies at `path` there."""

    def conditions(self) -> Conditions:
        """The state of the unit."""

    def start(self, tool: Tool, visit: Visit, cores: Sequence[int], deadline: float) -> Ended:
        """Run the program on `cores`, anywhere if there are none; `visit.results` may be filled in.

        Raises:
            LatbenchError: it cannot be started.
            TimeoutError: it still ran at `deadline`; it was ended.
            DeviceLost: the unit went away.
        """


class ToolTransport:
    """The runner protocol, answered by a program; a `Transport`.

    Args:
        program: the program on this machine.
    """

    def __init__(self, tool: Tool, program: Path, bench: Bench) -> None:
        self._tool, self._program, self._bench = tool, program, bench
        content = program.read_bytes()
        self._digest, self._averages = sha256_of(content), tool.averages(content)
        self._loaded: dict[str, tuple[LoadRequest, tuple[TensorInfo, ...]]] = {}
        self._loads = 0
        self._answers: deque[bytes] = deque()
        self.alive = True

    def send(self, data: bytes, deadline: float) -> None:
        """Do what the one request in `data` asks for, and keep the answer.

        Raises:
            TimeoutError, DeviceLost: as `Bench.start`.
        """
        request = json.loads(data)
        answer: dict[str, Any] = {"id": request["id"], "ok": True}
        try:
            answer |= self._fulfil(request["op"], request, deadline)
        except DeviceLost:
            raise
        except LatbenchError as error:
            told = {"stage": request["op"], "message": error.message, "hint": error.hint}
            answer = {"id": request["id"], "ok": False, "error": told}
        self._answers.append(json.dumps(answer).encode() + b"\n")

    def receive(self, deadline: float) -> bytes:
        """The answer."""
        if not self._answers:
            raise EOFError
        return self._answers.popleft()

    def close(self, grace_s: float) -> None:
        """Nothing runs between two requests."""
        self.alive = False

    def post_mortem(self) -> str:
        """Nothing to tell."""
        return "it was closed"

    def _fulfil(self, op: str, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        match op:
            case "hello":
                says = f"{self._tool.name}, {'averages only' if self._averages else 'all runs'}"
                return {"version": 1, "runner": says, "pid": 0, "os": "", "abi": ""} | {
                    "engines": [self._engine]
                }
            case "load":
                return self._load(LoadRequest.model_validate(request))
            case "run":
                return self._run(RunRequest.model_validate(request), deadline)
            case "conditions":
                return self._bench.conditions().model_dump(mode="json")
            case "unload":
                self._loaded.pop(request["handle"])
        return {}

    @property
    def _engine(self) -> dict[str, str]:
        return {
            "runtime": self._tool.runtime,
            "version": "unknown",
            "library": self._program.name,
            "sha256": self._digest,
        }

    def _load(self, request: LoadRequest) -> dict[str, Any]:
        if request.runtime is not self._tool.runtime:
            raise BadRequest(f"{self._tool.name} runs no models of {request.runtime}")
        if request.accelerator != "cpu":
            raise BadRequest(f"{self._tool.name} is called for the CPU only")
        if request.input_shapes is not None and not self._tool.takes_shapes:
            raise BadRequest(
                f"{self._tool.name} cannot be told the shapes of inputs", hint="leave --runner out"
            )
        # What its inputs are the program does not tell.
        began = time.perf_counter()
        artifact = self._bench.local(request.path)
        inputs, outputs = describe_model(request.runtime, artifact, request.input_shapes)
        self._loads += 1
        handle = f"m{self._loads}"
        self._loaded[handle] = (request, inputs)
        return {
            "handle": handle,
            "load_ms": 1e3 * (time.perf_counter() - began),
            "inputs": [vars(tensor) for tensor in inputs],
            "outputs": [vars(tensor) for tensor in outputs],
            "engine": self._engine,
        }

    def _run(self, request: RunRequest, deadline: float) -> dict[str, Any]:
        load, inputs = self._loaded[request.handle]
        if request.outputs:
            raise BadRequest(f"{self._tool.name} does not tell what a model computes")
        visit = Visit(load.path, inputs, load.threads, request, "", self._averages)
        ended = self._bench.start(self._tool, visit, load.cores, deadline)
        if ended.exit_code:
            raise LatbenchError(
                f"{self._program} ended with exit status {ended.exit_code}: "
                f"{ended.printed[-_SHOWN:]!r}"
            )
        samples = self._tool.samples(visit, ended.printed, ended.written)
        if not samples:
            raise LatbenchError(
                f"{self._program} told no time that can be read: {ended.printed[-_SHOWN:]!r}",
                hint=self._tool.silence,
            )
        return {"samples_ns": samples, "cores_observed": load.cores or None}


class ToolHostDevice(HostDevice):
    """This machine, measured on by a program; see `tool_host_device`."""

    def __init__(self, tool: Tool, program: Path) -> None:
        super().__init__()
        self.reference = None
        self._tool, self._program = tool, program

    def open_runner(self, max_seconds: int = 0) -> RunnerClient:
        """A runner that starts the program at every visit; `max_seconds` is nothing to it."""
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
                raise LatbenchError(
                    f"{error.filename} cannot be started: {error.strerror}"
                ) from None
            written = results.read_text(errors="replace") if results.exists() else ""
        return Ended(done.returncode, done.stdout.decode(errors="replace"), written)


def tool_host_device(tool: Tool, program: Path | None = None) -> ToolHostDevice:
    """Return this machine, measured on by a program.

    Args:
        program: where it is; by default it is looked for as a shell does.

    Raises:
        DeviceUnavailable: it is not there.
    """
    return ToolHostDevice(tool, find_program(tool.name, program))
