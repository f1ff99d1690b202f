"""The native runner, built once, and real models and engines for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

# The models that tests/device has for the host worker are those for this runner too.
sys.path.append(str(Path(__file__).parents[1] / "device"))

from nativebuild import Built, Process
from tinymodels import Models, write_models

from latbench.device.protocol.client import RunnerClient
from latbench.target import Runtime

SOURCE = Path(__file__).parents[2] / "runner"


def _unable(request: pytest.FixtureRequest, why: str) -> NoReturn:
    """Skip; but fail where rigs were selected, since whoever does wants them run."""
    if any(item.get_closest_marker("rig") for item in request.session.items):
        pytest.fail(why)
    pytest.skip(why)


def _library(package: str, pattern: str) -> Path:
    module = pytest.importorskip(package)
    found = sorted(Path(str(module.__file__)).parent.glob(pattern))
    if not found:
        pytest.skip(f"this wheel of {package} holds no {pattern}")
    return found[0]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if sys.platform != "linux":
        _unable(request, "the runner opens engines of Linux here")
    if shutil.which("cmake") is None or not (shutil.which("cc") or os.environ.get("CC")):
        _unable(request, "building the runner takes cmake and a C compiler: apt install cmake gcc")
    engines = {
        Runtime.ONNX: _library("onnxruntime", "capi/libonnxruntime.so*"),
        Runtime.TFLITE: _library("ai_edge_litert", "libLiteRt.so"),
    }
    folder = tmp_path_factory.mktemp("runner")
    _run(["cmake", "-S", str(SOURCE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"])
    _run(["cmake", "--build", str(folder), "--parallel", str(len(os.sched_getaffinity(0)))])
    return Built(folder, engines)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def native(built: Built) -> Iterator[RunnerClient]:
    with built.client("--max-seconds", "120") as client:
        yield client


@pytest.fixture
def start(built: Built) -> Iterator[Callable[..., Process]]:
    """Start a runner without our client."""
    processes: list[Process] = []

    def begin(*options: str) -> Process:
        pipe = subprocess.PIPE
        command = built.command(*options)
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()
