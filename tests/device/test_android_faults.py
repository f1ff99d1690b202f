"""Faults of phones: each ends with a complete and correct LUT, or with a clear error and
a journal from which the next run finishes. No trial is lost, none repeated, no runner left on the phone.

The phones are real `DeviceDaemon`s with runners of fixed times, so that every latency can be compared with
the truth, and nothing is decided by time. `pytest -rP` shows the table that the last test prints.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.device.android.adb.link import FileRefused
from latbench.device.android.artifacts import FOLDER
from latbench.errors import DeviceLost, DeviceUnavailable, LatbenchError, MissingOps, RunnerFailed
from latbench.files import home
from latbench.measure import Journal, Role
from latbench.measure.records import RunState
from latbench.measure.slowdown import Slowdowns
from latbench.space import parse_key
from latbench.workflows.build_lut import lut_of_run

pytest.importorskip("adb_shell", reason="pip install adb-shell")
from tests.rigs import fixed_phone
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.fault_bench import FaultBench, await_strike
from tests.rigs.profiles import GALAXY_S8, PIXEL_8, Profile

ROOT = Path(__file__).parents[2]
RIDDEN, NEXT, TOLD = "ridden out", "finished by the next run", "reported, then finished"

#: Fault -> how it ended. Filled by the tests, counted by the last one.
ENDED: dict[str, str] = {}
#: Every fault that is here.
FAULTS = (
    "link cut while artifacts are sent",
    "link cut during a run",
    "link cut during a reply",
    "daemon restarted",
    "device rebooted",
    "authorisation revoked",
    "disk full",
    "runner killed",
    "runner hangs",
    "model crashes the runtime",
    "no runner for the ABI",
    "runner of another processor",
    "runner corrupted on the phone",
    "runner corrupted on the host",
    "permission denied",
    "thermal status 3",
    "clock capped",
    "clock stuck low",
    "battery at 3 %",
    "host killed with -9",
    "two processes want the phone",
    "device clock jumps",
)


@pytest.fixture(autouse=True)
def _equipped(_own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with the runner of fixed times, and a key of the test's own."""
    fixed_phone.equip(_own_home)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


def _phone(profile: Profile, folder: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(folder / "phone", profile, map_input=True) as daemon:
        yield daemon


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[DeviceDaemon]:
    yield from _phone(GALAXY_S8, tmp_path)


@pytest.fixture
def bench(phone: DeviceDaemon, tmp_path: Path) -> FaultBench:
    return FaultBench(tmp_path / "bench", phone.address, phone.phone.root)


def ended(fault: str, how: str, bench: FaultBench, *, missing: tuple[str, ...] = ()) -> None:
    """Take down how a fault ended, once the LUT is complete and right."""
    bench.require_nothing_lost(missing=missing)
    ENDED[fault] = how


def finish(bench: FaultBench) -> None:
    """The next run: it measures what is left, and nothing that is there."""
    before = len(bench.kept()) if bench.journal.exists() else 0
    report = bench.measure()
    assert report.complete
    assert report.trials - report.taken == before


def lose(bench: FaultBench) -> None:
    """A run that loses the phone says so, and what to do."""
    with pytest.raises(DeviceLost, match="trials so far are kept") as lost:
        bench.measure()
    assert "repeat the command" in str(lost.value.hint)
    with Journal(bench.journal, readonly=True) as journal:
        assert journal.run().state is RunState.FAILED
    assert not [trial for trial in bench.kept() if trial.failure], "no fault of an op"
    bench.require_quiet()


# The link


def test_a_link_that_is_cut_while_artifacts_are_sent(
    phone: DeviceDaemon, bench: FaultBench
) -> None:
    with closing(bench.open()):  # the phone knows us
        pass
    phone.faults.cut_received = 60_000
    report = bench.measure()
    assert phone.faults.cut_received is None, "it was cut"
    assert report.complete
    assert report.failed == 0
    ended("link cut while artifacts are sent", RIDDEN, bench)


def test_a_link_that_is_cut_during_a_run(phone: DeviceDaemon, bench: FaultBench) -> None:
    bench.at(9, lambda: fixed_phone.order(phone.phone.root, "hang"))

    def cut() -> None:
        await_strike(phone.phone.root)
        phone.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    lose(bench)
    cutting.join()
    finish(bench)
    again = bench.measure()
    assert (again.taken, again.runners_started) == (0, 0)
    ended("link cut during a run", NEXT, bench)


@pytest.mark.parametrize("count", [1, 100])
def test_a_link_that_is_cut_during_a_reply(
    phone: DeviceDaemon, bench: FaultBench, count: int
) -> None:
    bench.at(9, lambda: setattr(phone.faults, "cut_sent", count))
    lose(bench)
    assert phone.faults.cut_sent is None, "it was cut"
    finish(bench)
    ended("link cut during a reply", NEXT, bench)


def restart(phone: DeviceDaemon) -> None:
    phone.stop()
    phone.start()


@pytest.mark.parametrize(
    ("fault", "strike"),
    [("daemon restarted", restart), ("device rebooted", DeviceDaemon.reboot)],
)
def test_a_phone_that_starts_again(
    phone: DeviceDaemon, bench: FaultBench, fault: str, strike: Callable[[DeviceDaemon], None]
) -> None:
    bench.at(9, lambda: strike(phone))
    lose(bench)
    finish(bench)
    ended(fault, NEXT, bench)


def test_a_phone_that_does_not_let_us_in_any_more(phone: DeviceDaemon, bench: FaultBench) -> None:
    def revoke() -> None:
        phone.phone.known_keys.clear()
        phone.faults.authorise = False
        phone.cut()

    bench.at(9, revoke)
    lose(bench)
    bench.authorise_s = 0.5
    with pytest.raises(DeviceUnavailable, match="has not authorised this computer") as refused:
        bench.measure()
    assert "allow USB debugging" in str(refused.value.hint)
    phone.faults.authorise, bench.authorise_s = True, 30.0
    finish(bench)
    ended("authorisation revoked", TOLD, bench)


# Files


def test_a_full_disk(phone: DeviceDaemon, bench: FaultBench) -> None:
    phone.faults.disk_left = 60_000
    with pytest.raises(FileRefused, match="No space left") as refused:
        bench.measure()
    assert "free some space" in str(refused.value.hint)
    phone.faults.disk_left = None
    finish(bench)
    ended("disk full", TOLD, bench)


def test_a_phone_that_denies_its_folder(phone: DeviceDaemon, bench: FaultBench) -> None:
    phone.faults.denied.add(FOLDER)
    with pytest.raises(FileRefused, match="Permission denied"):
        bench.measure()
    phone.faults.denied.clear()
    finish(bench)
    ended("permission denied", TOLD, bench)


def test_a_runner_that_is_corrupted_on_the_phone(phone: DeviceDaemon, bench: FaultBench) -> None:
    bench.at(9, phone.cut)
    lose(bench)
    (program,) = phone.phone.real(FOLDER).glob("programs/*/latbench-runner")
    whole = program.read_bytes()
    program.write_bytes(whole[:-1])
    finish(bench)
    assert program.read_bytes() == whole, "it was sent again"
    ended("runner corrupted on the phone", RIDDEN, bench)


def test_a_runner_that_is_corrupted_on_the_host(bench: FaultBench) -> None:
    program = home() / "runners/arm64-v8a/latbench-runner"
    whole = program.read_bytes()
    program.write_bytes(whole[:-1])
    with pytest.raises(LatbenchError, match="differs from what was installed") as refused:
        bench.measure()
    assert "latbench runner build" in str(refused.value.hint)
    program.write_bytes(whole)
    finish(bench)
    ended("runner corrupted on the host", TOLD, bench)


def test_a_phone_of_an_abi_that_there_is_no_runner_for(tmp_path: Path) -> None:
    properties = dict(GALAXY_S8.properties) | {"ro.product.cpu.abi": "armeabi-v7a"}
    with DeviceDaemon(
        tmp_path / "phone", replace(GALAXY_S8, properties=properties), map_input=True
    ) as phone:
        bench = FaultBench(tmp_path / "bench", phone.address, phone.phone.root)
        with pytest.raises(DeviceUnavailable, match="no runner for phones of the ABI") as refused:
            bench.measure()
        assert refused.value.hint == "latbench runner build --preset android-armeabi-v7a"
        fixed_phone.equip(home(), "armeabi-v7a")
        finish(bench)
        ended("no runner for the ABI", TOLD, bench)


def test_a_runner_that_is_built_for_another_processor(bench: FaultBench) -> None:
    folder = home() / "runners/arm64-v8a"
    fixed_phone.equip(home(), runner=b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\xf3\0" * 40)
    with pytest.raises(RunnerFailed, match="crashed while starting") as refused:
        bench.measure()
    assert "xec format error" in refused.value.message
    bench.require_quiet()
    fixed_phone.equip(home())
    assert folder.is_dir()
    finish(bench)
    ended("runner of another processor", TOLD, bench)


# The runner


def test_a_runner_that_the_system_kills(phone: DeviceDaemon, bench: FaultBench) -> None:
    bench.at(9, lambda: fixed_phone.order(phone.phone.root, "SIGKILL"))
    report = bench.measure()
    assert report.complete
    assert (report.failed, report.runners_started) == (1, 2)
    (failed,) = (trial for trial in bench.kept() if trial.failure is not None)
    assert failed.failure is not None
    assert (failed.failure.stage, failed.failure.kind) == ("run", "crashed")
    ended("runner killed", RIDDEN, bench)


def test_a_runner_that_hangs(phone: DeviceDaemon, bench: FaultBench) -> None:
    bench.at(9, lambda: fixed_phone.order(phone.phone.root, "hang"))
    report = bench.measure(timeout_s=6.0)
    assert report.complete
    assert report.given_up == ()
    (failed,) = (trial.failure for trial in bench.kept() if trial.failure is not None)
    assert (failed.kind, failed.reason) == ("hung", "no answer within 6 s; it was killed")
    ended("runner hangs", RIDDEN, bench)


def test_a_model_that_crashes_the_runtime(phone: DeviceDaemon, bench: FaultBench) -> None:
    bad = bench.plan().workloads[2]
    fixed_phone.order(phone.phone.root, "SIGSEGV", artifact=bad.sha256, once=False)
    report = bench.measure()
    assert (report.given_up, report.failed) == ((bad.key,), 3)
    with Journal(bench.journal, readonly=True) as journal, pytest.raises(MissingOps) as missing:
        lut_of_run(journal, macs=lambda key: parse_key(key).macs)
    assert bad.key in missing.value.missing
    ended("model crashes the runtime", TOLD, bench, missing=(bad.key,))


# The phone's state


def test_a_phone_that_gets_hot_and_cools_down(tmp_path: Path) -> None:
    with DeviceDaemon(tmp_path / "phone", PIXEL_8, map_input=True) as phone:
        bench = FaultBench(tmp_path / "bench", phone.address, phone.phone.root, device="pixel-8")
        service = phone.phone.root / "rig/dumps/thermalservice"
        cool = service.read_text()
        hot = cool.replace("Thermal Status: 0", "Thermal Status: 3", 1)
        bench.at(9, lambda: service.write_text(hot))
        bench.at(20, lambda: service.write_text(cool))
        report = bench.measure()
        assert report.complete
        assert report.taints.keys() == {"thermal"}
        assert report.distrusted == (), "what was measured hot was measured again"
        ended("thermal status 3", RIDDEN, bench)


def test_a_clock_that_is_capped_for_a_while(phone: DeviceDaemon, bench: FaultBench) -> None:
    root, peaks = phone.phone.root, {"7": 2361600}
    bench.at(
        9,
        lambda: fixed_phone.tell(
            root, clock_peaks_khz=peaks, clock_limits_khz={"7": 1400000}, clocks_khz={"7": 1400000}
        ),
    )
    bench.at(20, lambda: fixed_phone.tell(root, clock_peaks_khz=peaks, clock_limits_khz=peaks))
    report = bench.measure()
    assert report.complete
    assert report.taints.keys() == {"clock"}
    assert report.distrusted == ()
    ended("clock capped", RIDDEN, bench)


def test_a_clock_that_is_low_for_a_while_without_a_reason(
    phone: DeviceDaemon, bench: FaultBench
) -> None:
    root = phone.phone.root
    bench.at(14, lambda: fixed_phone.tell(root, slowness=1.5))
    bench.at(24, lambda: fixed_phone.tell(root, slowness=1.0))
    report = bench.measure()
    assert report.complete
    assert report.taints.keys() == {"slowdown"}, "nothing else can tell"
    judged = map(Slowdowns.of(bench.kept()).judged, bench.kept())
    assert [trial for trial in judged if trial.taint and trial.role is Role.OP]
    assert report.distrusted == ()
    ended("clock stuck low", RIDDEN, bench)


def test_a_battery_that_is_nearly_empty(phone: DeviceDaemon, bench: FaultBench) -> None:
    dump = phone.phone.root / "rig/dumps/battery"
    charged = dump.read_text()
    dump.write_text(
        charged.replace("level: 80", "level: 3").replace("USB powered: true", "USB powered: false")
    )
    with pytest.raises(DeviceUnavailable, match="is at 3 %") as refused:
        bench.measure()
    assert "charger" in str(refused.value.hint)
    dump.write_text(charged.replace("level: 80", "level: 3"))  # on the charger: it may
    finish(bench)
    ended("battery at 3 %", TOLD, bench)


def test_a_device_clock_that_jumps(phone: DeviceDaemon, bench: FaultBench) -> None:
    root = phone.phone.root
    bench.at(9, lambda: fixed_phone.tell(root, time=4e9, stolen_s=0.0, uptime_s=100.0))
    bench.at(20, lambda: fixed_phone.tell(root, time=5.0, stolen_s=0.0, uptime_s=101.0))
    begun = time.time()
    report = bench.measure()
    assert report.complete
    assert report.tainted == 0
    assert all(begun <= trial.started <= time.time() for trial in bench.kept()), "by our clock"
    ended("device clock jumps", RIDDEN, bench)


# The host


def test_a_host_that_is_killed(phone: DeviceDaemon, bench: FaultBench) -> None:
    command = [sys.executable, "-m", "tests.rigs.fault_bench", phone.address, bench.folder, "9"]
    killed = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    bench.trials_before = len(bench.kept())
    assert bench.trials_before == 9
    bench.require_quiet()
    finish(bench)
    ended("host killed with -9", NEXT, bench)


def test_two_processes_that_want_the_phone(bench: FaultBench) -> None:
    reported: list[str] = []

    def second() -> None:
        with pytest.raises(DeviceUnavailable, match="in use by process") as refused:
            bench.open()
        reported.append(refused.value.message)

    bench.at(9, second)
    report = bench.measure()
    assert report.complete
    assert report.failed == 0
    assert f"process {os.getpid()} on " in reported[0], "the owner is named"
    ended("two processes want the phone", RIDDEN, bench)


# The count


def test_every_fault_was_survived(request: pytest.FixtureRequest) -> None:
    here = {item.name for item in request.session.items if item.path == request.path}
    if {name for name in globals() if name.startswith("test_")} - {n.split("[")[0] for n in here}:
        pytest.skip("only some of the faults were asked for")
    for fault in FAULTS:
        print(f"{fault:36}{ENDED.get(fault, 'LOST')}")
    counted = {how: list(ENDED.values()).count(how) for how in (RIDDEN, NEXT, TOLD)}
    lost = set(FAULTS) - set(ENDED)
    print(f"{len(FAULTS)} injected, {len(ENDED)} survived {counted}, {len(lost)} lost")
    assert lost == set()
    assert sum(counted.values()) == len(FAULTS)
