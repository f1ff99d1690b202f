"""Several phones of one device share a plan, over the adb protocol, from the command line to the LUT.

The phones are `DeviceDaemon`s with runners of fixed times (tests/rigs/fixed_phone.py); so every entry can
be compared with the truth.
"""

import contextlib
import itertools
import json
import statistics
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from latbench.cli import main
from latbench.device.registry import UnitSelector, open_devices, unit_selectors
from latbench.errors import BadRequest, DeviceUnavailable
from latbench.measure import Journal, Role, Workload
from latbench.measure.records import Trial
from latbench.workflows.build_lut import build_lut
from latbench.workflows.runs import last_profile
from tests.rigs import fixed_phone
from tests.rigs.adb_server import adb_of_adbutils, running_adb_server
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8

pytest.importorskip("adb_shell", reason="pip install adb-shell")

SPACE = ("--space", "fbnet-cifar", "--input", "16", "--width", "0.35")


@pytest.fixture(autouse=True)
def _equipped(_own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with the runner of fixed times, a key of the test's own, and no adb server."""
    fixed_phone.equip(_own_home)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # nothing listens there
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    monkeypatch.setattr("latbench.measure.fleet._FIRST_RETRY_S", 0.01)
    monkeypatch.setattr("latbench.measure.fleet._LONGEST_RETRY_S", 0.05)


@pytest.fixture
def phones(tmp_path: Path) -> Iterator[list[DeviceDaemon]]:
    """Three phones, one of them half as fast again as another."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, slowness in (("a", 1.0), ("b", 1.2), ("c", 0.8)):
            daemon = DeviceDaemon(tmp_path / name, GALAXY_S8, map_input=True)
            found.append(stack.enter_context(daemon))
            fixed_phone.tell(daemon.phone.root, slowness)
        yield found


Hook = Callable[[int, str, Role], object]


@pytest.fixture
def before_trial(monkeypatch: pytest.MonkeyPatch) -> list[Hook]:
    """What is called before a trial is journalled, with its number, unit and role. So what happens when
    depends on trials, not on time.
    """
    hooks: list[Hook] = []
    counted, lock, add = itertools.count(), threading.Lock(), Journal.add_trial

    def noticed(self: Journal, run: int, workload: Workload, *words: Any, **values: Any) -> Trial:
        with lock:
            number = next(counted)
        for hook in hooks:
            hook(number, values["unit"], workload.role)
        return add(self, run, workload, *words, **values)

    monkeypatch.setattr(Journal, "add_trial", noticed)
    return hooks


class Absence:
    """One phone of several goes away at a trial, and comes back at a later one.

    No phone's first visit ends before each has one; and once the phone may come back, the others wait
    until it has.
    """

    def __init__(self, phone: DeviceDaemon, units: set[str], goes: int, returns: int) -> None:
        self._phone, self._goes, self._returns = phone, goes, returns
        self._new, self._all_here = units, threading.Barrier(len(units))
        self._back = threading.Event()

    def __call__(self, number: int, unit: str, role: Role) -> None:
        if role is Role.OP and unit in self._new:
            self._new = self._new - {unit}
            self._all_here.wait(60)
        if number == self._goes:
            self._phone.stop()
        elif number == self._returns:
            self._phone.start()
        elif number > self._returns:
            if unit == self._phone.address:
                self._back.set()
            assert self._back.wait(60)


def test_three_phones_share_a_profile_and_one_drops_out_and_comes_back(
    phones: list[DeviceDaemon], before_trial: list[Hook]
) -> None:
    leaving, units = phones[1], {phone.address for phone in phones}
    before_trial.append(Absence(leaving, units, goes=200, returns=300))
    said = CliRunner().invoke(
        main,
        [
            *("profile", "--device", "galaxy-s8", "--runtime", "onnx", *SPACE, "--calibrate", "0"),
            *(word for phone in phones for word in ("--unit", phone.address)),
            "--json",
        ],
        catch_exceptions=False,
    )
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    assert report["complete"]
    assert report["failed"] == 0, "a phone that is gone is no failure of an op"
    assert set(report["units"]) == units
    assert all(part["trials"] > 20 for part in report["units"].values())
    dropped = {unit: part["dropped_out"] for unit, part in report["units"].items()}
    assert dropped[leaving.address] >= 1
    assert dropped[phones[0].address] == dropped[phones[2].address] == 0

    lut = build_lut()
    assert lut.conditions["units"] == report["units"]
    assert lut.conditions["emulated"] is True
    for unit, factor in zip(phones, (1.0, 1.2, 0.8), strict=True):
        assert lut.conditions["units"][unit.address]["factor"] == pytest.approx(factor, rel=0.01)
    with Journal(last_profile(), readonly=True) as journal:
        workloads = journal.run().workloads.values()
        trials = journal.trials(journal.run().id)
    assert len({(t.workload, t.round) for t in trials if t.role is Role.OP}) == len(
        [t for t in trials if t.role is Role.OP]
    ), "no visit was made twice"
    truth = {one.key: fixed_phone.latency_ns(one.sha256) / 1e6 for one in workloads}
    off = [lut.entries[key].ms / truth[key] - 1 for key in lut.entries]
    assert max(map(abs, off)) < 0.02, "noise of 0.2 %, levelled by factors known to about as much"
    assert abs(statistics.median(off)) < 0.01
    for phone in phones:
        fixed_phone.await_end(phone.phone.root)


def test_phones_of_two_adb_servers_are_one_fleet(
    phones: list[DeviceDaemon], tmp_path: Path
) -> None:
    first, second, third = phones
    with (
        running_adb_server(adb_of_adbutils(), tmp_path / "here") as here,
        running_adb_server(adb_of_adbutils(), tmp_path / "there") as there,
    ):
        here.connect(first.address)
        there.connect(second.address)
        servers = [here.address, there.address]
        found = unit_selectors([second.address, first.address], servers)
        assert found == (
            UnitSelector(unit=second.address, adb_server=there.address),
            UnitSelector(unit=first.address, adb_server=here.address),
        )
        with pytest.raises(BadRequest, match=r"none of the adb servers .* lists") as unknown:
            unit_selectors([third.address], servers)
        assert f"{here.address}: {first.address}" in unknown.value.details
        devices = open_devices("galaxy-s8", unit_selectors([], servers))
        assert [device.unit for device in devices] == [first.address, second.address]
        for device in devices:
            device.close()


def test_a_fleet_is_opened_whole_or_not_at_all(phones: list[DeviceDaemon]) -> None:
    phones[2].stop()
    where = unit_selectors([phone.address for phone in phones])
    with pytest.raises(DeviceUnavailable, match="cannot reach"):
        open_devices("galaxy-s8", where)
    for device in open_devices("galaxy-s8", where[:2]):  # nobody holds them
        device.close()
    with pytest.raises(BadRequest, match="is given twice"):
        unit_selectors(["R58J", "R58J"])
