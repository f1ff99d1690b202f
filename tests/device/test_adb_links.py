"""Both links to an Android unit behave alike, on old and new phones, and survive faults."""

import contextlib
import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.device.android.adb.link import FileRefused, StreamLost, quote
from latbench.device.android.adb.server import units
from latbench.device.android.adb.server_link import ServerLink
from latbench.device.catalogue import recognise
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import Transport
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, LatbenchError, RunnerFailed
from tests.rigs.adb_server import AdbServer, adb_of_adbutils, running_adb_server
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8, PIXEL_8

pytest.importorskip("adb_shell", reason="pip install adb-shell")
from latbench.device.android.adb.direct import DirectLink

Link = DirectLink | ServerLink
ANDROID_6 = replace(GALAXY_S8.without("shell_v2"), version=0x01000000)
FOLDER = "/data/local/tmp"
BYTES = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with running_adb_server(adb_of_adbutils(), tmp_path_factory.mktemp("adb home")) as running:
        yield running


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "adbkey"


@pytest.fixture(params=[GALAXY_S8, PIXEL_8, ANDROID_6], ids=["s8", "pixel-8", "android-6"])
def phone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeviceDaemon]:
    with DeviceDaemon(tmp_path / "phone", request.param) as daemon:
        yield daemon


@pytest.fixture(params=["direct", "server"])
def link(
    request: pytest.FixtureRequest, server: AdbServer, phone: DeviceDaemon, key: Path
) -> Iterator[Link]:
    if request.param == "direct":
        direct = DirectLink.tcp(phone.address, key=key, stall_s=0.7)
        yield direct
        direct.close()
        return
    server.connect(phone.address)
    through = ServerLink(phone.serial, server.address, stall_s=0.7)
    yield through
    through.close()
    server.adb("disconnect", phone.address)


def soon() -> float:
    return time.monotonic() + 5


def receive(stream: Transport, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += stream.receive(soon())
    return bytes(data)


def await_true(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it never came true")


class TestCommands:
    def test_output_and_exit_code_come_back(self, link: Link, phone: DeviceDaemon) -> None:
        result = link.shell("printf 'a\\r\\n\\351\\n'; echo err >&2; exit 7")
        assert result.exit_code == 7
        if "shell_v2" in phone.phone.profile.features:
            assert (result.stdout, result.stderr) == ("a\r\n\ufffd\n", "err\n")
        else:
            assert (result.stdout, result.stderr) == ("a\r\n\ufffd\nerr\n", "")

    def test_any_command_does(self, link: Link) -> None:
        for command, output in {
            "true": "",
            "cat": "",  # nothing to read: it ends
            "echo one # a comment": "one\n",
            "printf 'no newline'": "no newline",
            "echo größer": "größer\n",
            "head -c 300000 /dev/zero | tr '\\0' x": "x" * 300_000,
        }.items():
            result = link.shell(command)
            assert (result.stdout, result.exit_code) == (output, 0), command

    def test_a_slow_command_is_given_up(self, link: Link) -> None:
        with pytest.raises(TimeoutError, match="sleep 60"):
            link.shell("sleep 60", timeout_s=0.3)
        assert link.shell("echo on").stdout == "on\n"

    def test_the_catalogue_recognises_it(self, link: Link, phone: DeviceDaemon) -> None:
        known = recognise(link.properties())
        assert known is not None
        assert known.name == phone.phone.profile.name


class TestStreams:
    def test_bytes_pass_unchanged(self, link: Link) -> None:
        stream = link.open_stream("exec cat")
        blob = bytes(range(256)) * 1000
        sending = threading.Thread(target=stream.send, args=(blob, soon()))
        sending.start()
        assert receive(stream, len(blob)) == blob
        sending.join()
        assert stream.alive
        with pytest.raises(TimeoutError):
            stream.receive(time.monotonic() + 0.05)
        stream.close(0.5)
        stream.close(0.5)
        assert not stream.alive

    def test_the_end_is_reported(self, link: Link, phone: DeviceDaemon) -> None:
        stream = link.open_stream("read line; echo $line; echo oh >&2; exit 3")
        stream.send(b"hi\n", soon())
        printed = b"hi\n" if "shell_v2" in phone.phone.profile.features else b"hi\noh\n"
        assert receive(stream, len(printed)) == printed
        with pytest.raises(EOFError) as end:
            stream.receive(soon())
        assert not isinstance(end.value, StreamLost)
        assert not stream.alive
        stream.close(1.0)
        if "shell_v2" in phone.phone.profile.features:
            assert stream.post_mortem() == "it ended with exit status 3; its last output: oh"
        else:
            assert "does not report exit statuses" in stream.post_mortem()

    def test_several_streams_and_commands_at_once(self, link: Link) -> None:
        streams = [link.open_stream("exec cat") for _ in range(3)]
        wrong: list[object] = []

        def talk(stream: Transport, name: bytes) -> None:
            for number in range(20):
                line = b"%s %d\n" % (name, number)
                stream.send(line, soon())
                if (answer := receive(stream, len(line))) != line:
                    wrong.append((line, answer))

        def ask(name: str) -> None:
            for _ in range(5):
                if link.shell(f"echo {name}").stdout != f"{name}\n":
                    wrong.append(name)

        threads = [
            threading.Thread(target=talk, args=(stream, b"stream %d" % number))
            for number, stream in enumerate(streams)
        ] + [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        for stream in streams:
            stream.close(0.2)

    def test_one_that_nobody_reads_holds_up_itself_alone(self, link: Link) -> None:
        flood = link.open_stream("exec cat /dev/zero")
        assert link.shell("echo on").stdout == "on\n"
        flood.close(0.0)

    def test_what_does_not_end_is_killed_with_its_children(self, link: Link) -> None:
        stream = link.open_stream("trap '' HUP; echo $$; sleep 60; sleep 60")
        group = int(stream.receive(soon()))
        stream.close(0.0)
        await_true(lambda: not _runs(group))
        assert link.shell("echo on").stdout == "on\n"

    def test_what_does_not_read_is_noticed(self, link: Link) -> None:
        stream = link.open_stream("exec sleep 60")
        with pytest.raises(TimeoutError):
            stream.send(bytes(32 << 20), time.monotonic() + 0.5)
        stream.close(0.0)
        assert link.shell("echo on").stdout == "on\n"

    def test_a_runner_works_over_it(self, link: Link) -> None:
        worker = quote(sys.executable) + " -m latbench.device.host.worker --max-seconds 60"
        checkout = quote(str(Path(__file__).parents[2]))
        with RunnerClient(link.open_stream(f"cd {checkout}; exec {worker}")) as client:
            assert client.hello().pid > 0
            assert client.conditions().time > 0
            with pytest.raises(RunnerFailed, match="m9"):
                client.run("m9")


class TestFiles:
    def test_many_files_arrive_in_one_go(self, link: Link, tmp_path: Path) -> None:
        files = []
        for number in range(50):
            local = tmp_path / f"file {number}"
            local.write_bytes(os.urandom(number * 977))
            files.append((local, f'{FOLDER}/it\'s a "new" folder/{number} $x'))
        link.push(files, mode=0o755)
        sums = link.shell(f"sha256sum {' '.join(quote(remote) for _, remote in files)}").stdout
        assert [line.lstrip("\\").split()[0] for line in sums.splitlines()] == [
            hashlib.sha256(local.read_bytes()).hexdigest() for local, _ in files
        ]
        listing = link.shell(f"ls -A {FOLDER}/*/").stdout.split("\n")
        assert len(listing) == 51, "nothing is left but the files"

    def test_mode_and_time_are_kept(self, link: Link, phone: DeviceDaemon, tmp_path: Path) -> None:
        local = tmp_path / "local"
        local.write_bytes(b"#!/bin/sh\necho ran\n")
        os.utime(local, (1_600_000_000, 1_600_000_000))
        link.push([(local, f"{FOLDER}/tool")], mode=0o750)
        found = phone.phone.real(f"{FOLDER}/tool").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o750, 1_600_000_000)
        assert link.shell(f"{FOLDER}/tool").stdout == "ran\n"

    def test_what_is_there_can_be_read(self, link: Link, tmp_path: Path) -> None:
        local = tmp_path / "local"
        for content in (b"", b"x", BYTES):
            local.write_bytes(content)
            link.push([(local, f"{FOLDER}/größer")])
            assert link.pull(f"{FOLDER}/größer") == content

    def test_refusals_say_why(self, link: Link, phone: DeviceDaemon, tmp_path: Path) -> None:
        local, remote = tmp_path / "local", f"{FOLDER}/remote"
        local.write_bytes(BYTES)
        properties = tmp_path / "phone" / "rig" / "properties"
        phone.faults.disk_left = 100_000
        with pytest.raises(FileRefused, match="No space left on device") as full:
            link.push([(properties, remote + "2"), (local, remote)])
        assert "df" in str(full.value.hint)
        assert link.pull(remote + "2") == properties.read_bytes(), "whole ones stay"
        phone.faults.denied = {"/data/secret"}
        with pytest.raises(FileRefused, match="Permission denied"):
            link.push([(local, "/data/secret/x")])
        with pytest.raises(FileRefused, match="No such file or directory"):
            link.pull(f"{FOLDER}/missing")
        with pytest.raises(FileNotFoundError):
            link.push([(tmp_path / "missing", remote)])
        assert link.shell("echo on").stdout == "on\n"


class TestLosses:
    def test_a_cut_while_sending_files(
        self, link: Link, phone: DeviceDaemon, tmp_path: Path
    ) -> None:
        local, remote = tmp_path / "local", f"{FOLDER}/remote"
        local.write_bytes(BYTES)
        for after in (10, 30_000, 1_500_000):
            phone.faults.cut_received = after
            with pytest.raises(DeviceLost):
                link.push([(local, remote)])
            assert not phone.phone.real(remote).exists()
            link.reconnect(10)
        link.push([(local, remote)])
        assert link.pull(remote) == BYTES

    def test_a_cut_while_a_runner_works(self, link: Link, phone: DeviceDaemon) -> None:
        stream = link.open_stream("exec cat")
        timer = threading.Timer(0.1, phone.cut)
        timer.start()
        # Through a server nothing but the state tells a cut from an end, and the server dials again
        # at once; phones with the shell protocol tell every end.
        expected = EOFError if "shell_v2" not in phone.phone.profile.features else StreamLost
        with pytest.raises(expected):
            stream.receive(soon())
        timer.join()
        assert not stream.alive
        stream.close(0.0)
        if expected is StreamLost:
            assert phone.serial in stream.post_mortem() or "hung up" in stream.post_mortem()
        link.reconnect(10)
        assert link.shell("echo on").stdout == "on\n"

    def test_a_cut_in_the_reply(self, link: Link, phone: DeviceDaemon) -> None:
        for after in (0, 30, 2000):
            phone.faults.cut_sent = after
            with pytest.raises(DeviceLost):
                link.shell("head -c 100000 /dev/zero")
            link.reconnect(10)
        phone.faults.cut_service = "sync"
        with pytest.raises(DeviceLost):
            link.pull(f"{FOLDER}/x")
        link.reconnect(10)
        assert link.shell("echo on").stdout == "on\n"

    def test_a_runner_client_sees_it(self, link: Link, phone: DeviceDaemon) -> None:
        client = RunnerClient(link.open_stream("read request; sleep 60"))
        threading.Timer(0.1, phone.cut).start()
        # Where nothing tells a cut from an end (see above), a lost runner looks like a crashed one.
        tells = "shell_v2" in phone.phone.profile.features
        with pytest.raises(DeviceLost if tells else (DeviceLost, RunnerFailed)):
            client.hello()
        assert not client.alive
        client.quit()
        with pytest.raises(RunnerFailed, match="it ended earlier"):
            client.hello()

    def test_silence_is_noticed_in_time(
        self, link: Link, phone: DeviceDaemon, tmp_path: Path
    ) -> None:
        stream = link.open_stream("exec cat")
        phone.hang()
        with contextlib.suppress(TimeoutError):
            stream.send(b"hi", time.monotonic() + 0.2)
        with pytest.raises(TimeoutError):
            stream.receive(time.monotonic() + 0.2)
        with pytest.raises(DeviceLost, match="no longer answers"):
            link.shell("true", timeout_s=0.3)
        (tmp_path / "local").write_bytes(BYTES)
        with pytest.raises(DeviceLost):
            link.push([(tmp_path / "local", f"{FOLDER}/remote")])
        with pytest.raises(DeviceLost, match="did not reconnect within"):
            link.reconnect(0.3)
        phone.resume()
        link.reconnect(10)
        assert link.shell("echo on").stdout == "on\n"

    def test_silence_in_the_middle_of_a_transfer(
        self, link: Link, phone: DeviceDaemon, tmp_path: Path
    ) -> None:
        (tmp_path / "local").write_bytes(BYTES)
        phone.faults.hang_received = 300_000
        with pytest.raises(DeviceLost, match="stopped answering while sending files"):
            link.push([(tmp_path / "local", f"{FOLDER}/remote")])

    def test_a_restart(self, link: Link, phone: DeviceDaemon) -> None:
        stream = link.open_stream("exec sleep 60")
        time.sleep(0.1)
        before = float(link.shell("cat /proc/uptime").stdout.split()[0])
        phone.stop()
        with pytest.raises(DeviceLost):
            link.shell("true", timeout_s=5)
        with pytest.raises(DeviceLost, match="did not reconnect within"):
            link.reconnect(0.3)
        assert not stream.alive
        phone.phone.boot()
        phone.start()
        link.reconnect(10)
        assert float(link.shell("cat /proc/uptime").stdout.split()[0]) - before < 30
        assert phone.phone.groups == set()


class TestGettingIn:
    def test_a_phone_that_does_not_know_us(
        self, server: AdbServer, phone: DeviceDaemon, key: Path
    ) -> None:
        phone.faults.authorise = False
        with pytest.raises(DeviceUnavailable, match="has not authorised this computer") as direct:
            DirectLink.tcp(phone.address, key=key, authorise_s=0.2)
        server.adb("connect", phone.address)
        await_true(lambda: [unit.state for unit in units(server.address)] == ["unauthorized"])
        with pytest.raises(DeviceUnavailable, match="has not authorised this computer") as through:
            ServerLink(phone.serial, server.address)
        server.adb("disconnect", phone.address)
        for error in (direct.value, through.value):
            assert "allow USB debugging" in str(error.hint)

    def test_a_key_is_made_once_and_for_us_alone(self, tmp_path: Path) -> None:
        key = tmp_path / "new" / "adbkey"
        with DeviceDaemon(tmp_path / "phone") as phone:
            for _ in range(2):
                DirectLink.tcp(phone.address, key=key).close()
            assert len(phone.phone.known_keys) == 1
            phone.faults.authorise = False
            key.with_name("adbkey.pub").unlink()
            DirectLink.tcp(phone.address, key=key).close()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        key.write_text("no key")
        with pytest.raises(LatbenchError, match="it is not an RSA key"):
            DirectLink.tcp(phone.address, key=key)

    def test_nobody_is_there(self, key: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DeviceUnavailable, match=f"cannot reach {address}: "):
            DirectLink.tcp(address, key=key)
        with pytest.raises(DeviceUnavailable, match=f"no adb server answers at {address}") as error:
            units(address)
        assert error.value.hint == "adb start-server"
        with pytest.raises(DeviceUnavailable, match="no adb server answers"):
            ServerLink("X", address)

    def test_somebody_else_is_there(self, server: AdbServer, key: Path) -> None:
        with pytest.raises(DeviceUnavailable, match="cannot reach"):
            DirectLink.tcp(server.address, key=key, connect_s=0.5)

    @pytest.mark.parametrize("address", ["", "a b", "host:port", "host:99999", "x:1:2"])
    def test_no_address(self, address: str, key: Path) -> None:
        with pytest.raises(BadRequest, match="invalid address"):
            DirectLink.tcp(address, key=key)
        with pytest.raises(BadRequest, match="invalid address"):
            units(address)

    def test_units_of_a_server(self, server: AdbServer, tmp_path: Path) -> None:
        assert units(server.address) == []
        with DeviceDaemon(tmp_path / "phone", GALAXY_S8) as phone:
            server.connect(phone.address)
            (unit,) = units(server.address)
            assert (unit.serial, unit.state) == (phone.serial, "device")
            assert unit.properties["ro.product.model"] == "SM-G950U"
            with pytest.raises(DeviceUnavailable, match="does not list OTHER"):
                ServerLink("OTHER", server.address)
            server.adb("disconnect", phone.address)


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet counts as a process.
    listed = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True)
    return any(not line.strip().startswith("Z") for line in listed.stdout.splitlines())
