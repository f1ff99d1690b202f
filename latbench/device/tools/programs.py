"""Programs that people already have for timing models, which may stand in for a runner of ours.

    benchmark_model         LiteRT's; tells averages only
    onnxruntime_perf_test   ONNX Runtime's; tells every run
    speed_benchmark_torch   PyTorch Mobile's; tells every run, in whole microseconds
    executor_runner         ExecuTorch's; tells every run, where it is new enough, else the sum of all

Each visit starts the program anew, here or on a phone (`latbench.device.tools.runner`). Where a program tells
only an average, a visit has one sample, that average; so an entry's interval is one of averages over
processes, which is wider, and `hello` says so, which a LUT keeps.

What is read of the outputs is described by their sources: tensorflow/lite/tools/benchmark/benchmark_model.cc
and tsl's stats_calculator.h (count=… avg=…, in us), onnxruntime/test/perftest/performance_result.cc (model,
seconds, memory, CPU, number a line), pytorch/binaries/speed_benchmark_torch.cc (PyTorchObserver),
executorch/examples/portable/executor_runner/executor_runner.cpp (its log).
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from latbench.device.protocol.messages import RunRequest
from latbench.errors import BadRequest, CannotRead, DeviceUnavailable
from latbench.runtime.base import TensorInfo
from latbench.target import Runtime

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


@dataclass(frozen=True)
class Visit:
    """One visit to a model: what a program is asked for. Paths are those of where it runs.

    `averages`: it will tell no more than an average.
    """

    model: str
    inputs: tuple[TensorInfo, ...]
    threads: int
    request: RunRequest
    results: str  # where a program may write
    averages: bool = False


@dataclass(frozen=True)
class Tool:
    """A program that times models.

    Args:
        arguments: what it is called with.
        read: every sample that it tells, ns, from what it printed and wrote; empty if it tells none.
        averages: whether these are averages of a visit, as the program itself, its bytes, lets know.
        takes_shapes: whether it takes the shapes of inputs.
        warms_up: whether it warms up before these; else the first of them are the warm-ups.
        silence: what to do if it told none.
    """

    name: str
    runtime: Runtime
    arguments: Callable[[Visit], list[str]]
    read: Callable[[str, str], list[int]]
    averages: Callable[[bytes], bool]
    takes_shapes: bool = False
    warms_up: bool = True
    silence: str | None = None

    def samples(self, visit: Visit, printed: str, written: str) -> list[int]:
        """Every sample of a visit, ns, without its warm-ups; empty if the program told none."""
        told = self.read(printed, written)
        leading = 0 if self.warms_up or visit.averages else visit.request.warmups
        return told[leading:]

    def require_runtime(self, runtime: Runtime) -> None:
        """Make sure that the program runs models of `runtime`.

        Raises:
            BadRequest: it does not.
        """
        if runtime is not self.runtime:
            raise BadRequest(
                f"{self.name} runs models of {self.runtime}, not of {runtime}",
                hint=f"add --runtime {self.runtime}, or choose another --runner",
            )


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


def read_executor_runner(printed: str, written: str) -> list[int]:
    """Every run, ns, that executor_runner logs; else the average of all, from their sum."""
    runs = re.findall(rf"\bIteration \d+ of \d+: {_NUMBER} ms\b", printed)
    if runs:
        return [round(1e6 * float(ms)) for ms in runs]
    of_all = re.search(rf"\bModel executed successfully (\d+) time\(s\) in {_NUMBER} ms\b", printed)
    return [round(1e6 * float(of_all[2]) / int(of_all[1]))] if of_all and int(of_all[1]) else []


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
    return ["-I", "-m", "times", "-r", str(runs), *intra, visit.model, visit.results]


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


#: A sum holds the first runs, too, which cost a small model several times a later one: have many others.
_DILUTING_RUNS = 200


def _ask_executor_runner(visit: Visit) -> list[str]:
    runs = visit.request.warmups + visit.request.min_samples
    return [
        f"--model_path={visit.model}",
        f"--num_executions={max(runs, _DILUTING_RUNS) if visit.averages else runs}",
        f"--cpu_threads={visit.threads}",
    ]


def _always(program: bytes) -> bool:
    return True


def _never(program: bytes) -> bool:
    return False


def _lacks_iterations(program: bytes) -> bool:
    """Whether an executor_runner is of before it told every run: the words would be in it."""
    return b"Iteration %" not in program


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "benchmark_model", Runtime.TFLITE, _ask_benchmark_model, read_benchmark_model, _always
        ),
        Tool(
            "onnxruntime_perf_test",
            Runtime.ONNX,
            _ask_onnxruntime_perf_test,
            read_onnxruntime_perf_test,
            _never,
        ),
        Tool(
            "speed_benchmark_torch",
            Runtime.TORCHSCRIPT,
            _ask_speed_benchmark_torch,
            read_speed_benchmark_torch,
            _never,
            takes_shapes=True,
        ),
        Tool(
            "executor_runner",
            Runtime.EXECUTORCH,
            _ask_executor_runner,
            read_executor_runner,
            _lacks_iterations,
            warms_up=False,
            silence="it tells times in its log alone: build it with -DEXECUTORCH_ENABLE_LOGGING=ON "
            "-DEXECUTORCH_PAL_DEFAULT=posix",
        ),
    )
}


def find_program(name: str, program: Path | None = None) -> Path:
    """Where the program of a tool is on this machine; by default it is looked for as a shell does.

    Raises:
        DeviceUnavailable: it is not there.
    """
    found = shutil.which(name if program is None else program.absolute())
    if found is None:
        missing = DeviceUnavailable if program is None else CannotRead
        raise missing(
            f"there is no program {program or name}",
            hint=f"name it with: --runner {name}=FILE",
        )
    return Path(found).absolute()
