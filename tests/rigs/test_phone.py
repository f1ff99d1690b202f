"""The arm64 phone behaves like real phones towards real clients, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from adbutils import adb_path

from tests.rigs.parts import RigMissing, default_cache
from tests.rigs.phone import Phone
from tests.rigs.setup import prepare

pytestmark = pytest.mark.rig

REPOSITORY = Path(__file__).parent.parent.parent
STARTER = """
import sys, time
from tests.rigs.phone import Phone
phone = Phone("galaxy-s8")
print(phone.address, phone.data, flush=True)
time.sleep(600)
"""


class Client:
    """One real adb, with a server and a key of its own."""

    def __init__(self, program: str, home: Path) -> None:
        self.program = program
        self.home = home
        socket = f"localfilesystem:{home}/adb.socket"
        self.environment = {**os.environ, "HOME": str(home), "ADB_SERVER_SOCKET": socket}
        self.environment.pop("ANDROID_SERIAL", None)

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def state(self, phone: Phone) -> str | None:
        """The server's word for the phone: device, unauthorized, offline, …"""
        lines = self("devices").stdout.splitlines()
        words = dict(line.split("\t") for line in lines if "\t" in line)
        return words.get(phone.address)

    @property
    def public_key(self) -> str:
        return (self.home / ".android" / "adbkey.pub").read_text()

    def join(self, phone: Phone) -> None:
        """Connect as a computer that the phone knows."""
        (self.home / ".android").mkdir(exist_ok=True)
        if not (self.home / ".android" / "adbkey.pub").exists():
            self("keygen", self.home / ".android" / "adbkey")
        phone.allow(self.public_key)
        self("connect", phone.address)
        _until(lambda: self.state(phone) == "device")

    def shell(self, phone: Phone, command: str) -> subprocess.CompletedProcess[str]:
        return self("-s", phone.address, "shell", command)


@pytest.fixture(params=["debian", "adbutils"])
def adb(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """Debian's adb 29, then the newer one inside adbutils."""
    client = Client("/usr/bin/adb" if request.param == "debian" else adb_path(), tmp_path)
    yield client
    client("kill-server")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """One adb, where it makes no difference which."""
    client = Client("/usr/bin/adb", tmp_path)
    yield client
    client("kill-server")


@pytest.fixture
def old() -> Iterator[Phone]:
    with Phone("galaxy-s8") as phone:
        yield phone


@pytest.fixture
def current() -> Iterator[Phone]:
    with Phone("current") as phone:
        yield phone


def test_setting_up_again_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cache = default_cache()
    before = {path: path.stat().st_mtime for path in cache.iterdir()}
    prepare(cache)
    assert "making" not in (reported := capsys.readouterr().out)
    assert reported.count("present:") == 5
    assert {path: path.stat().st_mtime for path in cache.iterdir()} == before


def test_a_machine_that_is_not_set_up_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RigMissing, match=r"python -m tests\.rigs\.setup"):
        Phone("galaxy-s8", cache=tmp_path)


def test_a_computer_the_phone_does_not_know_must_be_allowed_by_its_user(
    adb: Client, old: Phone
) -> None:
    adb("connect", old.address)
    _until(lambda: adb.state(old) == "unauthorized")
    assert adb.shell(old, "id").returncode != 0
    _until(lambda: [key.split()[0] for key in old.asked()] == [adb.public_key.split()[0]])

    old.allow(adb.public_key)

    _until(lambda: adb.state(old) == "device")
    assert "uid=2000(shell)" in adb.shell(old, "id").stdout


def test_allowing_one_computer_lets_no_other_in(adb: Client, old: Phone, tmp_path: Path) -> None:
    adb.join(old)
    home = tmp_path / "other"
    home.mkdir()
    other = Client(adb.program, home)
    try:
        other("connect", old.address)
        _until(lambda: other.state(old) == "unauthorized")
        assert other.shell(old, "id").returncode != 0
    finally:
        other("kill-server")


def test_a_shell_returns_exit_status_and_both_streams(adb: Client, old: Phone) -> None:
    adb.join(old)
    done = adb.shell(old, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_files_go_there_and_back(adb: Client, old: Phone, tmp_path: Path) -> None:
    adb.join(old)
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(1_000_003))
    sent.chmod(0o755)
    serial = ("-s", old.address)
    assert adb(*serial, "push", sent, "/data/local/tmp/a/b").returncode == 0
    assert adb.shell(old, "test -x /data/local/tmp/a/b").returncode == 0
    assert adb(*serial, "pull", "/data/local/tmp/a/b", back).returncode == 0
    assert back.read_bytes() == sent.read_bytes()
    assert adb(*serial, "push", sent, "/system/bin/b").returncode != 0
    assert adb(*serial, "pull", "/data/local/tmp/none", back).returncode != 0


def test_an_arm64_program_that_was_pushed_runs(client: Client, old: Phone) -> None:
    client.join(old)
    toybox = old.parts.system / "system" / "bin" / "toybox"
    client("-s", old.address, "push", toybox, "/data/local/tmp/toybox")
    done = client.shell(old, "/data/local/tmp/toybox uname -m; uname -r")
    assert done.stdout.split() == ["aarch64", "4.4.153"]


@pytest.mark.parametrize("profile", ["galaxy-s8", "current"])
@pytest.mark.parametrize("name", ["libonnxruntime.so", "libLiteRt.so"])
def test_the_arm64_runtimes_load(client: Client, profile: str, name: str) -> None:
    with Phone(profile) as phone:
        client.join(phone)
        client("-s", phone.address, "push", phone.parts.runtimes / name, "/data/local/tmp")
        # A library that lacks something is told of and left out.
        done = client.shell(phone, f"LD_PRELOAD=/data/local/tmp/{name} toybox cat /proc/self/maps")
        assert done.returncode == 0
        assert "preload" not in done.stderr
        assert name in done.stdout


def test_the_profiles_differ_as_the_phones_do(client: Client, old: Phone, current: Phone) -> None:
    seen = {}
    for phone in (old, current):
        client.join(phone)
        seen[phone.profile.name] = {
            command: client.shell(phone, command)
            for command in (
                "getprop ro.product.model",
                "getprop ro.build.version.release",
                "dumpsys thermalservice",
                "cmd power set-fixed-performance-mode-enabled true",
                "cat /sys/class/thermal/thermal_zone0/temp",
                "grep -c asimddp /proc/cpuinfo",
                "cat /sys/devices/system/cpu/possible",
            )
        }
    answers = {
        name: [(done.returncode, done.stdout.strip()) for done in answers.values()]
        for name, answers in seen.items()
    }
    thermal = answers["current"].pop(2)
    assert thermal[0] == 0
    assert "Thermal Status: 0\n" in thermal[1]
    assert "mValue=43.5, mType=0, mName=BIG, mStatus=0" in thermal[1]
    assert answers["galaxy-s8"].pop(2) == (0, "")
    assert "Can't find service" in seen["galaxy-s8"]["dumpsys thermalservice"].stderr
    assert answers["galaxy-s8"] == [
        (0, "SM-G950U"),
        (0, "9"),
        (255, "Unknown command: set-fixed-performance-mode-enabled"),
        (0, "41200"),
        (1, "0"),
        (0, "0-7"),
    ]
    assert answers["current"] == [
        (0, "Pixel 8"),
        (0, "14"),
        (0, ""),
        (1, ""),
        (0, "9"),
        (0, "0-8"),
    ]


def test_a_program_pins_itself_to_any_core_of_the_phone(client: Client, old: Phone) -> None:
    client.join(old)
    assert client.shell(old, "nproc").stdout.strip() == "8"
    assert client.shell(old, "taskset 80 sh -c 'taskset -p $$; nproc'").stdout.split()[-2:] == [
        "80",
        "1",
    ]
    assert client.shell(old, "taskset 100 true").returncode != 0
    assert client.shell(old, "taskset -p $$").stdout.split()[-1] == "ff"


def test_a_test_changes_what_the_phone_reports(client: Client, current: Phone) -> None:
    client.join(current)
    clock = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_max_freq"
    clocks = f"cat {' '.join(clock.format(core) for core in (4, 7, 8))}"

    current.state.set_thermal_status(3)
    current.state.set_temperature("BIG", 71.25)
    current.state.cap_clock(7, 1_400_000)
    current.state.set_battery(level=41, charging=False, celsius=38.5)

    thermal = client.shell(current, "dumpsys thermalservice").stdout
    assert "Thermal Status: 3\n" in thermal
    assert "mValue=71.2, mType=0, mName=BIG" in thermal
    # A cluster has one clock.
    assert client.shell(current, clocks).stdout.split() == ["1400000", "1400000", "2914000"]
    battery = client.shell(current, "dumpsys battery").stdout
    assert {"  level: 41", "  status: 3", "  temperature: 385", "  USB powered: false"} <= set(
        battery.splitlines()
    )


def test_a_test_sees_what_was_done_to_the_phone(client: Client, current: Phone) -> None:
    client.join(current)
    for command in (
        "cmd power set-fixed-performance-mode-enabled true",
        "input keyevent KEYCODE_SLEEP",
        "settings put system screen_off_timeout 600000",
        "svc power stayon true",
    ):
        assert client.shell(current, command).returncode == 0
    assert current.state.fixed_performance is True
    assert not current.state.awake
    assert "mWakefulness=Asleep" in client.shell(current, "dumpsys power").stdout
    assert current.state.setting("system", "screen_off_timeout") == "600000"
    assert current.state.setting("global", "stay_on_while_plugged_in") == "7"
    assert client.shell(current, "settings get system none").stdout == "null\n"


def test_a_reboot_ends_processes_and_keeps_data(client: Client, current: Phone) -> None:
    client.join(current)
    client.shell(current, "echo kept >/data/local/tmp/file")
    client.shell(current, "cmd power set-fixed-performance-mode-enabled true")
    client.shell(current, "nohup sleep 600 >/dev/null 2>&1 &")
    _until(lambda: any("sleep 600" in line for line in current.processes()))
    assert _uptime(client, current) >= 3599  # offset by whole seconds
    address = current.address

    current.reboot(uptime_s=20)

    assert current.address == address
    client("disconnect", address)
    client.join(current)
    assert 19 <= _uptime(client, current) < 200  # offset by whole seconds
    assert client.shell(current, "cat /data/local/tmp/file").stdout == "kept\n"
    assert not any("sleep 600" in line for line in current.processes())
    assert current.state.fixed_performance is False


def test_a_daemon_that_ends_takes_its_shells_along_and_comes_back(
    client: Client, old: Phone
) -> None:
    client.join(old)
    with subprocess.Popen(
        [client.program, "-s", old.address, "shell", "sleep 600"], env=client.environment
    ) as shell:
        _until(lambda: any("sleep 600" in line for line in old.processes()))
        old.stop_daemon()
        shell.wait(timeout=20)  # adb 29 ends with 0 all the same
    assert old.processes() == []
    assert "connected" not in client("connect", old.address).stdout.split()

    old.start_daemon()

    client.join(old)
    assert client.shell(old, "echo back").stdout == "back\n"
    assert old.kill("/adbd$") == 1
    _until(lambda: any(line.endswith("/adbd") for line in old.processes()))
    client("disconnect", old.address)
    client.join(old)


def test_one_process_can_be_killed(client: Client, old: Phone) -> None:
    client.join(old)
    with subprocess.Popen(
        [client.program, "-s", old.address, "shell", "sleep 600; echo $?"],
        env=client.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        _until(lambda: old.kill(r"(?<!-c )\bsleep 600$", signal.SIGTERM) == 1)
        assert shell.communicate(timeout=20)[0].strip() == "143"


def test_phones_do_not_see_each_other(client: Client, old: Phone) -> None:
    with Phone("galaxy-s8") as other:
        assert other.address != old.address
        assert other.serial != old.serial
        for phone in (old, other):
            client.join(phone)
        client.shell(old, "touch /data/local/tmp/mine; nohup sleep 600 >/dev/null 2>&1 &")
        old.state.set_battery(level=7)
        assert client.shell(other, "ls /data/local/tmp").stdout == ""
        assert "sleep" not in client.shell(other, "ps -A").stdout
        assert "level: 80" in client.shell(other, "dumpsys battery").stdout
        assert client.shell(other, "getprop ro.serialno").stdout.strip() == other.serial


def test_nothing_stays_after_an_exception() -> None:
    phones = []
    with pytest.raises(ZeroDivisionError):
        _fail_with_a_phone(phones)
    (phone,) = phones
    folder = phone.data.parent
    assert _left_of(folder) == []
    assert not folder.exists()
    with pytest.raises(RigMissing, match="switched off"):
        phone.processes()


def test_nothing_stays_after_the_test_was_killed(client: Client) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    address, data = starter.stdout.readline().split()
    folder = Path(data).parent
    try:
        assert "failed to authenticate" in client("connect", address).stdout
        assert len(_left_of(folder)) >= 2
        starter.kill()
        starter.wait()
        _until(lambda: _left_of(folder) == [])
        assert "refused" in client("connect", address).stdout
    finally:
        starter.kill()
        starter.stdout.close()
        shutil.rmtree(folder)


def _fail_with_a_phone(phones: list[Phone]) -> None:
    with Phone("galaxy-s8") as phone:
        phones.append(phone)
        assert _left_of(phone.data.parent)
        raise ZeroDivisionError


def _left_of(folder: Path) -> list[str]:
    """What lives of a phone on this machine: processes and mounts that name its folder."""
    lines = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in (*lines, *mounts) if str(folder) in line]


def _uptime(client: Client, phone: Phone) -> float:
    return float(client.shell(phone, "cat /proc/uptime").stdout.split()[0])


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
