"""A phone is measured by a program of the user, over the adb protocol.

The phone is a `DeviceDaemon`, the programs are scripts that print what the real ones print.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from programs import SAMPLES, program
from tinymodels import Models

from latbench.device.protocol.client import RunnerClient
from latbench.device.registry import UnitSelector, open_device
from latbench.device.tools.programs import TOOLS
from latbench.errors import (
    BadRequest,
    CannotRead,
    DeviceLost,
    LatbenchError,
    RunnerFailed,
)
from latbench.target import Runtime
from latbench.workflows.measure import measure_latency
from latbench.workflows.target import TargetRequest, open_target
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8

pytest.importorskip("adb_shell", reason="pip install adb-shell")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the phone runs programs of Linux")

CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the test's own, and no adb server."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # nothing listens there
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(tmp_path / "phone", GALAXY_S8) as daemon:
        yield daemon


def where(phone: DeviceDaemon, name: str, path: Path) -> UnitSelector:
    return UnitSelector(unit=phone.address, runner=f"{name}={path}")


def loaded(phone: DeviceDaemon, path: Path, model: Path) -> tuple[RunnerClient, str]:
    """A runner that is the program at `path`, and a model that it has loaded."""
    device = open_device("galaxy-s8", where(phone, "benchmark_model", path))
    place = device.send([model])[model]
    runner = device.open_runner()
    return runner, runner.load(place, Runtime.TFLITE).handle


@pytest.mark.parametrize("name", list(TOOLS))
def test_a_phone_is_measured_by_a_program(
    name: str, phone: DeviceDaemon, models: Models, tmp_path: Path
) -> None:
    path, log = program(tmp_path, name)
    tool = TOOLS[name]
    done = measure_latency(
        models.of[tool.runtime],
        TargetRequest(
            device="galaxy-s8",
            runtime=tool.runtime,
            cores=(CORE,),
            units=(where(phone, name, path),),
        ),
    )
    visits = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(visits) == done.rounds, "a visit each"
    reported = 1 if tool.averages(path.read_bytes()) else SAMPLES.get(name, 8)
    assert done.samples == reported * done.rounds
    assert done.ci95 == pytest.approx((done.ms, done.ms), rel=0.004)
    for cores, *asked in visits:
        assert cores == [CORE]
        assert any("/data/local/tmp/latbench/artifacts/" in word for word in asked)
    left = phone.phone.real("/data/local/tmp/latbench")
    assert {one.name for one in left.iterdir()} == {"artifacts", "programs"}


def test_the_libraries_beside_a_program_go_with_it(
    phone: DeviceDaemon, models: Models, tmp_path: Path
) -> None:
    reported = tmp_path / "libraries"
    body = (
        f"open({str(reported)!r}, 'w').write(os.environ['LD_LIBRARY_PATH'])\n"
        "print('INFO: count=8 first=1 curr=1 min=1 max=1 avg=7.5 std=1')"
    )
    path, _ = program(tmp_path, "benchmark_model", body)
    (tmp_path / "libonnxruntime.so.1").write_bytes(b"a library")
    runner, handle = loaded(phone, path, models.of[Runtime.TFLITE])
    assert runner.run(handle).samples_ns == [7500]
    folder = Path(reported.read_text())
    assert (folder / "libonnxruntime.so.1").read_bytes() == b"a library"


def test_the_phones_facts_are_kept(phone: DeviceDaemon, models: Models, tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model")
    runner, _ = loaded(phone, path, models.of[Runtime.TFLITE])
    reported = runner.conditions()
    assert reported.clock_peaks_khz is not None
    assert max(reported.clock_peaks_khz.values()) > 1_000_000
    assert reported.governors is not None
    assert set(reported.governors.values()) == {"schedutil"}
    assert reported.battery_percent == 80
    assert reported.uptime_s is not None


def test_a_program_for_another_processor(
    phone: DeviceDaemon, models: Models, tmp_path: Path
) -> None:
    path = tmp_path / "benchmark_model"
    path.write_bytes(b"\x7fELF and nothing that runs here")
    path.chmod(0o755)
    runner, handle = loaded(phone, path, models.of[Runtime.TFLITE])
    with pytest.raises(RunnerFailed, match="cannot start") as reported:
        runner.run(handle)
    assert reported.value.hint is not None
    assert "build it for the phone's processor, arm64-v8a" in reported.value.hint


def test_a_program_that_fails(phone: DeviceDaemon, models: Models, tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model", "sys.exit('a model that it cannot load')")
    runner, handle = loaded(phone, path, models.of[Runtime.TFLITE])
    with pytest.raises(LatbenchError, match="exit status 1: 'a model that it cannot load"):
        runner.run(handle)


def hanging(folder: Path) -> tuple[Path, Path]:
    """A program that hangs, and where it writes its number."""
    pid = folder / "pid"
    body = f"open({str(pid)!r}, 'w').write(str(os.getpid()))\nimport time\ntime.sleep(600)"
    return program(folder, "benchmark_model", body)[0], pid


def test_a_program_that_hangs_is_ended(phone: DeviceDaemon, models: Models, tmp_path: Path) -> None:
    path, pid = hanging(tmp_path)
    runner, handle = loaded(phone, path, models.of[Runtime.TFLITE])
    with pytest.raises(RunnerFailed, match="no answer within 5 s"):
        runner.run(handle, timeout_s=5.0)
    deadline = time.monotonic() + 30
    while not ended(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_a_lost_host_left_is_ended_before_the_next(
    phone: DeviceDaemon, models: Models, tmp_path: Path
) -> None:
    path, pid = hanging(tmp_path)
    model = models.of[Runtime.TFLITE]
    with (
        closing(open_device("galaxy-s8", where(phone, "benchmark_model", path))) as device,
        ThreadPoolExecutor(1) as pool,
    ):
        place = device.send([model])[model]
        runner = device.open_runner()
        handle = runner.load(place, Runtime.TFLITE).handle
        lost = pool.submit(runner.run, handle, timeout_s=60.0)
        while not (pid.exists() and pid.read_text()):
            assert not lost.done()
            time.sleep(0.05)
        phone.stop()
        with pytest.raises(DeviceLost):
            lost.result(60)
        left = int(pid.read_text())
        assert not ended(left), "nobody was there to end it"
        phone.start()
        program(tmp_path, "benchmark_model")
        place = device.send([model])[model]
        runner = device.open_runner()
        assert runner.run(runner.load(place, Runtime.TFLITE).handle).samples_ns
        assert ended(left)


def ended(pid: int) -> bool:
    """Whether a process has ended, if nobody has asked for its status yet either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_root_reads_what_a_shell_may_not(tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model")
    zone = "/sys/class/thermal/thermal_zone0"
    files = {**GALAXY_S8.files, f"{zone}/temp": "41500\n", f"{zone}/type": "cpu-big\n"}
    profile = replace(GALAXY_S8, rooted=True, files=files)
    with DeviceDaemon(tmp_path / "rooted", profile) as phone:
        plain = where(phone, "benchmark_model", path)
        for prepare in (False, True):
            with closing(open_device("galaxy-s8", replace(plain, prepare=prepare))) as device:
                zones = device.conditions().temperatures_c or {}
            assert zones.get("cpu-big") == (41.5 if prepare else None)


def test_a_phone_that_went_away(phone: DeviceDaemon, models: Models, tmp_path: Path) -> None:
    path, _ = program(tmp_path, "benchmark_model")
    runner, handle = loaded(phone, path, models.of[Runtime.TFLITE])
    phone.stop()
    with pytest.raises(DeviceLost):
        runner.run(handle)


def test_impossible_requests_are_refused(
    phone: DeviceDaemon, models: Models, tmp_path: Path
) -> None:
    path, _ = program(tmp_path, "benchmark_model")
    with pytest.raises(BadRequest, match="unknown runner 'native' for galaxy-s8"):
        open_device("galaxy-s8", UnitSelector(unit=phone.address, runner="native"))
    with pytest.raises(BadRequest, match="needs the benchmark_model that was built") as nameless:
        open_device("galaxy-s8", UnitSelector(unit=phone.address, runner="benchmark_model"))
    assert nameless.value.hint == "--runner benchmark_model=FILE"
    with pytest.raises(CannotRead, match="no such program"):
        open_device("galaxy-s8", where(phone, "benchmark_model", tmp_path / "nothing"))
    with pytest.raises(BadRequest, match="runs tflite models, not onnx"):
        measure_latency(
            models.of[Runtime.ONNX],
            TargetRequest(
                device="galaxy-s8",
                runtime=Runtime.ONNX,
                cores=(CORE,),
                units=(where(phone, "benchmark_model", path),),
            ),
        )
    with closing(open_device("galaxy-s8", where(phone, "benchmark_model", path))) as device:
        assert device.reference is None
    units = (UnitSelector(unit=phone.address),)
    with pytest.raises(BadRequest, match="native runner has no engine for ExecuTorch") as own:
        open_target(TargetRequest(device="galaxy-s8", runtime=Runtime.EXECUTORCH, units=units))
    assert "--runner executor_runner=FILE" in str(own.value.hint)
