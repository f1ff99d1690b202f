"""Attached units are listed, and no adb server is started for it."""

import contextlib
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from latbench.device.android.adb.server import server_address
from latbench.device.host.device import HostDevice
from latbench.device.registry import attached_units


class AdbServer(socketserver.ThreadingTCPServer):
    """Speaks as much of an adb server's protocol as listing needs (AOSP: SERVICES.TXT)."""

    allow_reuse_address = True
    daemon_threads = True

    units: ClassVar[dict[str, tuple[str, str]]] = {
        "R58J": (
            "device",
            "[ro.product.manufacturer]: [samsung]\r\n[ro.product.model]: [SM-G950U]\r\n"
            "[ro.build.version.release]: [9]\r\n[persist.odd]: [a]: [b]\r\n",
        ),
        "emulator-5554": ("device", "[ro.product.model]: [sdk_gphone64_x86_64]\n"),
        "0123456789": ("unauthorized", ""),
        "LOST": ("offline", ""),
        "usb:1-2": ("no permissions; see [http://developer.android.com/tools/device.html]", ""),
    }


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        serial = ""
        while header := self.rfile.read(4):
            service = self.rfile.read(int(header, 16)).decode()
            if service == "host:version":
                self._block("0029")
            elif service == "host:devices":
                units = AdbServer.units.items()
                self._block("".join(f"{serial}\t{state}\n" for serial, (state, _) in units))
            elif service.startswith("host:tport:serial:"):
                serial = service.rpartition(":")[2]
                self.wfile.write(b"OKAY" + bytes(8))
            elif service.startswith("shell:") and "getprop" in service:
                self.wfile.write(b"OKAY" + AdbServer.units[serial][1].encode())
                return
            else:
                self.wfile.write(b"FAIL0007unknown")
                return

    def _block(self, text: str) -> None:
        self.wfile.write(b"OKAY" + f"{len(text):04x}{text}".encode())


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with AdbServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(_free_port()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def test_the_host_is_always_there() -> None:
    (host,) = attached_units()
    assert (host.device, host.state, host.measurable) == ("host", "ready", True)
    assert (host.unit, host.description) == (HostDevice().unit, HostDevice().description)


def test_phones_are_listed_with_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_Conversation) as port:
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{port}")
        _, *phones = attached_units()
    samsung, emulator, unauthorized, offline, forbidden = phones
    assert (samsung.device, samsung.unit) == ("galaxy-s8", "R58J")
    assert samsung.description == "samsung SM-G950U, Android 9"
    assert samsung.state == "ready"
    assert (samsung.measurable, samsung.advice) == (True, None)
    assert (emulator.device, emulator.description) == (None, "sdk_gphone64_x86_64")
    assert "--as" in str(emulator.advice)
    assert (unauthorized.device, unauthorized.state) == (None, "unauthorized")
    assert "allow USB debugging" in str(unauthorized.advice)
    assert (offline.state, offline.description) == ("offline", "unknown")
    assert "udev" in str(forbidden.advice)
    assert [phone for phone in phones if phone.measurable] == [samsung]


def test_no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"it tried to run {arguments}")

    # adbutils would call exactly this where no server answers.
    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert len(attached_units()) == 1


class _Stranger(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class _Hangup(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        return


@pytest.mark.parametrize("handler", [_Stranger, _Hangup])
def test_another_program_on_the_port_does_no_harm(
    handler: type[socketserver.BaseRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(handler) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        assert len(attached_units()) == 1


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"ADB_SERVER_SOCKET": "tcp:6000"}, ("127.0.0.1", 6000)),
        ({"ADB_SERVER_SOCKET": "tcp:phones.lan:6000"}, ("phones.lan", 6000)),
        ({"ADB_SERVER_SOCKET": "localfilesystem:/run/adb"}, None),
        ({"ANDROID_ADB_SERVER_PORT": "6001"}, ("127.0.0.1", 6001)),
        ({"ANDROID_ADB_SERVER_PORT": "many"}, ("127.0.0.1", 5037)),
        (
            {"ANDROID_ADB_SERVER_ADDRESS": "10.0.0.9", "ANDROID_ADB_SERVER_PORT": "6001"},
            ("10.0.0.9", 6001),
        ),
    ],
)
def test_the_environment_sets_the_address_of_the_server(
    environment: dict[str, str], address: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert server_address() == address


def test_the_catalogue_needs_no_adb_and_no_numpy() -> None:
    code = "import sys, latbench.device.catalogue; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"adbutils", "numpy", "torch"} & set(loaded)
