from collections.abc import Iterator
from pathlib import Path

import pytest
from measuring import small_plan

from latbench.device.host.device import HostDevice
from latbench.measure import Journal, Plan


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "trials.sqlite") as opened:
        yield opened


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return small_plan(tmp_path / "models")
