"""This machine measured on by programs that people already have, in place of a runner of ours.

    benchmark_model         LiteRT's; tells averages only
    onnxruntime_perf_test   ONNX Runtime's; tells every run
    speed_benchmark_torch   PyTorch Mobile's; tells every run, in whole microseconds

Each visit starts the program anew. To the rest of latbench it is a runner: `_ToolTransport` answers the
runner protocol. Where a program tells only an average, a visit has one sample, that average; so an entry's
interval is one of averages over processes, which is wider, and `hello` says so, which a LUT keeps.

What is read of the outputs is described by their sources: tensorflow/lite/tools/benchmark/benchmark_model.cc
and tsl's stats_calculator.h (count=… avg=…, in us), onnxruntime/test/perftest/performance_result.cc (model,
seconds, memory, CPU, number a line), pytorch/binaries/speed_benchmark_torch.cc (PyTorchObserver).
"""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.device import affinity
from latbench.device.base import Conditions
from latbench.device.host import HostDevice
from latbench.device.protocol import LoadRequest, RunRequest
from latbench.device.runner_client import RunnerClient
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError
from latbench.files import sha256_of
from latbench.runtime import TensorInfo, load_model
from latbench.target import Runtime

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_SHOWN = 400  # characters of what a program said


@dataclass(frozen=True)
class Visit:
    """One visit to a model: what a program is asked for."""

    model: Path
    inputs: tuple[TensorInfo, ...]
    threads: int
    request: RunRequest
    results: Path  # where a program may write


@dataclass(frozen=True)
class Tool:
    """A program that times models.

    Args:
        arguments: what it is called with.
        read: every sample that it tells, ns, from what it printed and wrote; empty if it tells none.
        averages: whether these are averages of a visit.
    """

    name: str
    runtime: Runtime
    arguments: Callable[[Visit], list[str]]
    read: Callable[[str, str], list[int]]
    averages: bool


def read_benchmark_model(printed: str, written: str) -> list[int]:
    """The average of the steady runs, ns, that LiteRT's benchmark_model prints; `written` is nothing.

    The last line of figures is that of the steady runs; where all took the same time it has but `curr`.
    """
    lines = re.findall(r"^.*\bcount=\d+.*$", printed, re.MULTILINE)
    figure = re.search(rf"\bavg={_NUMBER}", lines[-1]) if lines else None
    figure = figure or (re.search(rf"\bcurr={_NUMBER}", lines[-1]) if lines else None)
    return [round(1e3 * float(figure[1]))] if figure else []


def read_onnxruntime_perf_test(printed: str, written: str) -> list[int]:
    """Every run, ns, in the result file of onnxruntime_perf_test."""
    rows = re.findall(rf"^.*,{_NUMBER},\d+,\d+,\d+$", written, re.MULTILINE)
    return [round(1e9 * float(seconds)) for seconds in rows]


def read_speed_benchmark_torch(printed: str, written: str) -> list[int]:
    """Every run, ns, in the lines that speed_benchmark_torch prints with --report_pep."""
    found = re.findall(r"^PyTorchObserver (\{.*\})\s*$", printed, re.MULTILINE)
    told = [json.loads(line) for line in found]
    return [
        1000 * int(float(one["value"]))
        for one in told
        if (one.get("type"), one.get("unit")) == ("NET", "us")
    ]


def _ask_benchmark_model(visit: Visit) -> list[str]:
    request = visit.request
    return [
        f"--graph={visit.model}",
        f"--num_threads={visit.threads}",
        f"--num_runs={request.min_samples}",
        f"--min_secs={request.seconds:g}",
        f"--warmup_runs={request.warmups}",
        f"--warmup_min_secs={request.warmup_seconds:g}",
        "--use_xnnpack=true",
    ]


def _ask_onnxruntime_perf_test(visit: Visit) -> list[str]:
    runs = visit.request.min_samples
    intra = ["-x", str(visit.threads), "-y", "1"]
    return ["-I", "-m", "times", "-r", str(runs), *intra, str(visit.model), str(visit.results)]


def _ask_speed_benchmark_torch(visit: Visit) -> list[str]:
    shapes = ";".join(",".join(map(str, tensor.shape)) for tensor in visit.inputs)
    return [
        f"--model={visit.model}",
        f"--input_dims={shapes}",
        "--input_type=" + ";".join("float" for _ in visit.inputs),
        f"--warmup={visit.request.warmups}",
        f"--iter={visit.request.min_samples}",
        "--report_pep=true",
    ]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("benchmark_model", Runtime.TFLITE, _ask_benchmark_model, read_benchmark_model, True),
        Tool(
            "onnxruntime_perf_test",
            Runtime.ONNX,
            _ask_onnxruntime_perf_test,
            read_onnxruntime_perf_test,
            False,
        ),
        Tool(
            "speed_benchmark_torch",
            Runtime.TORCHSCRIPT,
            _ask_speed_benchmark_torch,
            read_speed_benchmark_torch,
            False,
        ),
    )
}


class ToolHostDevice(HostDevice):
    """This machine, measured on by a program; see `tool_host_device`."""

    def __init__(self, tool: Tool, program: Path) -> None:
        super().__init__()
        self.reference = None
        self._tool, self._program = tool, program

    def open_runner(self, max_seconds: int = 0) -> RunnerClient:
        """A runner that starts the program at every visit; `max_seconds` is nothing to it."""
        return RunnerClient(_ToolTransport(self._tool, self._program, self.conditions))

    def require_runtime(self, runtime: Runtime) -> None:
        """Make sure that the program runs models of `runtime`.

        Raises:
            BadRequest: it does not.
        """
        if runtime is not self._tool.runtime:
            raise BadRequest(
                f"{self._tool.name} runs models of {self._tool.runtime}, not of {runtime}",
                hint=f"add --runtime {self._tool.runtime}, or choose another --runner",
            )


def tool_host_device(name: str, program: Path | None = None) -> ToolHostDevice:
    """Return this machine, measured on by the program `name`.

    Args:
        program: where it is; by default it is looked for as a shell does.

    Raises:
        DeviceUnavailable: it is not there.
    """
    found = shutil.which(name if program is None else program.absolute())
    if found is None:
        raise DeviceUnavailable(
            f"there is no program {program or name}",
            hint=f"say where it is: --runner {name}=FILE",
        )
    return ToolHostDevice(TOOLS[name], Path(found).absolute())


class _ToolTransport:
    """The runner protocol, answered by starting a program; a `Transport`."""

    def __init__(self, tool: Tool, program: Path, conditions: Callable[[], Conditions]) -> None:
        self._tool, self._program, self._conditions = tool, program, conditions
        self._digest = sha256_of(program.read_bytes())
        self._loaded: dict[str, tuple[LoadRequest, tuple[TensorInfo, ...]]] = {}
        self._loads = 0
        self._answers: deque[bytes] = deque()
        self.alive = True

    def send(self, data: bytes, deadline: float) -> None:
        """Do what the one request in `data` asks for, and keep the answer; raises TimeoutError."""
        request = json.loads(data)
        answer: dict[str, Any] = {"id": request["id"], "ok": True}
        try:
            answer |= self._fulfil(request["op"], request, deadline)
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
                says = (
                    f"{self._tool.name}, {'averages only' if self._tool.averages else 'all runs'}"
                )
                return {"version": 1, "runner": says, "pid": 0, "os": "", "abi": ""} | {
                    "engines": [self._engine]
                }
            case "load":
                return self._load(LoadRequest.model_validate(request))
            case "run":
                return self._run(RunRequest.model_validate(request), deadline)
            case "conditions":
                return self._conditions().model_dump(mode="json")
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
        if request.input_shapes is not None and self._tool.runtime is not Runtime.TORCHSCRIPT:
            raise BadRequest(
                f"{self._tool.name} cannot be told the shapes of inputs", hint="leave --runner out"
            )
        # What its inputs are the program does not tell.
        began = time.perf_counter()
        model = load_model(request.runtime, Path(request.path), input_shapes=request.input_shapes)
        self._loads += 1
        handle = f"m{self._loads}"
        self._loaded[handle] = (request, model.inputs)
        return {
            "handle": handle,
            "load_ms": 1e3 * (time.perf_counter() - began),
            "inputs": [vars(tensor) for tensor in model.inputs],
            "outputs": [vars(tensor) for tensor in model.outputs],
            "engine": self._engine,
        }

    def _run(self, request: RunRequest, deadline: float) -> dict[str, Any]:
        load, inputs = self._loaded[request.handle]
        if request.outputs:
            raise BadRequest(f"{self._tool.name} does not tell what a model computes")
        with tempfile.TemporaryDirectory(prefix="latbench-") as folder:
            results = Path(folder) / "results.csv"
            visit = Visit(Path(load.path), inputs, load.threads, request, results)
            printed = self._call(self._tool.arguments(visit), load.cores, deadline)
            written = results.read_text(errors="replace") if results.exists() else ""
        samples = self._tool.read(printed, written)
        if not samples:
            raise LatbenchError(
                f"{self._program} told no time that can be read: {printed[-_SHOWN:]!r}"
            )
        return {"samples_ns": samples, "cores_observed": load.cores or None}

    def _call(self, arguments: Sequence[str], cores: Sequence[int], deadline: float) -> str:
        pinned: list[str] = []
        if cores and affinity.allowed_cores() is not None:
            pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
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
            raise LatbenchError(f"{error.filename} cannot be started: {error.strerror}") from None
        printed = done.stdout.decode(errors="replace")
        if done.returncode:
            raise LatbenchError(
                f"{self._program} ended with exit status {done.returncode}: {printed[-_SHOWN:]!r}"
            )
        return printed
