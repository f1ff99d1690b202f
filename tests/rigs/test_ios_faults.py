"""Faults and intruders: each is survived or refused, nothing is lost, and the app never crashes.

The companion app is built with the address and undefined-behaviour sanitizers, which end it at the first
wrong access. `test_all_were_counted` tells how many were injected, and survived.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latbench.device.catalogue import find_device
from latbench.device.ios import stream
from latbench.device.ios.artifacts import PIECE
from latbench.device.ios.device import IosDevice, find_iphone
from latbench.device.ios.link import NetworkLink
from latbench.device.ios.pairing import PhoneTaken, prove
from latbench.device.ios.stream import Conversation, PhoneStream
from latbench.errors import DeviceLost, DeviceUnavailable, RunnerFailed
from latbench.measure import taint
from latbench.target import Runtime
from tests.rigs.ios_phone import DEVICE, TOKEN, IosPhone, built
from tests.rigs.usbmuxd import UsbmuxStandIn

pytestmark = pytest.mark.rig

sys.path.append(str(Path(__file__).parents[1] / "device"))

from tinymodels import write_models  # noqa: E402  # it lies beside the tests of devices

injected: list[str] = []
survived: list[str] = []


@contextlib.contextmanager
def fault(name: str, phone: IosPhone) -> Iterator[None]:
    """Count a fault, and whether the app served a host after it."""
    injected.append(name)
    yield
    assert phone.is_running(), phone.stderr.read_text()
    said = phone.stderr.read_text()
    assert "Sanitizer" not in said, said
    assert "runtime error" not in said, said
    device = opened()
    with device.open_runner() as runner:
        assert runner.run("reference", warmups=0, min_samples=1, max_samples=1).samples_ns
    device.close()
    survived.append(name)


@pytest.fixture(scope="module")
def companion() -> Path:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang: run python -m tests.rigs.ios_tools")
    return built(sanitized=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models")).of[Runtime.ONNX]


@pytest.fixture
def muxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsbmuxStandIn]:
    with UsbmuxStandIn(tmp_path / "usbmuxd") as standin:
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", standin.address)
        monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
        yield standin


@pytest.fixture
def phone(
    companion: Path, tmp_path: Path, _own_home: Path, muxd: UsbmuxStandIn
) -> Iterator[IosPhone]:
    (_own_home / "devices").mkdir()
    (_own_home / "devices/iphonex-rig.toml").write_text(DEVICE)
    with IosPhone(companion, tmp_path / "phone", muxd) as running:
        yield running


def opened() -> IosDevice:
    entry = find_device("iphonex-rig")
    return IosDevice(find_iphone(entry, None, None), entry)


def raw(phone: IosPhone) -> socket.socket:
    """An intruder's connection, straight to the app's port."""
    connection = socket.create_connection(("127.0.0.1", phone.port), 5)
    connection.settimeout(15)
    return connection


def answer(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(1 << 16)
        assert piece, "it hung up without a word"
        data += piece
    reply: dict[str, Any] = json.loads(data)
    return reply


def is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def paired(phone: IosPhone, patience_s: float = 10.0) -> Conversation:
    """Pair, and wait that long for a host before us to be forgotten."""
    link = NetworkLink("127.0.0.1", phone.port)
    deadline = time.monotonic() + patience_s
    while True:
        conversation = Conversation(PhoneStream(link), link.shown)
        try:
            prove(conversation, TOKEN, secrets.token_hex(16))
        except PhoneTaken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return conversation


# Faults


@pytest.mark.parametrize("op", ["load", "run", "upload"])
def test_the_cable_is_pulled(
    op: str,
    phone: IosPhone,
    muxd: UsbmuxStandIn,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fault(f"cable pulled in {op}", phone):
        monkeypatch.setattr(stream.PhoneStream.__init__, "__defaults__", (0.0,))
        device = opened()
        phone.plug.cut_on = f'"op":"{op}"'.encode()

        def measure() -> None:
            path = device.send([model])[model]
            with device.open_runner() as runner:
                runner.run(runner.load(path, Runtime.ONNX).handle, seconds=0.2)

        # The second, where the answer came before the cable was out.
        with pytest.raises(DeviceLost, match=r"is gone|no iPhone \S+ is attached") as lost:
            measure()
        assert "it continues" in str(lost.value.hint)
        device.close()
        muxd.plug(phone.plug)
        again = opened()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert again.send([model]) == {model: digest}
        assert not list(phone.cache.glob("*.part"))
        again.close()


def test_a_cable_that_comes_back_costs_one_trial(
    phone: IosPhone, muxd: UsbmuxStandIn, model: Path
) -> None:
    with fault("cable out for a second", phone):
        device = opened()
        path = device.send([model])[model]
        runner = device.open_runner()
        handle = runner.load(path, Runtime.ONNX).handle
        phone.plug.cut_on = b'"op":"run"'
        threading.Timer(1.0, muxd.plug, [phone.plug]).start()
        with pytest.raises(RunnerFailed, match="was disconnected and returned") as crashed:
            runner.run(handle)
        assert crashed.value.kind == "crashed"
        with device.open_runner() as other:
            assert other.run(other.load(path, Runtime.ONNX).handle).samples_ns
        device.close()


def test_the_app_is_killed(phone: IosPhone, model: Path) -> None:
    with fault("app killed in run", phone):
        device = opened()
        path = device.send([model])[model]
        with device.open_runner() as runner:
            handle = runner.load(path, Runtime.ONNX).handle
            killing = threading.Timer(0.3, phone.kill_app)
            killing.start()
            with pytest.raises(RunnerFailed, match="it crashed, or was closed"):
                runner.run(handle, max_samples=500_000, seconds=20)
        killing.join()  # a process that dies may still accept a connection, and close it
        with pytest.raises(DeviceLost, match="the companion app is not running"):
            device.open_runner()
        device.close()
        phone.open_app()


def test_the_app_goes_to_the_background(phone: IosPhone, model: Path) -> None:
    with fault("app to the background in run", phone):
        device = opened()
        path = device.send([model])[model]
        with device.open_runner() as runner:
            handle = runner.load(path, Runtime.ONNX).handle
            threading.Timer(0.2, phone.set_state, kwargs={"active": 0}).start()
            with pytest.raises(DeviceLost, match="sent to the background"):
                runner.run(handle, max_samples=500_000, seconds=1)
        device.close()
        phone.set_state(active=1)


def test_heat_taints(phone: IosPhone) -> None:
    with fault("thermal state serious", phone):
        device = opened()
        before = device.conditions()
        phone.set_state(thermal=2)
        assert taint.of_conditions(before, device.conditions(), ()) == ["thermal: status 3"]
        device.close()


# Intruders


def test_a_wrong_token(phone: IosPhone) -> None:
    with fault("wrong token", phone):
        entry = find_device("iphonex-rig")
        with pytest.raises(DeviceUnavailable, match="not the one that this phone shows"):
            IosDevice(find_iphone(entry, None, None), entry, token="AAAA-AAAA-AAAA-AAAA")


def test_a_replayed_token(phone: IosPhone) -> None:
    with fault("replayed token", phone):
        recorded: list[bytes] = []

        class Recorder(PhoneStream):
            def send(self, data: bytes, deadline: float) -> None:
                recorded.append(data)
                super().send(data, deadline)

        link = NetworkLink("127.0.0.1", phone.port)
        conversation = Conversation(Recorder(link), link.shown)
        prove(conversation, TOKEN, "0" * 32)
        conversation.close()
        with raw(phone) as intruder:
            for line in recorded:
                intruder.sendall(line)
                reply = answer(intruder)
            assert reply["ok"] is False
            assert "not the one that this phone shows" in reply["error"]["message"]
            assert is_over(intruder)


def test_slow_clients(phone: IosPhone) -> None:
    """Ten that send a byte a second, or nothing, keep nobody out, and are sent away."""
    with fault("slow-loris clients", phone):
        slow = [raw(phone) for _ in range(10)]
        device = opened()  # meanwhile
        deadline = time.monotonic() + 20
        while slow and time.monotonic() < deadline:
            for client in list(slow):
                with contextlib.suppress(OSError):
                    client.sendall(b"{")
                client.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    if is_over(client):
                        client.close()
                        slow.remove(client)
            time.sleep(0.3)
        assert not slow
        device.close()


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send what the app takes before it hangs up."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)


def test_a_line_of_ten_megabytes(phone: IosPhone) -> None:
    line = b'{"op":"' + b"a" * 10_000_000 + b'"}\n'
    with fault("10 MB line, not paired", phone), raw(phone) as intruder:
        send_all(intruder, line)
        with contextlib.suppress(ConnectionError):
            assert "longer than" in answer(intruder)["error"]["message"]
        assert is_over(intruder)
    with fault("10 MB line, paired", phone):
        conversation = paired(phone)
        with pytest.raises(RunnerFailed, match="the line is longer than"):
            conversation.ask("a" * 10_000_000)
        assert conversation.ask("clear")["ok"]
        conversation.close()


@pytest.mark.parametrize(
    "line",
    [b"{", b"\x00\xff\xfe", b"[" * 5000, b'{"op":"hello"', b'"\\ud800"', b"{}{}", b"nan"],
)
def test_malformed_json(phone: IosPhone, line: bytes) -> None:
    with fault(f"malformed JSON {line[:8]!r}", phone), raw(phone) as intruder:
        intruder.sendall(line + b"\n")
        reply = answer(intruder)
        assert reply["ok"] is False
        assert is_over(intruder)


def test_an_artifact_with_a_wrong_hash(phone: IosPhone) -> None:
    with fault("wrong hash", phone):
        conversation = paired(phone)
        name = hashlib.sha256(b"hello").hexdigest()
        with pytest.raises(RunnerFailed, match="has the hash"):
            conversation.ask("upload", sha256=name, size=5, offset=0, data="amVsbG8=")
        assert list(phone.cache.iterdir()) == []
        conversation.close()


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "a/b", ".", "A" * 64, "0" * 63])
def test_a_name_that_leads_out(phone: IosPhone, name: str) -> None:
    with fault(f"path traversal {name[:14]}", phone):
        conversation = paired(phone)
        with pytest.raises(RunnerFailed, match="64 hexadecimal digits"):
            conversation.ask("upload", sha256=name, size=5, offset=0, data="aGVsbG8=")
        with pytest.raises(RunnerFailed, match="an artifact's SHA-256"):
            conversation.ask("load", path=name, runtime="onnx")
        assert list(phone.cache.iterdir()) == []
        conversation.close()


def test_two_hosts(phone: IosPhone) -> None:
    with fault("two hosts at once", phone):
        first = opened()
        with pytest.raises(DeviceUnavailable, match="another host is measuring"):
            paired(phone, patience_s=0)
        with first.open_runner() as runner:
            assert runner.run("reference", max_samples=1).samples_ns
        first.close()


def test_uploads_that_never_end(phone: IosPhone) -> None:
    with fault("upload that is left", phone):
        conversation = paired(phone)
        name = hashlib.sha256(b"x" * 2 * PIECE).hexdigest()
        conversation.ask("upload", sha256=name, size=2 * PIECE, offset=0, data="eHh4")
        assert len(list(phone.cache.glob("*.part"))) == 1
        conversation.close()
        wait_until(lambda: not list(phone.cache.iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_were_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{len(injected)} faults and intruders injected, {len(survived)} survived")
    assert survived == injected
