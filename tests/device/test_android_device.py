"""A phone is profiled over ADB into a LUT, and is left as it was found.

The phone is `DeviceDaemon`, which runs the runner built for this machine: so everything is real but
the phone's own tools, and its speed.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from latbench.device.android.artifacts import FOLDER, send_artifacts
from latbench.device.android.conditions import query_services
from latbench.device.android.cores import Core, contradiction, fastest, read_cores
from latbench.device.android.prepare import Preparation, restore
from latbench.device.android.root import find_root
from latbench.device.catalogue import find_device
from latbench.device.lock import UnitLock
from latbench.device.native.build import build
from latbench.device.native.engines import install
from latbench.device.registry import UnitSelector, clean_unit, open_device
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, LatbenchError
from latbench.files import home
from latbench.measure import Journal, Progress, RunReport, Settings, measure
from latbench.measure.records import RunState
from latbench.space import SearchSpace
from latbench.target import Runtime
from latbench.workflows import profile as flow
from latbench.workflows.build_lut import build_lut
from latbench.workflows.target import TargetRequest
from tests.rigs import fixed_phone
from tests.rigs.adb_server import AdbServer, adb_of_adbutils, running_adb_server
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8, PIXEL_8, Profile

# The small plans that tests/measure has are good here too.
sys.path.append(str(Path(__file__).parents[1] / "measure"))
from measuring import small_plan

pytest.importorskip("adb_shell", reason="pip install adb-shell")
from latbench.device.android.adb.direct import DirectLink

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
STAY = "settings/global.stay_on_while_plugged_in"
BRIGHTNESS = "settings/system.screen_brightness"
MODE = "fixed_performance"
AIRPLANE = "airplane_mode"


def on_this_machine(profile: Profile) -> Profile:
    """A phone with the processor of this machine."""
    return replace(profile, properties={**profile.properties, "ro.product.cpu.abi": _abi()})


def _abi() -> str:
    return {"aarch64": "arm64-v8a"}.get(os.uname().machine, os.uname().machine)


@pytest.fixture(scope="session")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home's `runners`, with the runner and the engines for this machine."""
    if sys.platform != "linux":
        pytest.skip("the runner opens engines of Linux here")
    if shutil.which("cmake") is None or shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("building the runner takes cmake and a C compiler: apt install cmake gcc")
    onnx = pytest.importorskip("onnxruntime")
    litert = pytest.importorskip("ai_edge_litert")
    built = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATBENCH_HOME", str(built))
        build("host")
        install(next(Path(onnx.__file__).parent.glob("capi/libonnxruntime.so*")))
        install(Path(litert.__file__).parent / "libLiteRt.so")
    return built / "runners"


@pytest.fixture(autouse=True)
def _own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No adb server of the user, and a key of the test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free_port = probe.getsockname()[1]
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


@pytest.fixture
def equipped(_own_home: Path, runners: Path) -> None:
    """The test's home has the runner and the engines."""
    (_own_home / "runners").symlink_to(runners)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with running_adb_server(adb_of_adbutils(), tmp_path_factory.mktemp("adb home")) as running:
        yield running


@pytest.fixture
def old(tmp_path: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(tmp_path / "old", on_this_machine(GALAXY_S8), map_input=True) as daemon:
        yield daemon


@pytest.fixture
def new(tmp_path: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(tmp_path / "new", on_this_machine(PIXEL_8), map_input=True) as daemon:
        yield daemon


@pytest.fixture
def link(old: DeviceDaemon) -> Iterator[DirectLink]:
    opened = DirectLink.tcp(old.address)
    yield opened
    opened.close()


def rig_file(phone: DeviceDaemon, name: str) -> str | None:
    """What the phone's own tools were told to set."""
    path = phone.phone.root / "rig" / name
    return path.read_text().strip() if path.exists() else None


def left_on(phone: DeviceDaemon) -> list[Path]:
    folder = phone.phone.real(FOLDER)
    return [path for path in folder.rglob("*") if path.is_file()]


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


# The whole way


@pytest.mark.usefixtures("equipped")
@pytest.mark.parametrize(("way", "runtime"), [("direct", Runtime.ONNX), ("server", Runtime.TFLITE)])
def test_a_phone_is_profiled_into_a_lut(
    way: str,
    runtime: Runtime,
    server: AdbServer,
    old: DeviceDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How quiet this machine is has nothing to do with it: do not wait until it is.
    monkeypatch.setattr(flow, "Settings", partial(Settings, cool_down_s=0.5))
    where = UnitSelector(unit=old.address)
    if way == "server":
        server.connect(old.address)
        where = UnitSelector(adb_server=server.address)  # the only galaxy-s8 that it knows
    request = TargetRequest(device="galaxy-s8", runtime=runtime, cores=(CORE,), units=(where,))
    journal = tmp_path / "trials.sqlite"

    def profile(*, verify: bool = False) -> flow.Profile:
        return flow.profile(
            request,
            SPACE,
            calibrate=0,
            ci=0.5,
            journal=journal,
            verify=verify,
        )

    done = profile(verify=True)
    assert done.report.complete
    assert done.report.failed == 0
    (verified,) = done.verified
    assert set(verified.errors) == {op.key for op in SPACE.unique_ops}
    assert verified.errors[verified.worst] < 1e-4, "as PyTorch"
    lut = build_lut(journal)
    assert {op.key for op in SPACE.unique_ops} == set(lut.entries)
    assert (lut.target.device, lut.target.runtime) == ("galaxy-s8", runtime)
    assert lut.reference is None, "an emulated phone's tells nothing"
    assert lut.conditions["emulated"] is True
    assert lut.conditions["description"] == "samsung SM-G950U, Android 9"
    assert lut.conditions["build"].startswith("samsung/dreamqltesq/")
    assert lut.conditions["battery_percent"] == [80, 80]
    assert lut.conditions["screen_on"] == [False]
    (engine,) = [file for file in left_on(old) if file.name == _library(runtime)]
    assert lut.method["engine"]["sha256"] == engine.parent.name
    assert lut.method["engine"]["library"] == engine.name
    again = profile()
    assert (again.report.taken, again.report.runners_started) == (0, 0)


@pytest.mark.usefixtures("equipped")
def test_a_phone_that_is_not_emulated_has_a_reference(old: DeviceDaemon) -> None:
    with closing(open_device("galaxy-s8", UnitSelector(unit=old.address))) as device:
        device.open_runner().quit()  # it is sent for an emulated one; there is no other here
        device.emulated = False
        assert str(device.reference).startswith("1x1 convolutions of MobileNetV2")


def _library(runtime: Runtime) -> str:
    return "libonnxruntime.so" if runtime is Runtime.ONNX else "libLiteRt.so"


@pytest.mark.usefixtures("equipped")
def test_a_lost_phone_loses_no_trial(old: DeviceDaemon, tmp_path: Path) -> None:
    plan = small_plan(tmp_path / "models")
    seen = []

    def measured(progress: Callable[[Progress], None] | None) -> RunReport:
        device = open_device("galaxy-s8", UnitSelector(unit=old.address))
        with contextlib.closing(device), Journal(tmp_path / "trials.sqlite") as journal:
            return measure(plan, device, journal, progress=progress)

    def cut_at_ten(progress: Progress) -> None:
        if progress.done >= 10 and not seen:
            seen.append(progress.done)
            old.cut()

    with pytest.raises(DeviceLost, match="trials so far are kept") as lost:
        measured(cut_at_ten)
    assert "repeat the command" in str(lost.value.hint)
    with Journal(tmp_path / "trials.sqlite", readonly=True) as journal:
        assert journal.run().state is RunState.FAILED
        kept = len(journal.trials(journal.run().id))
    assert kept >= seen[0]
    done = measured(None)
    assert done.complete
    assert done.failed == 0
    assert done.trials - done.taken == kept


@pytest.mark.usefixtures("equipped")
def test_conditions_are_those_that_a_phone_reports(old: DeviceDaemon, new: DeviceDaemon) -> None:
    reported = {}
    for name, phone in (("galaxy-s8", old), ("pixel-8", new)):
        device = open_device(name, UnitSelector(unit=phone.address))
        reported[name] = device.conditions()
        device.close()
    assert reported["galaxy-s8"].thermal_status is None, "Android 9 has no thermal service"
    assert reported["pixel-8"].thermal_status == 0
    for name in reported:
        assert reported[name].battery_percent == 80
        assert reported[name].charging is True
        assert reported[name].screen_on is False
        assert (reported[name].temperatures_c or {})["battery"] == 31.2
        assert "RIG/1" in (reported[name].build or "")
        assert reported[name].uptime_s is not None
    assert (reported["pixel-8"].temperatures_c or {})["VIRTUAL-SKIN"] == 33.5


def test_what_services_say_is_followed(new: DeviceDaemon) -> None:
    dumps = new.phone.root / "rig" / "dumps"
    link = DirectLink.tcp(new.address)
    status = (dumps / "thermalservice").read_text().replace("Status: 0", "Status: 3", 1)
    (dumps / "thermalservice").write_text(status)
    (dumps / "power").write_text("  mWakefulness=Awake\n  mWakefulnessChanging=false\n")
    battery = (dumps / "battery").read_text().replace("USB powered: true", "USB powered: false")
    (dumps / "battery").write_text(battery)
    reported = query_services(link)
    assert (reported["thermal_status"], reported["screen_on"], reported["charging"]) == (
        3,
        True,
        False,
    )
    for dump in dumps.iterdir():
        dump.unlink()
    assert query_services(link) == {}
    link.close()


# Files


def test_what_is_there_is_not_sent_again(
    old: DeviceDaemon, link: DirectLink, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.onnx" for number in range(60)]
    for number, file in enumerate(files):
        file.write_bytes(os.urandom(1000 + number))
    places = send_artifacts(link, files)
    assert link.pull(places[files[7]]) == files[7].read_bytes()
    assert len(left_on(old)) == 60
    old.faults.disk_left = 0  # whatever is sent now is refused
    assert send_artifacts(link, files) == places
    old.faults.disk_left = None
    on_phone = old.phone.real(places[files[3]])
    on_phone.write_bytes(on_phone.read_bytes()[:-1] + b"x")
    old.phone.real(places[files[4]]).write_bytes(b"")
    send_artifacts(link, files)
    for file in files:
        assert old.phone.real(places[file]).read_bytes() == file.read_bytes()


def test_a_phone_that_spoils_files_is_not_measured(
    old: DeviceDaemon, link: DirectLink, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    tool = old.phone.root / "system/bin/sha256sum"
    tool.write_text("#!/bin/sh\nfor file; do echo " + "0" * 64 + "  $file; done\n")
    tool.chmod(0o755)
    with pytest.raises(DeviceUnavailable, match="differs from the file that was sent"):
        send_artifacts(link, [file])


@pytest.mark.usefixtures("equipped")
def test_clean_leaves_nothing(old: DeviceDaemon) -> None:
    where = UnitSelector(unit=old.address)
    device = open_device("galaxy-s8", where)
    device.conditions()
    assert {file.name for file in left_on(old)} >= {"latbench-runner", "libonnxruntime.so"}
    with pytest.raises(DeviceUnavailable, match="in use"):
        clean_unit(where)
    device.close()
    serial, freed = clean_unit(where)
    assert serial == old.address
    assert freed > 1 << 20
    assert not old.phone.real(FOLDER).exists()
    assert clean_unit(where)[1] == 0


def test_without_a_runner_the_error_says_how_to_build_one(old: DeviceDaemon, runners: Path) -> None:
    device = open_device("galaxy-s8", UnitSelector(unit=old.address))
    with pytest.raises(
        DeviceUnavailable, match=f"no runner for phones of the ABI {_abi()}"
    ) as bare:
        device.open_runner()
    assert bare.value.hint == f"latbench runner build --preset android-{_abi()}"
    folder = home() / "runners" / _abi()
    folder.mkdir(parents=True)
    pins = json.loads((runners / _abi() / "pins.json").read_text())
    shutil.copy(runners / _abi() / "latbench-runner", folder)
    (folder / "pins.json").write_text(json.dumps({"latbench-runner": pins["latbench-runner"]}))
    with pytest.raises(DeviceUnavailable, match="no engine") as lonely:
        device.open_runner()
    assert "latbench runner install --engine" in str(lonely.value.hint)
    (folder / "latbench-runner").write_bytes(b"altered")
    with pytest.raises(LatbenchError, match="differs from what was installed"):
        device.open_runner()
    device.close()


@pytest.mark.usefixtures("equipped")
def test_a_real_phone_is_given_no_program_for_linux(tmp_path: Path) -> None:
    properties = dict(on_this_machine(GALAXY_S8).properties)
    del properties["ro.boot.qemu"]
    with DeviceDaemon(tmp_path / "real", replace(GALAXY_S8, properties=properties)) as phone:
        device = open_device("galaxy-s8", UnitSelector(unit=phone.address))
        assert (device.emulated, device.unit) == (False, "RIG0S8")
        with pytest.raises(DeviceUnavailable, match="Linux with glibc, not for Android"):
            device.open_runner()
        device.close()


# Which phone


def test_another_device_is_refused_without_as(old: DeviceDaemon) -> None:
    where = UnitSelector(unit=old.address)
    with pytest.raises(DeviceUnavailable, match="which is galaxy-s8, not pixel-8") as refused:
        open_device("pixel-8", where)
    assert "--as" in str(refused.value.hint)
    device = open_device("pixel-8", replace(where, skip_identity_check=True))
    assert device.name == "pixel-8"
    assert device.description == "samsung SM-G950U, Android 9, measured as pixel-8 by --as"
    device.close()


def test_a_phone_with_other_cores_is_refused(tmp_path: Path) -> None:
    files = dict(GALAXY_S8.files)
    for core in (2, 3):
        files[f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq"] = "2400000\n"
    odd = replace(GALAXY_S8, files=files)
    with DeviceDaemon(tmp_path / "odd", odd) as phone:
        with pytest.raises(DeviceUnavailable, match="its cores 0 and 2 differ"):
            open_device("galaxy-s8", UnitSelector(unit=phone.address))
        device = open_device(
            "galaxy-s8", UnitSelector(unit=phone.address, skip_identity_check=True)
        )
        assert device.default_cores(2) == (2, 3)
        device.close()


def test_the_one_phone_of_the_device_is_found_among_others(
    server: AdbServer, old: DeviceDaemon, new: DeviceDaemon
) -> None:
    for phone in (old, new):
        server.connect(phone.address)
    device = open_device("pixel-8", UnitSelector(adb_server=server.address))
    assert device.unit == new.address
    device.close()
    with pytest.raises(BadRequest, match="2 phones are ready"):
        open_device("pixel-4", UnitSelector(adb_server=server.address))
    with pytest.raises(DeviceUnavailable, match="which is galaxy-s8, not pixel-8"):
        open_device("pixel-8", UnitSelector(unit=old.address, adb_server=server.address))
    for phone in (old, new):
        server.adb("disconnect", phone.address)


def test_options_for_phones_are_for_phones() -> None:
    with pytest.raises(BadRequest, match="--unit is for Android phones and iPhones, not for host"):
        open_device("host", UnitSelector(unit="R58J"))
    with pytest.raises(DeviceUnavailable, match="no adb server answers"):
        open_device("galaxy-s8", UnitSelector(unit="R58J"))


def test_cores_by_capacity_and_clock() -> None:
    shown = "cpu0 1785600 261\ncpu4 2419200 871\ncpu7 2841600 1024\ncpu5 2419200 871\ncpu6 - -\n"
    cores = read_cores(shown)
    assert cores[0] == Core(6, None, None)
    assert (fastest(cores, 1), fastest(cores, 2)) == ((7,), (5, 7))
    assert contradiction(cores, find_device("pixel-4")) is None
    swapped = read_cores("cpu0 2841600 1024\ncpu7 1785600 261\n")
    assert "core 7 is slower" in str(contradiction(swapped, find_device("pixel-4")))
    with pytest.raises(BadRequest, match="the phone has 5"):
        fastest(cores, 6)
    assert fastest((), 3) == ()


# One at a time

HOLDER = """
import sys, time
from latbench.device.registry import UnitSelector, open_device
device = open_device(sys.argv[1], UnitSelector(unit=sys.argv[2], prepare=len(sys.argv) > 3))
try:
    print("open", flush=True)
    time.sleep(600)
finally:
    device.close()
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Have another process open a phone."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_want_one_phone(
    old: DeviceDaemon, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    other = hold("galaxy-s8", old.address)
    with pytest.raises(DeviceUnavailable, match=f"in use by process {other.pid} on .* since"):
        open_device("galaxy-s8", UnitSelector(unit=old.address))
    other.kill()
    other.wait()
    open_device("galaxy-s8", UnitSelector(unit=old.address)).close()


def test_locks_are_of_a_unit_each() -> None:
    first, second = UnitLock("127.0.0.1:5555"), UnitLock("R58J")
    with pytest.raises(DeviceUnavailable, match="R58J is in use by process"):
        UnitLock("R58J")
    second.release()
    second.release()
    UnitLock("R58J").release()
    first.release()


# Settings


def test_settings_are_put_back(new: DeviceDaemon) -> None:
    (new.phone.root / "rig/settings/global.stay_on_while_plugged_in").write_text("2\n")
    (new.phone.root / "rig" / BRIGHTNESS).write_text("180\n")
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    assert (rig_file(new, STAY), rig_file(new, MODE), rig_file(new, BRIGHTNESS)) == (
        "7",
        "true",
        "10",
    )
    assert device.description.endswith(
        "; prepared: fixed-performance mode, stay on, steady brightness, dim screen, airplane mode"
    )
    assert rig_file(new, AIRPLANE) == "enabled"
    device.close()
    assert rig_file(new, AIRPLANE) == "disabled"
    assert (rig_file(new, STAY), rig_file(new, MODE), rig_file(new, BRIGHTNESS)) == (
        *("2", "false"),
        "180",
    )


def test_a_phone_that_flies_already_goes_on_flying(new: DeviceDaemon) -> None:
    (new.phone.root / "rig" / AIRPLANE).write_text("enabled\n")
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    assert "airplane" not in device.description
    device.close()
    assert rig_file(new, AIRPLANE) == "enabled"


@pytest.mark.parametrize(
    ("serial", "made"),
    [
        ("RIG0P8", True),
        ("127.0.0.1:5555", False),
        ("[::1]:5555", False),
        ("192.168.1.20:5555", False),
        ("phone.lan:41231", False),
        ("adb-RIG0P8-x._adb-tls-connect._tcp", False),
    ],
)
def test_no_phone_is_cut_off_by_airplane_mode(new: DeviceDaemon, serial: str, made: bool) -> None:
    with closing(DirectLink.tcp(new.address)) as link:
        link.serial = serial
        preparation = Preparation(link, "unit")
        preparation.make(None)
        assert ("airplane mode" in preparation.made) == made
        assert ("; not airplane mode: it would cut" in str(preparation)) != made
        assert (rig_file(new, AIRPLANE) == "enabled") == made
        assert restore(link, "unit")
        assert rig_file(new, AIRPLANE) == "disabled"


def test_a_phone_that_restarts_is_prepared_again(new: DeviceDaemon, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"model")
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    new.reboot()
    (new.phone.root / "rig" / MODE).write_text("false\n")  # a restart ends it
    assert device.send([file])
    assert rig_file(new, MODE) == "true"
    device.close()
    assert (rig_file(new, STAY), rig_file(new, MODE)) == (None, "false")


def test_a_phone_that_will_not_be_prepared_again_is_not_measured(
    with_root: DeviceDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"model")
    device = open_device("galaxy-s8", UnitSelector(unit=with_root.address, prepare=True))
    with_root.reboot()
    (with_root.phone.root / POLICY.format(0) / "scaling_governor").write_text("schedutil\n")
    refusal = with_root.phone.root / "rig/root_is_refused"
    refusal.touch()
    with pytest.raises(DeviceUnavailable, match="prepared again: airplane mode, clocks held"):
        device.send([file])
    refusal.unlink()
    device.close()


def test_a_phone_that_is_still_starting_is_waited_for(new: DeviceDaemon, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"model")
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    new.reboot()
    properties = new.phone.root / "rig/properties"
    started = properties.read_text()
    properties.write_text(started.replace("[sys.boot_completed]: [1]\n", ""))
    with pytest.raises(DeviceLost, match="still starting"):
        device.send([file])
    properties.write_text(started)
    assert device.send([file])
    device.close()


def test_a_setting_that_cannot_be_read_is_left_alone(new: DeviceDaemon) -> None:
    settings = new.phone.root / "system/bin/settings"
    broken = '[ "$1.$3" = get.screen_brightness ] && exit 1\ncase $1 in'
    settings.write_text(settings.read_text().replace("case $1 in", broken))
    (new.phone.root / "rig" / BRIGHTNESS).write_text("180\n")
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    assert "dim screen" not in device.description
    device.close()
    assert rig_file(new, BRIGHTNESS) == "180"


def test_settings_are_put_back_after_ctrl_c(
    new: DeviceDaemon, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    other = hold("pixel-8", new.address, "prepare")
    assert (rig_file(new, STAY), rig_file(new, MODE)) == ("7", "true")
    other.send_signal(signal.SIGINT)
    other.wait(30)
    assert (rig_file(new, STAY), rig_file(new, MODE)) == (None, "false")


@pytest.mark.parametrize("next_command", ["open", "clean"])
def test_settings_are_put_back_after_a_kill_by_the_next_command(
    new: DeviceDaemon, hold: Callable[..., subprocess.Popen[str]], next_command: str
) -> None:
    other = hold("pixel-8", new.address, "prepare")
    other.kill()
    other.wait()
    assert (rig_file(new, STAY), rig_file(new, MODE)) == ("7", "true")
    if next_command == "open":
        open_device("pixel-8", UnitSelector(unit=new.address)).close()
    else:
        clean_unit(UnitSelector(unit=new.address))
    assert (rig_file(new, STAY), rig_file(new, MODE)) == (None, "false")


def test_a_phone_that_went_away_prepared_is_put_back_later(new: DeviceDaemon) -> None:
    device = open_device("pixel-8", UnitSelector(unit=new.address, prepare=True))
    new.stop()
    device.close()
    assert rig_file(new, STAY) == "7"
    new.start()
    open_device("pixel-8", UnitSelector(unit=new.address)).close()
    assert (rig_file(new, STAY), rig_file(new, MODE)) == (None, "false")


def test_an_old_phone_is_prepared_as_far_as_it_goes(old: DeviceDaemon, link: DirectLink) -> None:
    preparation = Preparation(link, "unit")
    preparation.make(None, emulated=True)
    assert preparation.made[0] == "stay on", "Android 9 has no fixed-performance mode"
    assert "not airplane mode: before Android 11" in str(preparation)
    assert rig_file(old, STAY) == "7"
    assert restore(link, "unit")
    assert rig_file(old, STAY) is None
    assert not restore(link, "unit")


POLICY = "sys/devices/system/cpu/cpufreq/policy{}"


def rooted(profile: Profile, governors: tuple[str, ...]) -> Profile:
    """The same phone with root, a thermal zone, and a cluster for each list of governors."""
    zone = "/sys/class/thermal/thermal_zone0"
    files = dict(profile.files) | {f"{zone}/temp": "41500\n", f"{zone}/type": "cpu-big\n"}
    for policy, offered in enumerate(governors):
        folder = "/" + POLICY.format(policy)
        files |= {
            f"{folder}/scaling_governor": "schedutil\n",
            f"{folder}/scaling_available_governors": f"{offered} \n",
            f"{folder}/scaling_min_freq": "300000\n",
            f"{folder}/scaling_max_freq": "2100000\n",
        }
    return replace(on_this_machine(profile), rooted=True, files=files)


@pytest.fixture
def with_root(tmp_path: Path) -> Iterator[DeviceDaemon]:
    """An old phone with root, of two clusters, one of which has no performance governor."""
    profile = rooted(GALAXY_S8, ("conservative performance schedutil", "schedutil"))
    with DeviceDaemon(tmp_path / "rooted", profile, map_input=True) as daemon:
        yield daemon


def clocks(daemon: DeviceDaemon) -> list[str]:
    """The governor of either cluster, and the lowest clock that it may choose."""
    files = [
        daemon.phone.root / POLICY.format(policy) / f"scaling_{name}"
        for policy in (0, 1)
        for name in ("governor", "min_freq")
    ]
    return [file.read_text().strip() for file in files]


def test_a_phone_with_root_has_its_clocks_held(with_root: DeviceDaemon) -> None:
    device = open_device("galaxy-s8", UnitSelector(unit=with_root.address, prepare=True))
    assert clocks(with_root) == ["performance", "300000", "schedutil", "2100000"]
    assert "clocks held (root)" in device.description
    device.close()
    assert clocks(with_root) == ["schedutil", "300000", "schedutil", "300000"]


def test_root_switches_airplane_mode_on_an_old_phone(with_root: DeviceDaemon) -> None:
    with closing(DirectLink.tcp(with_root.address)) as link:
        root = find_root(link)
        assert root is not None
        preparation = Preparation(link, "unit")
        preparation.make(root, emulated=True)
        assert "airplane mode" in preparation.made
        assert rig_file(with_root, "settings/global.airplane_mode_on") == "1"
        assert "AIRPLANE_MODE --ez state true" in (rig_file(with_root, "log") or "")
        assert restore(link, "unit")
        assert rig_file(with_root, "settings/global.airplane_mode_on") == "0"


def test_root_reads_thermal_zones(with_root: DeviceDaemon) -> None:
    fixed_phone.equip(home(), _abi())  # a runner that sees none itself
    for prepare in (False, True):
        where = UnitSelector(unit=with_root.address, prepare=prepare)
        with closing(open_device("galaxy-s8", where)) as device:
            zones = device.conditions().temperatures_c or {}
        assert zones.get("cpu-big") == (41.5 if prepare else None)


def test_without_root_only_the_rest_is_prepared(link: DirectLink) -> None:
    assert find_root(link) is None


def test_root_that_is_withdrawn_is_reported_until_all_is_restored(
    with_root: DeviceDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    where = UnitSelector(unit=with_root.address)
    device = open_device("galaxy-s8", replace(where, prepare=True))
    refusal = with_root.phone.root / "rig/root_is_refused"
    refusal.touch()
    device.close()
    assert "refuses to restore" in caplog.text, "told at once"
    assert rig_file(with_root, STAY) is None, "what needs no root was put back"
    with pytest.raises(DeviceUnavailable, match="refuses to restore") as reported:
        open_device("galaxy-s8", where)
    assert any("clocks held (root)" in line for line in reported.value.details)
    refusal.unlink()
    open_device("galaxy-s8", where).close()
    assert clocks(with_root) == ["schedutil", "300000", "schedutil", "300000"]


# The command line


@pytest.mark.usefixtures("equipped")
def test_the_command_line_reaches_a_phone(old: DeviceDaemon, tmp_path: Path) -> None:
    def latbench(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "latbench", *words], capture_output=True, text=True, cwd=tmp_path
        )

    where = ("--unit", old.address)
    measured = latbench(
        *("measure", "fbnet_a", "--space", "fbnet-cifar", "--input", "16", "--width", "0.35"),
        *("--device", "galaxy-s8", *where, "--runtime", "onnx", "--cores", str(CORE)),
        *("--ci", "50%", "--prepare", "--json"),
    )
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["target"]["device"] == "galaxy-s8"
    assert rig_file(old, STAY) is None
    refused = latbench("measure", "fbnet_a", "--device", "pixel-8", *where)
    assert (refused.returncode, "not pixel-8" in refused.stderr) == (1, True)
    cleaned = latbench("devices", "clean", *where, "--json")
    assert cleaned.returncode == 0, cleaned.stderr
    assert json.loads(cleaned.stdout)["unit"] == old.address
    assert not old.phone.real(FOLDER).exists()
