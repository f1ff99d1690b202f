"""Programs that time models, and that people have already: they can replace a runner of latbench.

    benchmark_model         LiteRT's; reports averages only
    onnxruntime_perf_test   ONNX Runtime's; reports every run
    speed_benchmark_torch   PyTorch Mobile's; reports every run, in whole microseconds
    executor_runner         ExecuTorch's; recent ones report every run, older ones the sum of all

Each is one `Tool` in `TOOLS`. A visit starts the program anew, on the host or on a phone
(`latbench.device.tools.transport`). Of a program that reports averages only, a visit has one sample, that
average. The interval of an entry is then one of averages over processes, which is wider; `hello` says so,
and a LUT records it.

The formats of the outputs come from the programs' sources: tensorflow/lite/tools/benchmark/benchmark_model.cc
and tsl's stats_calculator.h (count=… avg=…, in us), onnxruntime/test/perftest/performance_result.cc (model,
seconds, memory, CPU, number per line), pytorch/binaries/speed_benchmark_torch.cc (PyTorchObserver),
executorch/examples/portable/executor_runner/executor_runner.cpp (its log).
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import BadRequest, CannotRead, DeviceUnavailable
from latbench.target import Runtime

if TYPE_CHECKING:  # both import NumPy, which the registry of devices does without
    from latbench.device.protocol.messages import RunRequest
    from latbench.runtime.base import TensorInfo

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


@dataclass(frozen=True)
class Visit:
    """One visit to a model. Paths are those on the machine that the program runs on.

    Attributes:
        results: a file that the program may write its results to.
        averages: whether the program reports no more than an average.
    """

    model: str
    inputs: "tuple[TensorInfo, ...]"
    threads: int
    request: "RunRequest"
    results: str
    averages: bool = False


@dataclass(frozen=True)
class Tool:
    """A program that times models.

    Args:
        arguments: builds its arguments for a visit.
        read: parses the samples (ns) from its output and its results file; empty if there are none.
        averages: whether it reports averages of visits only, judged by the bytes of the program.
        takes_shapes: whether it takes the shapes of inputs.
        warms_up: whether it warms up by itself; if not, the first samples are the warm-ups.
        silence: a hint for the case that it reports no samples.
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
        """The samples of a visit, ns, without its warm-ups; empty if the program reported none."""
        reported = self.read(printed, written)
        leading = 0 if self.warms_up or visit.averages else visit.request.warmups
        return reported[leading:]

    def require_runtime(self, runtime: Runtime) -> None:
        """Check that the program runs models of `runtime`.

        Raises:
            BadRequest: it does not.
        """
        if runtime is not self.runtime:
            raise BadRequest(
                f"{self.name} runs {self.runtime} models, not {runtime}",
                hint=f"add --runtime {self.runtime}, or choose another --runner",
            )


def read_benchmark_model(printed: str, written: str) -> list[int]:
    """Parse the average of the steady runs, ns, that benchmark_model prints; it has no results file.

    The last line of statistics is that of the steady runs. If all took the same time, it has `curr` only.
    """
    lines = re.findall(r"^.*\bcount=\d+.*$", printed, re.MULTILINE)
    figure = re.search(rf"\bavg={_NUMBER}", lines[-1]) if lines else None
    figure = figure or (re.search(rf"\bcurr={_NUMBER}", lines[-1]) if lines else None)
    return [round(1e3 * float(figure[1]))] if figure else []


def read_onnxruntime_perf_test(printed: str, written: str) -> list[int]:
    """Parse every run, ns, from the results file of onnxruntime_perf_test."""
    rows = re.findall(rf"^.*,{_NUMBER},\d+,\d+,\d+$", written, re.MULTILINE)
    return [round(1e9 * float(seconds)) for seconds in rows]


def read_speed_benchmark_torch(printed: str, written: str) -> list[int]:
    """Parse every run, ns, from what speed_benchmark_torch prints with --report_pep."""
    found = re.findall(r"^PyTorchObserver (\{.*\})\s*$", printed, re.MULTILINE)
    events = [json.loads(line) for line in found]
    return [
        1000 * int(float(one["value"]))
        for one in events
        if (one.get("type"), one.get("unit")) == ("NET", "us")
    ]


def read_executor_runner(printed: str, written: str) -> list[int]:
    """Parse every run, ns, from the log of executor_runner; of older ones the average of all runs."""
    runs = re.findall(rf"\bIteration \d+ of \d+: {_NUMBER} ms\b", printed)
    if runs:
        return [round(1e6 * float(ms)) for ms in runs]
    of_all = re.search(rf"\bModel executed successfully (\d+) time\(s\) in {_NUMBER} ms\b", printed)
    return [round(1e6 * float(of_all[2]) / int(of_all[1]))] if of_all and int(of_all[1]) else []


def _arguments_of_benchmark_model(visit: Visit) -> list[str]:
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


def _arguments_of_onnxruntime_perf_test(visit: Visit) -> list[str]:
    runs = visit.request.min_samples
    intra = ["-x", str(visit.threads), "-y", "1"]
    return ["-I", "-m", "times", "-r", str(runs), *intra, visit.model, visit.results]


def _arguments_of_speed_benchmark_torch(visit: Visit) -> list[str]:
    shapes = ";".join(",".join(map(str, tensor.shape)) for tensor in visit.inputs)
    return [
        f"--model={visit.model}",
        f"--input_dims={shapes}",
        "--input_type=" + ";".join("float" for _ in visit.inputs),
        f"--warmup={visit.request.warmups}",
        f"--iter={visit.request.min_samples}",
        "--report_pep=true",
    ]


#: A sum includes the first runs, which take several times as long for a small model: more runs dilute them.
_DILUTING_RUNS = 200


def _arguments_of_executor_runner(visit: Visit) -> list[str]:
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
    """Whether an executor_runner is too old to log every run: the log's format string is not in it."""
    return b"Iteration %" not in program


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "benchmark_model",
            Runtime.TFLITE,
            _arguments_of_benchmark_model,
            read_benchmark_model,
            _always,
        ),
        Tool(
            "onnxruntime_perf_test",
            Runtime.ONNX,
            _arguments_of_onnxruntime_perf_test,
            read_onnxruntime_perf_test,
            _never,
        ),
        Tool(
            "speed_benchmark_torch",
            Runtime.TORCHSCRIPT,
            _arguments_of_speed_benchmark_torch,
            read_speed_benchmark_torch,
            _never,
            takes_shapes=True,
        ),
        Tool(
            "executor_runner",
            Runtime.EXECUTORCH,
            _arguments_of_executor_runner,
            read_executor_runner,
            _lacks_iterations,
            warms_up=False,
            silence="it reports times in its log only: build it with -DEXECUTORCH_ENABLE_LOGGING=ON "
            "-DEXECUTORCH_PAL_DEFAULT=posix",
        ),
    )
}


def find_program(name: str, program: Path | None = None) -> Path:
    """Find the program of a tool on this machine; by default on $PATH.

    Raises:
        DeviceUnavailable: there is none.
    """
    found = shutil.which(name if program is None else program.absolute())
    if found is None:
        missing = DeviceUnavailable if program is None else CannotRead
        raise missing(
            f"no such program: {program or name}",
            hint=f"name its file: --runner {name}=FILE",
        )
    return Path(found).absolute()
