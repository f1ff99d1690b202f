"""What every test starts from: a home of its own, and one thread a process."""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep artifacts and journals of a test out of the user's home, and of other tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LATBENCH_HOME", str(home))
    return home


#: Tests that measure: beside each other they would only wait for a quiet core.
MEASURING = ("tests/cli/", "tests/measure/", "tests/device/test_android_device")

#: Tests that share what is dear to make: a runner built from source.
SHARING = ("tests/runner/",)

#: Tests that share nothing, each with a phone of its own that takes long.
APART = ("tests/rigs/test_phone",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let the tests of such a group, else those of a file, run in one process where several run tests; those
    that share nothing wherever they may.
    """
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith(APART):
                return nodeid
            group = next((group for group in (MEASURING, SHARING) if file.startswith(group)), None)
            return group[0] if group else file

    return InGroups(config, log)
