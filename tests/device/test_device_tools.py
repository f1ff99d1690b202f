"""Programs that time models replace a runner of latbench.

The programs here are scripts that print what the real ones print: the lines are of their sources and of
published runs, the figures made up.
"""

import json
import statistics
import sys
from pathlib import Path

import pytest
from programs import OLD_EXECUTOR_RUNNER, SAMPLES, program
from tinymodels import Models

from latbench.device.host.tool import tool_host_device
from latbench.device.registry import UnitSelector, open_device
from latbench.device.tools import programs as tools
from latbench.errors import BadRequest, CannotRead, LatbenchError
from latbench.measure import Journal
from latbench.space import SearchSpace, parse_key
from latbench.target import Runtime
from latbench.workflows.build_lut import lut_of_run
from latbench.workflows.measure import measure_latency
from latbench.workflows.profile import profile
from latbench.workflows.target import TargetRequest

BENCHMARK_MODEL = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [model.tflite]
INFO: Loaded model model.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 24.6229
INFO: Initialized session in 119.515ms.
INFO: Running benchmark for at least 5 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=87112 curr=51629 min=51629 max=87112 avg=58147.4 std=11478 p5=51629 median=51962 p95=87112

INFO: Running benchmark for at least 1000 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=1000 first=52162 curr=49785 min=49088 max=686105 avg=63743.2 std=60716 p5=49620 median=51891 p95=68628

INFO: Inference timings in us: Init: 119515, First inference: 87112, Warmup (avg): 58147.4, Inference (avg): 63743.2
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=55.4961 overall=55.4961
"""  # noqa: E501  as it is printed

SPEED_BENCHMARK_TORCH = """\
Starting benchmark.
Running warmup runs.
Main runs.
PyTorchObserver {"type": "NET", "unit": "us", "metric": "latency", "value": "599746"}
PyTorchObserver {"type": "NET", "unit": "us", "metric": "latency", "value": "570505"}
PyTorchObserver {"type": "NET", "unit": "us", "metric": "latency", "value": "583396"}
Main run finished. Microseconds per iter: 584558. Iters per second: 1.71069
"""

EXECUTOR_RUNNER = """\
I 00:00:00.000325 executorch:cpuinfo_utils.cpp:71] Reading file /sys/devices/soc0/image_version
I 00:00:00.035506 executorch:executor_runner.cpp:313] Resetting threadpool with num threads = 1
I 00:00:00.048120 executorch:threadpool.cpp:66] Resetting threadpool to 1 threads.
I 00:00:00.092034 executorch:executor_runner.cpp:424] Model file model.pte is loaded.
I 00:00:00.092058 executorch:executor_runner.cpp:434] Using method forward
I 00:00:00.092083 executorch:executor_runner.cpp:499] Setting up CPU planned buffer 0, size 25088.
I 00:00:00.093001 executorch:executor_runner.cpp:570] Model loaded in 0.941000 ms.
I 00:00:00.093400 executorch:executor_runner.cpp:702] Iteration 1 of 3: 0.184363 ms
I 00:00:00.093487 executorch:executor_runner.cpp:702] Iteration 2 of 3: 0.046098 ms
I 00:00:00.093561 executorch:executor_runner.cpp:702] Iteration 3 of 3: 0.038539 ms
I 00:00:00.093570 executorch:executor_runner.cpp:711] Model executed successfully 3 time(s) in 0.269000 ms.
I 00:00:00.093574 executorch:executor_runner.cpp:721] 1 outputs: 
OutputX 0: tensor(sizes=[1, 4], [1., 2., 3., 4.])
"""  # noqa: W291  as it is printed

# model, seconds, peak working set, CPU usage, number
ONNXRUNTIME_PERF_TEST = """\
model.onnx,0.00123456,48234496,98,0
model.onnx,0.00121,48234496,98,1
model.onnx,9.87e-05,48234496,98,2
"""


def test_what_the_programs_print_is_read() -> None:
    assert tools.read_benchmark_model(BENCHMARK_MODEL, "") == [63_743_200]
    same = "INFO: count=1 curr=87\n\nINFO: count=50 curr=81(all same)\n"
    assert tools.read_benchmark_model(same, "") == [81_000]
    slow = "INFO: count=2 first=1 curr=2 min=1 max=3 avg=1.23457e+06 std=0\n"
    assert tools.read_benchmark_model(slow, "") == [1_234_570_000]
    torch = tools.read_speed_benchmark_torch(SPEED_BENCHMARK_TORCH, "")
    assert torch == [599_746_000, 570_505_000, 583_396_000]
    onnx = tools.read_onnxruntime_perf_test("", ONNXRUNTIME_PERF_TEST)
    assert onnx == [1_234_560, 1_210_000, 98_700]
    executorch = tools.read_executor_runner(EXECUTOR_RUNNER, "")
    assert executorch == [184_363, 46_098, 38_539]
    older = "".join(line for line in EXECUTOR_RUNNER.splitlines(True) if "Iteration" not in line)
    assert tools.read_executor_runner(older, "") == [89_667]
    for read in (tool.read for tool in tools.TOOLS.values()):
        assert read("nothing of the kind", "") == []


@pytest.mark.skipif(sys.platform != "linux", reason="the scripts look at their cores")
@pytest.mark.parametrize("name", list(tools.TOOLS))
def test_a_model_is_measured_by_a_program(name: str, models: Models, tmp_path: Path) -> None:
    path, log = program(tmp_path, name)
    tool = tools.TOOLS[name]
    model = models.of[tool.runtime]
    done = measure_latency(
        model,
        TargetRequest(runtime=tool.runtime, units=(UnitSelector(runner=f"{name}={path}"),)),
    )
    visits = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(visits) == done.rounds, "a visit each"
    reported = 1 if tool.averages(path.read_bytes()) else SAMPLES.get(name, 8)
    assert done.samples == reported * done.rounds
    assert done.ci95 == pytest.approx((done.ms, done.ms), rel=0.004)
    for cores, *asked in visits:
        assert cores == list(done.target.cores)
        assert any(model.name in word for word in asked)


def test_an_old_executor_runner_reports_an_average_of_many(models: Models, tmp_path: Path) -> None:
    path, log = program(tmp_path, "executor_runner", OLD_EXECUTOR_RUNNER)
    model = models.of[Runtime.EXECUTORCH]
    with tool_host_device(tools.TOOLS["executor_runner"], path).open_runner() as runner:
        assert runner.hello().runner == "executor_runner, averages only"
        loaded = runner.load(str(model), Runtime.EXECUTORCH, threads=2)
        assert [tensor.shape for tensor in loaded.inputs] == [(1, 3, 8, 8)]
        assert len(runner.run(loaded.handle, warmups=3).samples_ns) == 1
        assert len(runner.run(loaded.handle, min_samples=900).samples_ns) == 1
    visits = [json.loads(line)[1:] for line in log.read_text().splitlines()]
    assert visits[0] == [f"--model_path={model}", "--num_executions=200", "--cpu_threads=2"]
    assert visits[1][1] == "--num_executions=902", "two of them are the warm-ups"


def test_an_executor_runner_without_a_log_gets_a_hint(models: Models, tmp_path: Path) -> None:
    path, _ = program(tmp_path, "executor_runner", "print('OutputX 0: tensor(sizes=[1])')")
    runner = tool_host_device(tools.TOOLS["executor_runner"], path).open_runner()
    handle = runner.load(str(models.of[Runtime.EXECUTORCH]), Runtime.EXECUTORCH).handle
    with pytest.raises(LatbenchError, match="reported no times") as reported:
        runner.run(handle)
    assert "-DEXECUTORCH_ENABLE_LOGGING=ON" in str(reported.value.hint)


def test_a_lut_records_that_it_is_of_averages(tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model")
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    profile(
        TargetRequest(
            runtime=Runtime.TFLITE, units=(UnitSelector(runner=f"benchmark_model={path}"),)
        ),
        space,
        calibrate=0,
        journal=tmp_path / "trials.sqlite",
        budget_s=1.0,  # enough for some
    )
    with Journal(tmp_path / "trials.sqlite", readonly=True) as journal:
        lut = lut_of_run(journal, macs=lambda key: parse_key(key).macs, partial=True)
    assert lut.method["runner"] == "benchmark_model, averages only"
    assert lut.method["engine"]["library"] == "benchmark_model"
    assert statistics.median(entry.samples for entry in lut.entries.values()) >= 1


def test_impossible_requests_are_refused(models: Models, tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model", body="print('no figures')")
    device = tool_host_device(tools.TOOLS["benchmark_model"], path)
    runner = device.open_runner()
    with pytest.raises(LatbenchError, match="does not run onnx models"):
        runner.load(str(models.of[Runtime.ONNX]), Runtime.ONNX)
    with pytest.raises(LatbenchError, match="on the CPU only"):
        runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, accelerator="gpu")
    with pytest.raises(LatbenchError, match="takes no input shapes"):
        runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, input_shapes=[(1, 8, 8, 3)])
    handle = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle
    with pytest.raises(LatbenchError, match="reported no times: 'no figures"):
        runner.run(handle)
    with pytest.raises(LatbenchError, match="does not report outputs"):
        runner.run(handle, outputs=True)
    program(tmp_path, "benchmark_model", body="sys.exit('a model that it cannot load')")
    with pytest.raises(LatbenchError, match="exit status 1: 'a model that it cannot load"):
        runner.run(handle)
    with pytest.raises(BadRequest, match="runs tflite models, not onnx"):
        device.require_runtime(Runtime.ONNX)
    with pytest.raises(CannotRead, match="no such program") as absent:
        tool_host_device(tools.TOOLS["speed_benchmark_torch"], tmp_path / "nothing")
    assert absent.value.hint == "name its file: --runner speed_benchmark_torch=FILE"
    with pytest.raises(BadRequest, match="unknown runner 'stopwatch'"):
        open_device("host", UnitSelector(runner="stopwatch"))
    with pytest.raises(
        BadRequest, match="--runner is for this machine and Android phones, not for iphonex"
    ):
        open_device("iphonex", UnitSelector(runner="native"))


def test_a_program_in_the_current_folder_is_found(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = program(tmp_path, "benchmark_model")
    path.rename(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    runner = tool_host_device(tools.TOOLS["benchmark_model"], Path("mine")).open_runner()
    runner.run(runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle)
    assert len(log.read_text().splitlines()) == 1
