"""Our usbmux client against the stand-in, which real tools accept too (tests/rigs/test_ios_tools.py)."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latbench.device.catalogue import find_device
from latbench.device.ios import lockdown, usbmux
from latbench.device.ios.device import find_iphone
from latbench.device.ios.link import PORT, NetworkLink, UsbLink
from latbench.errors import BadRequest, DeviceUnavailable
from tests.rigs.usbmuxd import PluggedPhone, UsbmuxStandIn

OLD = "0123456789abcdef0123456789abcdef01234567"
NEW = "00008101-000123456789001E"


@pytest.fixture
def muxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsbmuxStandIn]:
    with UsbmuxStandIn(tmp_path / "usbmuxd") as standin:
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", standin.address)
        yield standin


def phone(udid: str, model: str, *, trusted: bool = True) -> PluggedPhone:
    return PluggedPhone(udid, {"ProductType": model, "ProductVersion": "16.7.10"}, trusted=trusted)


def test_phones_are_listed_by_the_name_apple_gives_them(muxd: UsbmuxStandIn) -> None:
    assert usbmux.list_units() == []
    old, new = phone(OLD, "iPhone10,3"), phone(NEW, "iPhone14,5", trusted=False)
    muxd.plug(old)
    muxd.plug(new)
    assert [unit.udid for unit in usbmux.list_units()] == [OLD, NEW]
    assert (usbmux.is_paired(OLD), usbmux.is_paired(NEW)) == (True, False)
    assert lockdown.properties(NEW) == {"ProductType": "iPhone14,5", "ProductVersion": "16.7.10"}
    muxd.unplug(old)
    assert [unit.udid for unit in usbmux.list_units()] == [NEW]
    with pytest.raises(usbmux.UnitAbsent, match="is attached"):
        usbmux.connect(OLD, PORT)
    muxd.plug(old)
    numbers = {unit.udid: unit.number for unit in usbmux.list_units()}
    assert numbers == {OLD: 3, NEW: 2}, "another number, the same phone"
    assert lockdown.properties(OLD)["ProductType"] == "iPhone10,3"


def test_a_connection_is_the_phones_port(muxd: UsbmuxStandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = phone(OLD, "iPhone10,3")
        one.ports[PORT] = server.getsockname()[1]
        muxd.plug(one)
        with usbmux.connect(OLD, PORT) as ours:
            theirs, _ = server.accept()
            with theirs:
                ours.sendall(b"there")
                assert theirs.recv(100) == b"there"
                theirs.sendall(b"and back")
                assert ours.recv(100) == b"and back"
                muxd.unplug(one)
                assert ours.recv(100) == b""
    with pytest.raises(usbmux.UnitAbsent):
        usbmux.connect(OLD, PORT)
    muxd.plug(one)
    with pytest.raises(usbmux.PortClosed):
        usbmux.connect(OLD, PORT + 1)
    with pytest.raises(DeviceUnavailable, match="the companion app is not running"):
        UsbLink(OLD).connect()


def test_the_phone_is_found_by_name_model_or_being_alone(muxd: UsbmuxStandIn) -> None:
    iphonex = find_device("iphonex")
    with pytest.raises(DeviceUnavailable, match="no iPhone is attached"):
        find_iphone(iphonex, None, None)
    muxd.plug(phone(OLD, "iPhone10,3"))
    assert find_iphone(iphonex, None, None) == UsbLink(OLD)
    muxd.plug(phone(NEW, "iPhone14,5"))
    assert find_iphone(iphonex, None, None) == UsbLink(OLD)
    assert find_iphone(find_device("iphone-13"), None, None) == UsbLink(NEW)
    assert find_iphone(iphonex, NEW, None) == UsbLink(NEW), "whether it is one is asked later"
    with pytest.raises(BadRequest, match="several iPhones are attached"):
        find_iphone(find_device("iphone-15"), None, None)
    with pytest.raises(BadRequest, match="no iPhone absent is attached"):
        find_iphone(iphonex, "absent", None)
    assert find_iphone(iphonex, None, "192.168.1.7") == NetworkLink("192.168.1.7", PORT)
    assert find_iphone(iphonex, None, "[fe80::1]:99") == NetworkLink("fe80::1", 99)
    for wrong in ("", "a b:1", "host:0", "host:99999"):
        with pytest.raises(BadRequest, match="invalid address of a phone"):
            find_iphone(iphonex, None, wrong)
    with pytest.raises(BadRequest, match="is not an iPhone"):
        find_iphone(find_device("galaxy-s8"), None, None)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"short",
        struct.pack("<IIII", 1 << 30, 1, 8, 1),
        struct.pack("<IIII", 20, 1, 8, 1) + b"what",
        struct.pack("<IIII", 16, 1, 8, 1),
    ],
)
def test_another_program_than_usbmuxd_is_reported(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", address)
        with pytest.raises(DeviceUnavailable, match="does not answer"):
            usbmux.list_units()
        thread.join()
    with pytest.raises(DeviceUnavailable, match=f"no usbmuxd at {address}"):
        usbmux.list_units()


def test_addresses_are_those_of_other_tools(
    muxd: UsbmuxStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    muxd.plug(phone(OLD, "iPhone10,3"))
    for form in (f"UNIX:{muxd.path}", f"unix://{muxd.path}", str(muxd.path)):
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", form)
        assert len(usbmux.list_units()) == 1
    for form in ("nowhere", "host:port", "host:70000"):
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", form)
        with pytest.raises(BadRequest, match="invalid address"):
            usbmux.list_units()
