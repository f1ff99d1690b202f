"""What every test starts from: a home of its own, and one thread a process."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep artifacts and journals of a test out of the user's home, and of other tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LATBENCH_HOME", str(home))
    return home
