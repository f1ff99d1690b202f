"""The rig's phone works with real clients, and fails on demand."""

import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rigs.adb_server import (
    AdbServer,
    adb_of_adbutils,
    adb_of_debian,
    running_adb_server,
)
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8, PIXEL_8

ANDROID_6 = replace(GALAXY_S8.without("shell_v2"), version=0x01000000)
BYTES = bytes(range(256)) * 32768  # 8 MiB
REMOTE = "/data/local/tmp/some file"


@pytest.fixture(scope="module", params=["debian", "adbutils"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AdbServer]:
    binary = adb_of_adbutils() if request.param == "adbutils" else adb_of_debian()
    if binary is None:
        pytest.skip("no adb on this machine: apt-get install adb")
    with running_adb_server(binary, tmp_path_factory.mktemp("adb home")) as running:
        yield running


@pytest.fixture(params=[GALAXY_S8, PIXEL_8, ANDROID_6], ids=["s8", "pixel-8", "android-6"])
def phone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(tmp_path / "phone", request.param) as daemon:
        yield daemon


@pytest.fixture
def attached(server: AdbServer, phone: DeviceDaemon) -> Iterator[DeviceDaemon]:
    """The phone, which the server is connected to."""
    server.connect(phone.address)
    yield phone
    server.adb("disconnect", phone.address)


def test_adb_lists_it_by_its_model(server: AdbServer, attached: DeviceDaemon) -> None:
    listed = server.adb("devices", "-l").stdout
    model = attached.phone.profile.properties["ro.product.model"]
    assert f"model:{re.sub('[ -]', '_', model)} " in listed


def test_adb_runs_commands(server: AdbServer, attached: DeviceDaemon) -> None:
    result = server.adb("shell", "echo out; echo err >&2; exit 7", serial=attached.serial)
    if "shell_v2" in attached.phone.profile.features:
        assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")
    else:
        assert (result.returncode, result.stdout, result.stderr) == (0, "out\nerr\n", "")
    assert server.adb("exec-out", "printf 'a\\nb'", serial=attached.serial).stdout == "a\nb"
    assert server.adb("shell", "getprop ro.build.type", serial=attached.serial).stdout == "user\n"


def test_adb_moves_files(server: AdbServer, attached: DeviceDaemon, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(BYTES)
    source.chmod(0o640)
    assert server.adb("push", source, REMOTE, serial=attached.serial).returncode == 0
    on_phone = attached.phone.real(REMOTE)
    assert on_phone.read_bytes() == BYTES
    assert int(on_phone.stat().st_mtime) == int(source.stat().st_mtime)
    assert server.adb("pull", REMOTE, back, serial=attached.serial).returncode == 0
    assert back.read_bytes() == BYTES
    listed = server.adb("ls", "/data/local/tmp", serial=attached.serial).stdout.splitlines()
    assert [line.split(maxsplit=3)[1:] for line in listed if "some" in line] == [
        ["00800000", f"{int(source.stat().st_mtime):08x}", "some file"]
    ]


def test_adb_moves_folders(server: AdbServer, attached: DeviceDaemon, tmp_path: Path) -> None:
    (tmp_path / "tree" / "below").mkdir(parents=True)
    for name in ("one", "below/two"):
        (tmp_path / "tree" / name).write_text(name)
    pushed = server.adb("push", tmp_path / "tree", "/data/local/tmp", serial=attached.serial)
    assert pushed.returncode == 0, pushed.stderr
    pulled = server.adb("pull", "/data/local/tmp/tree", tmp_path / "back", serial=attached.serial)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "back" / "below" / "two").read_text() == "below/two"


def test_adb_gets_the_errors(server: AdbServer, attached: DeviceDaemon, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BYTES)
    attached.faults.disk_left = 100_000
    full = server.adb("push", source, REMOTE, serial=attached.serial)
    assert full.returncode != 0
    assert "No space left on device" in full.stdout + full.stderr
    assert not attached.phone.real(REMOTE).exists()
    attached.faults.disk_left = None
    attached.faults.denied = {"/data/secret"}
    denied = server.adb("push", source, "/data/secret/x", serial=attached.serial)
    assert "Permission denied" in denied.stdout + denied.stderr
    missing = server.adb("pull", "/data/missing", tmp_path / "back", serial=attached.serial)
    assert missing.returncode != 0
    assert "cannot run as root" in server.adb("root", serial=attached.serial).stdout
    assert server.adb("reboot", serial=attached.serial).returncode != 0


def test_adb_sees_that_it_is_not_let_in(server: AdbServer, phone: DeviceDaemon) -> None:
    phone.faults.authorise = False
    server.adb("connect", phone.address)
    for _ in range(100):
        if f"{phone.serial}\tunauthorized" in server.adb("devices").stdout:
            break
        time.sleep(0.05)
    else:
        pytest.fail(server.adb("devices").stdout)
    server.adb("disconnect", phone.address)


def test_adb_notices_a_cut(server: AdbServer, attached: DeviceDaemon, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BYTES)
    attached.faults.cut_received = 1_000_000
    assert server.adb("push", source, REMOTE, serial=attached.serial).returncode != 0
    server.adb("disconnect", attached.address)
    server.connect(attached.address)
    attached.faults.cut_service = "shell"
    assert server.adb("shell", "echo hi", serial=attached.serial).stdout == ""


def test_adb_shell_takes_it_for_a_phone(phone: DeviceDaemon, tmp_path: Path) -> None:
    adb_device = pytest.importorskip("adb_shell.adb_device")
    keys = pytest.importorskip("adb_shell.auth.keygen")
    signers = pytest.importorskip("adb_shell.auth.sign_pythonrsa")
    keys.keygen(str(tmp_path / "key"))
    signer = signers.PythonRSASigner.FromRSAKeyPath(str(tmp_path / "key"))
    host, port = phone.address.split(":")
    device = adb_device.AdbDeviceTcp(host, int(port), default_transport_timeout_s=5)
    assert device.connect(rsa_keys=[signer], auth_timeout_s=5)
    assert device.shell("echo hi") == "hi\n"
    (tmp_path / "source").write_bytes(BYTES[:50_000])
    device.push(str(tmp_path / "source"), REMOTE)
    device.pull(REMOTE, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == BYTES[:50_000]
    device.close()


def test_sums_count_until_the_versions_are_known(phone: DeviceDaemon) -> None:
    host, port = phone.address.split(":")
    hello = b"host::\0"
    for total, answer in [(sum(hello) + 1, b""), (sum(hello), b"AUTH")]:
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(_message(b"CNXN", 0x01000001, 4096, hello, total))
            assert client.recv(24)[:4] == answer


def _message(command: bytes, first: int, second: int, data: bytes, total: int) -> bytes:
    (word,) = struct.unpack("<I", command)
    words = (word, first, second, len(data), total, word ^ 0xFFFFFFFF)
    return struct.pack("<6I", *words) + data
