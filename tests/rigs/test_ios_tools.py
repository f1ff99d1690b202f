"""The companion app on this machine is profiled like an iPhone, over a stand-in usbmuxd.

Unmodified tools for iPhones work with the stand-in usbmuxd. So what our client sends to the stand-in is valid
for usbmuxd too. Each tool also carries a connection to the companion app.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from latbench.device.ios.link import PORT, NetworkLink
from latbench.device.ios.pairing import prove
from latbench.device.ios.stream import Conversation, PhoneStream
from latbench.device.protocol.client import RunnerClient
from latbench.errors import DeviceUnavailable
from latbench.lut import Lut
from tests.rigs.ios_phone import DEVICE, TOKEN, UDID, IosPhone, built
from tests.rigs.ios_tools import tools
from tests.rigs.usbmuxd import UsbmuxStandIn

pytestmark = pytest.mark.rig


@pytest.fixture
def muxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsbmuxStandIn]:
    with UsbmuxStandIn(tmp_path / "usbmuxd") as standin:
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", standin.address)
        monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
        yield standin


@pytest.fixture
def phone(tmp_path: Path, _own_home: Path, muxd: UsbmuxStandIn) -> Iterator[IosPhone]:
    (_own_home / "devices").mkdir()
    (_own_home / "devices/iphonex-rig.toml").write_text(DEVICE)
    with IosPhone(built(), tmp_path / "phone", muxd) as running:
        yield running


def needs(program: str | Path) -> str:
    found = shutil.which(str(program))
    if found is None:
        pytest.skip(f"there is no {program}: run python -m tests.rigs.ios_tools")
    return found


def environment(path: Path, form: str) -> dict[str, str]:
    """Each tool wants the address in a form of its own."""
    address = form.format(path)
    return {**os.environ, "USBMUXD_SOCKET_ADDRESS": address, "HOME": str(path.parent)}


def said_by(command: Sequence[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def forwarding(command: Sequence[str], env: dict[str, str]) -> Iterator[None]:
    """A tool that carries connections to a local port to the phone."""
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def converse(port: int) -> None:
    """Pair and measure through a forwarded port, over one connection.

    iproxy waits by select(2) for descriptors up to that of its connection to usbmuxd alone. Where an earlier
    connection has freed a lower number for that one, what the client sends is never looked at, and both
    ends wait for ever. So there is no second connection.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            stream = PhoneStream(NetworkLink("127.0.0.1", port))
            break
        except DeviceUnavailable:
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.1)
    facts = prove(Conversation(stream, "rig"), TOKEN, secrets.token_hex(16))
    assert (facts.model, facts.emulated) == ("Rig10,3", True)
    with RunnerClient(stream) as runner:
        assert "onnx" in {engine.runtime for engine in runner.hello().engines}
        assert runner.run("reference", warmups=0, min_samples=2, max_samples=2).samples_ns


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_libimobiledevice(phone: IosPhone, tmp_path: Path) -> None:
    env = environment(tmp_path / "usbmuxd", "UNIX:{}")
    assert said_by([needs("idevice_id"), "-l"], env).split() == [UDID]
    assert "ProductType: Rig10,3" in said_by([needs("ideviceinfo"), "-s"], env)
    assert said_by([needs("idevicepair"), "systembuid"], env).strip().startswith("00000000-")
    port = free_port()
    with forwarding([needs("iproxy"), "-u", UDID, f"{port}:{PORT}"], env):
        converse(port)


def test_go_ios(phone: IosPhone, tmp_path: Path) -> None:
    program, env = needs(tools().go_ios), environment(tmp_path / "usbmuxd", "unix://{}")
    assert json.loads(said_by([program, "list"], env)) == {"deviceList": [UDID]}
    port = free_port()
    with forwarding([program, "forward", str(port), str(PORT), f"--udid={UDID}"], env):
        converse(port)


def test_pymobiledevice3(phone: IosPhone, tmp_path: Path) -> None:
    program, env = needs(tools().pymobiledevice3), environment(tmp_path / "usbmuxd", "{}")
    assert json.loads(said_by([program, "usbmux", "list", "--simple"], env)) == [UDID]
    port = free_port()
    words = ["usbmux", "forward", "--serial", UDID, str(port), str(PORT)]
    with forwarding([program, *words], env):
        converse(port)


# Profiles

SPACE = ("--space", "fbnet-cifar", "--input", "16", "--width", "0.35")


def latbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "latbench", *words], capture_output=True, text=True, cwd=cwd
    )


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_a_space_is_profiled_into_a_lut(phone: IosPhone, runtime: str, tmp_path: Path) -> None:
    words = ("profile", "--device", "iphonex-rig", *SPACE, "--runtime", runtime)
    done = latbench(*words, "--calibrate", "3", "--ci", "20%", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["complete"]
    assert (report["given_up"], report["failed"]) == ([], 0)
    assert latbench("build-lut", "--out", "x.json", cwd=tmp_path).returncode == 0
    lut = Lut.load(tmp_path / "x.json")
    assert lut.target.device == "iphonex-rig"
    assert lut.target.cores == ()
    assert lut.conditions["emulated"] is True
    assert lut.conditions["build"].startswith("iOS 16.7.10, Rig10,3")
    assert lut.reference is not None
    assert len(list(phone.cache.iterdir())) >= len(lut.entries)


def test_a_profile_goes_on_where_the_cable_was_pulled(
    phone: IosPhone, muxd: UsbmuxStandIn, tmp_path: Path
) -> None:
    words = ("profile", "--device", "iphonex-rig", *SPACE, "--runtime", "onnx", "--json")
    words += ("--calibrate", "0", "--ci", "30%")
    phone.plug.cut_on, phone.plug.cut_on_nth = b'"op":"run"', 150
    cut = latbench(*words, cwd=tmp_path)
    assert cut.returncode == 1
    assert "is gone" in cut.stderr
    kept = {path.name: path.stat().st_mtime_ns for path in phone.cache.iterdir()}
    muxd.plug(phone.plug)
    done = latbench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["complete"]
    assert 0 < report["taken"] < report["trials"], "some were made before the cable was pulled"
    for name, written in kept.items():
        assert (phone.cache / name).stat().st_mtime_ns == written, "nothing was sent twice"
