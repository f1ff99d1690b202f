"""The files about a unit: the lock of its owner, and the settings to restore."""

import os
from pathlib import Path
from typing import Any

import pytest

from latbench.device.android.prepare import restore
from latbench.device.lock import UnitLock, unit_file
from latbench.errors import DeviceUnavailable


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_HOME", str(tmp_path))


def test_a_unit_has_one_owner_at_a_time() -> None:
    lock = UnitLock("R58J")
    with pytest.raises(DeviceUnavailable, match=f"R58J is in use by process {os.getpid()} on "):
        UnitLock("R58J")
    UnitLock("R58K").release()
    lock.release()
    lock.release()
    UnitLock("R58J").release()


@pytest.mark.parametrize(
    "content", ["", "{}", '{"pid": true, "host": "h", "command": "c", "since": "10:00"}']
)
def test_an_owner_that_cannot_be_read_is_another_process(content: str) -> None:
    lock = UnitLock("127.0.0.1:5555")
    unit_file("units", "127.0.0.1:5555", ".json").write_text(content)
    with pytest.raises(DeviceUnavailable, match="is in use by another process"):
        UnitLock("127.0.0.1:5555")
    lock.release()


def test_any_name_of_a_unit_makes_a_file_name() -> None:
    path = unit_file("units", "../[fe80::1]:5555", ".lock")
    assert path == unit_file("units", "x", "").with_name("..__fe80__1__5555.lock")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"changes": []}',
        '{"unit": "R58J", "changes": [{"name": "n", "make": "m", "undo": 1}]}',
        '{"unit": "R58J", "changes": [{"name": "n", "make": "m", "undo": "u", "made": 1}]}',
    ],
)
def test_settings_that_cannot_be_read_are_not_restored(content: str) -> None:
    path = unit_file("units", "R58J", ".restore.json")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    link: Any = None  # nothing is sent to the phone
    with pytest.raises(DeviceUnavailable, match="how to restore the settings of R58J") as refused:
        restore(link, "R58J")
    assert f"rm {path}" in str(refused.value.hint)
    assert path.read_text() == content
