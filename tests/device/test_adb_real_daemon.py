"""Both links work with AOSP's own adbd and Android's own shell."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latbench.device.android.adb.direct import DirectLink
from latbench.device.android.adb.link import FileRefused, StreamLost
from latbench.device.android.adb.server_link import ServerLink
from latbench.errors import DeviceUnavailable
from tests.rigs.adb_server import adb_of_adbutils, running_adb_server
from tests.rigs.phone import Phone

pytestmark = pytest.mark.rig

FOLDER = "/data/local/tmp"


@pytest.fixture(scope="module")
def phone() -> Iterator[Phone]:
    """A phone; a machine without the rig fails, since whoever selects rigs wants these tests run."""
    with Phone("galaxy-s8") as switched_on:
        yield switched_on


@pytest.fixture(params=["direct", "server"])
def link(
    request: pytest.FixtureRequest, phone: Phone, tmp_path: Path
) -> Iterator[DirectLink | ServerLink]:
    if request.param == "direct":
        key = tmp_path / "adbkey"
        with pytest.raises(DeviceUnavailable, match="has not authorised this computer"):
            DirectLink.tcp(phone.address, key=key, authorise_s=0.5)
        phone.allow(key.with_name("adbkey.pub").read_text())
        direct = DirectLink.tcp(phone.address, key=key)
        yield direct
        direct.close()
        return
    with running_adb_server(adb_of_adbutils(), tmp_path) as server:
        server.adb("connect", phone.address)
        phone.allow((tmp_path / ".android" / "adbkey.pub").read_text())
        server.adb("disconnect", phone.address)
        server.connect(phone.address)
        through = ServerLink(phone.address, server.address)
        yield through
        through.close()


def test_commands(link: DirectLink | ServerLink) -> None:
    result = link.shell("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 7)
    assert link.properties()["ro.product.model"] == "SM-G950U"
    with pytest.raises(TimeoutError):
        link.shell("sleep 60", timeout_s=0.5)


def test_a_stream(link: DirectLink | ServerLink) -> None:
    stream = link.open_stream("exec cat")
    blob = bytes(range(256)) * 1000
    sending = threading.Thread(target=stream.send, args=(blob, time.monotonic() + 20))
    sending.start()
    echoed = bytearray()
    while len(echoed) < len(blob):
        echoed += stream.receive(time.monotonic() + 20)
    sending.join()
    assert echoed == blob
    stream.close(10.0)
    assert stream.post_mortem() == "it ended with exit status 0"


def test_what_does_not_end_is_killed(link: DirectLink | ServerLink, phone: Phone) -> None:
    stream = link.open_stream("trap '' HUP; echo go; sleep 77; sleep 77")
    assert stream.receive(time.monotonic() + 20) == b"go\n"
    stream.close(0.0)
    assert stream.post_mortem() == "it was killed by SIGKILL"
    assert not [process for process in phone.processes() if "77" in process]


def test_files(link: DirectLink | ServerLink, tmp_path: Path) -> None:
    files = []
    for number in range(5):
        local = tmp_path / str(number)
        local.write_bytes(os.urandom(number * 99_999))
        files.append((local, f"{FOLDER}/it's new/{number} $x"))
    link.push(files)
    assert [link.pull(remote) for _, remote in files] == [local.read_bytes() for local, _ in files]
    assert link.shell(f"ls -A {FOLDER}/*/ | wc -l").stdout.strip() == "5"
    with pytest.raises(FileRefused, match=r"refuses to accept /system/x: .*Read-only"):
        link.push([(tmp_path / "1", "/system/x")])
    with pytest.raises(FileRefused, match="No such file or directory"):
        link.pull(f"{FOLDER}/missing")


def test_a_restart_of_the_daemon(link: DirectLink | ServerLink, phone: Phone) -> None:
    stream = link.open_stream("exec cat")
    restart = threading.Timer(0.2, phone.restart_daemon)
    restart.start()
    with pytest.raises(StreamLost):
        stream.receive(time.monotonic() + 20)
    restart.join()
    stream.close(0.0)
    link.reconnect(20)
    assert link.shell("echo back").stdout == "back\n"
