"""Model files, runners to load them into, and copied trees of /proc and /sys."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tinymodels import Models, write_models

from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def runner() -> Iterator[RunnerClient]:
    with HostDevice().open_runner(max_seconds=120) as client:
        yield client


@pytest.fixture
def text_files(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write a tree of files, given by absolute path, below a folder, which is returned."""

    def write(files: dict[str, str]) -> Path:
        for path, text in files.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text + "\n")
        return tmp_path

    return write
