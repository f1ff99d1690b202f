"""A client of usbmuxd, which carries TCP connections to iPhones over USB.

A message is a header of four little-endian 32-bit numbers (length with the header, version 1, type 8, a
tag that the reply repeats) and an XML property list. After a successful Connect the socket is the
connection. On macOS the system runs it; on Linux it is the package usbmuxd.
"""

import contextlib
import os
import plistlib
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from latbench.errors import BadRequest, DeviceUnavailable

#: Environment variable with the address of usbmuxd, UNIX:PATH or HOST:PORT; it overrides the default.
VARIABLE = "USBMUXD_SOCKET_ADDRESS"
SOCKET = "/var/run/usbmuxd"

_HEADER = struct.Struct("<IIII")
_VERSION, _PLIST = 1, 8
_MAX_MESSAGE = 1 << 20
_TIMEOUT_S = 10.0
_ABSENT, _REFUSED = 2, 3  # of a Result message
_HINT = "on Linux: apt install usbmuxd, and connect the phone; macOS runs it by itself"


@dataclass(frozen=True)
class UsbUnit:
    """An iPhone on USB.

    Attributes:
        number: usbmuxd's, which changes when the phone is connected again.
        udid: its UDID, as Apple writes it.
    """

    number: int
    udid: str


class PortClosed(DeviceUnavailable):
    """The phone is attached, but nothing listens on the port."""


class UnitAbsent(DeviceUnavailable):
    """The phone is not attached."""


def list_units() -> list[UsbUnit]:
    """List the iPhones on USB, without those that are connected over Wi-Fi only.

    Raises:
        DeviceUnavailable: no usbmuxd answers.
        BadRequest: $USBMUXD_SOCKET_ADDRESS is invalid.
    """
    with _talk() as talk:
        listed = talk.ask("ListDevices").get("DeviceList", [])
    properties = [one["Properties"] | {"DeviceID": one["DeviceID"]} for one in listed]
    return [
        UsbUnit(one["DeviceID"], written(one["SerialNumber"]))
        for one in properties
        if one.get("ConnectionType", "USB") == "USB"
    ]


def is_paired(udid: str) -> bool:
    """Whether the phone trusts this computer: whether usbmuxd has a pair record of it.

    Raises:
        DeviceUnavailable: no usbmuxd answers.
    """
    with _talk() as talk:
        return "PairRecordData" in talk.ask("ReadPairRecord", PairRecordID=udid)


def connect(udid: str, port: int) -> socket.socket:
    """Open a TCP connection to a port of the phone's loopback interface. The caller closes it.

    Raises:
        UnitAbsent: it is not attached.
        PortClosed: nothing listens on the port.
        DeviceUnavailable: no usbmuxd answers, or it refuses.
    """
    unit = next((one for one in list_units() if one.udid == udid), None)
    if unit is None:
        raise UnitAbsent(
            f"no iPhone {udid} is attached", hint="check the cable, and unlock the phone"
        )
    with _talk() as talk:
        reply = talk.ask("Connect", DeviceID=unit.number, PortNumber=socket.htons(port))
        number = reply.get("Number")
        if number == 0:
            return talk.detach()
    if number == _ABSENT:
        raise UnitAbsent(
            f"no iPhone {udid} is attached", hint="check the cable, and unlock the phone"
        )
    if number == _REFUSED:
        raise PortClosed(f"nothing listens on port {port} of {udid}")
    raise DeviceUnavailable(f"usbmuxd cannot connect to {udid}: result {number}", hint=_HINT)


def written(serial: str) -> str:
    """A UDID as Apple writes it: newer ones have 24 digits, with a dash after the eighth."""
    return f"{serial[:8]}-{serial[8:]}" if re.fullmatch(r"[0-9A-Fa-f]{24}", serial) else serial


class _Talk:
    """A session with usbmuxd; after a Connect its socket is the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket: socket.socket | None = connection
        self._tag = 0

    def ask(self, kind: str, **fields: Any) -> Mapping[str, Any]:
        """Send a message and return the reply's property list."""
        assert self._socket is not None, "the socket was detached"
        self._tag += 1
        names = {"MessageType": kind, "ProgName": "latbench", "ClientVersionString": "latbench"}
        body = plistlib.dumps({**names, "kLibUSBMuxVersion": 3, **fields})
        header = _HEADER.pack(_HEADER.size + len(body), _VERSION, _PLIST, self._tag)
        self._socket.sendall(header + body)
        while True:
            length, _, _, tag = _HEADER.unpack(self._exactly(_HEADER.size))
            if not _HEADER.size <= length <= _MAX_MESSAGE:
                raise ValueError(f"a message of {length} bytes")
            reply = plistlib.loads(self._exactly(length - _HEADER.size))
            if not isinstance(reply, dict):
                raise ValueError("a message that is not a dictionary")
            if tag == self._tag:
                return reply

    def detach(self) -> socket.socket:
        """Return the socket, which `close` then leaves open."""
        assert self._socket is not None, "the socket was detached"
        connection, self._socket = self._socket, None
        connection.settimeout(None)
        return connection

    def close(self) -> None:
        """Close the socket, unless it was detached."""
        if self._socket is not None:
            self._socket.close()

    def _exactly(self, size: int) -> bytes:
        assert self._socket is not None, "the socket was detached"
        data = bytearray()
        deadline = time.monotonic() + _TIMEOUT_S
        while len(data) < size:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("it closed the connection")
            data += piece
        return bytes(data)


@contextlib.contextmanager
def _talk() -> Iterator[_Talk]:
    where, shown = _address()
    try:
        if isinstance(where, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_TIMEOUT_S)
            connection.connect(where)
        else:
            connection = socket.create_connection(where, _TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        reason = error.strerror or "it does not answer"
        raise DeviceUnavailable(f"no usbmuxd at {shown}: {reason}", hint=_HINT) from None
    talk = _Talk(connection)
    try:
        yield talk
    except (OSError, ValueError, KeyError, TypeError, ExpatError) as error:
        raise DeviceUnavailable(
            f"usbmuxd at {shown} does not answer: {error}", hint=_HINT
        ) from None
    finally:
        talk.close()


def _address() -> tuple[str | tuple[str, int], str]:
    """The address of usbmuxd: a path, or host and port; and as text."""
    chosen = os.environ.get(VARIABLE)
    if not chosen and not hasattr(socket, "AF_UNIX"):  # Windows, where Apple's own service listens
        return ("127.0.0.1", 27015), "127.0.0.1:27015"
    if not chosen:
        return SOCKET, SOCKET
    if path := re.fullmatch(r"(?:UNIX:|unix://)?(/.+)", chosen):
        return path[1], path[1]
    match = re.fullmatch(r"(?:tcp://)?(\[[0-9a-fA-F:.%]+\]|[^\s:/]+):(\d{1,5})", chosen)
    if match is None or int(match[2]) > 65535:
        raise BadRequest(
            f"invalid address in ${VARIABLE}: {chosen!r}", hint="set it to UNIX:PATH or HOST:PORT"
        )
    return (match[1].strip("[]"), int(match[2])), chosen
