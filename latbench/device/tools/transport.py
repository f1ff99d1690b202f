"""Lets a program that times models act as a runner: `ToolTransport` answers the runner protocol with it.

A device implements `Bench`, which starts the program: see `latbench.device.host.tool` and
`latbench.device.android.tool_phone`.
"""

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from latbench.device.conditions import Conditions
from latbench.device.protocol.messages import LoadRequest, RunRequest
from latbench.device.tools.programs import Tool, Visit
from latbench.errors import BadRequest, DeviceLost, LatbenchError
from latbench.files import sha256_of
from latbench.runtime.base import TensorInfo
from latbench.runtime.registry import describe_model

_SHOWN = 400  # characters of a program's output


@dataclass(frozen=True)
class Ended:
    """The exit status of a program, its output, and the contents of its results file."""

    exit_code: int
    printed: str
    written: str


class Bench(Protocol):
    """The unit that a program runs on."""

    def local(self, path: str) -> Path:
        """The artifact on this machine that was sent to `path` on the unit."""

    def conditions(self) -> Conditions:
        """Read the state of the unit."""

    def start(self, tool: Tool, visit: Visit, cores: Sequence[int], deadline: float) -> Ended:
        """Run the program on `cores`, by default on any, with a results file in place of `visit.results`.

        Raises:
            LatbenchError: it cannot be started.
            TimeoutError: it still ran at `deadline`, and was killed.
            DeviceLost: the unit is gone.
        """


class ToolTransport:
    """A `Transport` that answers the runner protocol by means of a program.

    Args:
        program: the program's file on this machine.
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
        """Fulfil the request in `data`, and store the reply.

        Raises:
            TimeoutError, DeviceLost: as `Bench.start`.
        """
        request = json.loads(data)
        answer: dict[str, Any] = {"id": request["id"], "ok": True}
        try:
            answer |= self._fulfil(request, deadline)
        except DeviceLost:
            raise
        except LatbenchError as error:
            failure = {"stage": request["op"], "message": error.message, "hint": error.hint}
            answer = {"id": request["id"], "ok": False, "error": failure}
        self._answers.append(json.dumps(answer).encode() + b"\n")

    def receive(self, deadline: float) -> bytes:
        """Return the reply."""
        if not self._answers:
            raise EOFError
        return self._answers.popleft()

    def close(self, grace_s: float) -> None:
        """Do nothing: no program runs between two requests."""
        self.alive = False

    def post_mortem(self) -> str:
        """The reason for the end."""
        return "it was closed"

    def _fulfil(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        match request["op"]:
            case "hello":
                runner = f"{self._tool.name}, {'averages only' if self._averages else 'all runs'}"
                return {
                    "version": 1,
                    "runner": runner,
                    "pid": 0,
                    "os": "",
                    "abi": "",
                    "engines": [self._engine],
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
            raise BadRequest(f"{self._tool.name} does not run {request.runtime} models")
        if request.accelerator != "cpu":
            raise BadRequest(
                f"latbench runs {self._tool.name} on the CPU only", hint="leave out --accelerator"
            )
        if request.input_shapes is not None and not self._tool.takes_shapes:
            raise BadRequest(
                f"{self._tool.name} takes no input shapes",
                hint="leave out --input-shape or --runner",
            )
        began = time.perf_counter()
        artifact = self._bench.local(request.path)
        # The program does not report its inputs.
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
            raise BadRequest(
                f"{self._tool.name} does not report outputs", hint="leave out --runner"
            )
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
                f"{self._program} reported no times: {ended.printed[-_SHOWN:]!r}",
                hint=self._tool.silence,
            )
        return {"samples_ns": samples, "cores_observed": load.cores or None}
