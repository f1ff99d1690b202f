"""The runner fulfils its requests, and a fault costs one trial, never the run."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tinymodels import Models

from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient
from latbench.errors import BadRequest, RunnerFailed
from latbench.runtime.registry import HOST_RUNTIMES, is_installed
from latbench.target import Runtime

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
pins = pytest.mark.skipif(not CORES, reason="this system does not let a process choose its cores")
pins_two = pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")


def start_endless(runner: RunnerClient, models: Models) -> str:
    return runner.load(str(models.endless), Runtime.TORCHSCRIPT, input_shapes=[(1,)]).handle


# What it does


def test_hello_identifies_the_runner() -> None:
    with HostDevice().open_runner() as runner:
        hello = runner.hello()
        assert hello.version == 1
        assert psutil.pid_exists(hello.pid)
        assert hello.pid != os.getpid()
        assert {engine.runtime for engine in hello.engines} == set(filter(is_installed, Runtime))
    assert not psutil.pid_exists(hello.pid)


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_samples_are_as_requested(runtime: Runtime, models: Models, runner: RunnerClient) -> None:
    loaded = runner.load(str(models.of[runtime]), runtime)
    assert loaded.inputs[0].name == "image"
    assert loaded.load_ms > 0
    assert loaded.engine.version
    assert loaded.engine.sha256
    exactly = runner.run(loaded.handle, min_samples=5, max_samples=5)
    assert len(exactly.samples_ns) == 5
    assert min(exactly.samples_ns) > 0
    by_time = runner.run(loaded.handle, min_samples=1, max_samples=500_000, seconds=0.05)
    # The last sample starts before the time is up, so all but it fit inside.
    assert sum(by_time.samples_ns[:-1]) <= 0.05e9
    capped = runner.run(loaded.handle, min_samples=1, max_samples=3, seconds=60)
    assert len(capped.samples_ns) == 3


def test_pauses_and_warm_ups_are_kept(models: Models, runner: RunnerClient) -> None:
    handle = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle
    start = time.monotonic()
    reply = runner.run(handle, warmup_seconds=0.05, min_samples=4, max_samples=4, idle_ms=20)
    assert time.monotonic() - start >= 0.05 + 4 * 0.02
    assert len(reply.samples_ns) == 4


@pins
@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_one_core_is_one_core(runtime: Runtime, models: Models, runner: RunnerClient) -> None:
    core = CORES[-1]
    loaded = runner.load(str(models.of[runtime]), runtime, cores=[core])
    assert (loaded.cores_observed, loaded.threads_observed) == ((core,), 1)
    ran = runner.run(loaded.handle, min_samples=20)
    assert (ran.cores_observed, ran.threads_observed) == ((core,), 1)
    # As seen from outside, of every thread there is.
    process = psutil.Process(runner.hello().pid)
    for thread in process.threads():
        assert psutil.Process(thread.id).cpu_affinity() == [core]


@pins_two
@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_two_threads_are_two_threads(
    runtime: Runtime, models: Models, runner: RunnerClient
) -> None:
    cores = tuple(CORES[-2:])
    loaded = runner.load(str(models.of[runtime]), runtime, threads=2, cores=cores)
    assert (loaded.cores_observed, loaded.threads_observed) == (cores, 2)
    assert runner.run(loaded.handle).threads_observed == 2


@pins
def test_cores_that_are_not_there_are_refused(models: Models, runner: RunnerClient) -> None:
    path = str(models.of[Runtime.TFLITE])
    with pytest.raises(RunnerFailed, match="cannot run on core 900") as raised:
        runner.load(path, Runtime.TFLITE, cores=[900])
    assert (raised.value.stage, raised.value.kind) == ("load", "refused")
    assert runner.load(path, Runtime.TFLITE, cores=[CORES[0]]).cores_observed == (CORES[0],)


@pins
def test_cores_of_which_some_are_not_there_are_refused(
    models: Models, runner: RunnerClient
) -> None:
    with pytest.raises(RunnerFailed, match=r"asked for cores .*900, but got core "):
        runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE, cores=[CORES[0], 900])


def test_a_runner_has_one_target(models: Models, runner: RunnerClient) -> None:
    path = str(models.of[Runtime.TFLITE])
    runner.load(path, Runtime.TFLITE, threads=1)
    with pytest.raises(RunnerFailed, match="set to 1 thread on") as raised:
        runner.load(path, Runtime.TFLITE, threads=2)
    assert "another runner" in str(raised.value.hint)


def test_models_print_what_they_like(models: Models, runner: RunnerClient) -> None:
    loaded = runner.load(str(models.noisy), Runtime.TORCHSCRIPT, input_shapes=[(2,)])
    assert len(runner.run(loaded.handle, min_samples=50, max_samples=50).samples_ns) == 50
    # Far more than a pipe holds: the runner must not block on saying it.
    assert len(runner.run(loaded.handle, min_samples=3000, max_samples=3000).samples_ns) == 3000


def test_the_runner_reports_its_conditions(runner: RunnerClient) -> None:
    conditions = runner.conditions()
    assert conditions.uptime_s is not None
    assert conditions.uptime_s > 0
    assert conditions.memory_available_mib is not None


def test_other_folders_do_not_get_in_the_way(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "json", "latbench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    with HostDevice().open_runner() as runner:
        assert runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle


# What it refuses, and lives on


def test_what_is_refused_costs_nothing_else(models: Models, runner: RunnerClient) -> None:
    with pytest.raises(RunnerFailed, match="not a TFLite model") as raised:
        runner.load(str(models.of[Runtime.ONNX]), Runtime.TFLITE)
    assert (raised.value.stage, raised.value.kind) == ("load", "refused")
    with pytest.raises(RunnerFailed, match="unknown handle 'm9'") as raised:
        runner.run("m9")
    assert (raised.value.stage, raised.value.kind) == ("run", "refused")
    with pytest.raises(RunnerFailed, match="does not declare its inputs") as raised:
        runner.load(str(models.foreign), Runtime.TORCHSCRIPT)
    assert "--input-shape" in str(raised.value.hint)
    failing = runner.load(str(models.failing), Runtime.TORCHSCRIPT, input_shapes=[(1,)])
    with pytest.raises(RunnerFailed, match="seventeen it must be") as raised:
        runner.run(failing.handle)
    assert (raised.value.stage, raised.value.kind) == ("run", "refused")
    assert runner.alive
    handle = runner.load(str(models.of[Runtime.TFLITE]), Runtime.TFLITE).handle
    runner.unload(handle)
    with pytest.raises(RunnerFailed, match="unknown handle"):
        runner.run(handle)


# What ends it


def test_a_model_that_crashes_costs_one_runner(models: Models) -> None:
    device = HostDevice()
    with device.open_runner() as runner:
        wild = runner.load(str(models.wild), Runtime.TORCHSCRIPT, input_shapes=[(4,)])
        with pytest.raises(RunnerFailed, match=r"SIGSEGV|SIGBUS") as raised:
            runner.run(wild.handle)
        assert (raised.value.stage, raised.value.kind) == ("run", "crashed")
        assert not runner.alive
        with pytest.raises(RunnerFailed, match="it ended earlier"):
            runner.conditions()
    with device.open_runner() as runner:
        assert runner.load(str(models.of[Runtime.ONNX]), Runtime.ONNX).handle


def test_a_runner_that_is_killed_is_noticed(models: Models) -> None:
    with HostDevice().open_runner() as runner:
        handle = start_endless(runner, models)
        pid = runner.hello().pid
        killer = threading.Timer(0.3, os.kill, [pid, signal.SIGKILL])
        killer.start()
        with pytest.raises(RunnerFailed, match="SIGKILL") as raised:
            runner.run(handle)
        killer.join()
    assert (raised.value.stage, raised.value.kind) == ("run", "crashed")


def test_a_model_that_never_ends_is_ended(models: Models) -> None:
    with HostDevice().open_runner() as runner:
        handle = start_endless(runner, models)
        pid = runner.hello().pid
        with pytest.raises(RunnerFailed, match=r"no answer within 0\.5 s") as raised:
            runner.run(handle, timeout_s=0.5)
        assert (raised.value.stage, raised.value.kind) == ("run", "hung")
        assert not psutil.pid_exists(pid)


def test_a_runner_ends_at_its_time_whatever_it_does(models: Models) -> None:
    def run_endlessly() -> None:
        with HostDevice().open_runner(max_seconds=4) as runner:
            runner.run(start_endless(runner, models))

    with pytest.raises(RunnerFailed, match="SIGALRM") as raised:
        run_endlessly()
    assert raised.value.kind == "crashed"


def test_leaving_in_the_middle_leaves_no_process() -> None:
    runner = HostDevice().open_runner()
    pid = runner.hello().pid
    with pytest.raises(KeyboardInterrupt), runner:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(pid)


def test_quitting_twice_is_fine() -> None:
    runner = HostDevice().open_runner()
    runner.quit()
    runner.quit()
    runner.kill()
    assert not runner.alive


# The host itself


def test_the_host_names_itself_without_giving_itself_away() -> None:
    first, second = HostDevice(), HostDevice()
    assert first.unit == second.unit
    assert len(first.unit) == 8
    assert "core" in first.description
    assert not first.emulated


@pins
def test_default_cores_are_allowed_ones() -> None:
    host = HostDevice()
    for threads in range(1, len(CORES) + 1):
        cores = host.default_cores(threads)
        assert len(set(cores)) == threads
        assert set(cores) <= set(CORES)
    if len(CORES) > 1:
        assert host.default_cores(1) != (0,)
    with pytest.raises(BadRequest, match="may use") as raised:
        host.default_cores(len(CORES) + 1)
    assert f"--threads {len(CORES)}" in str(raised.value.hint)
