"""A stand-in usbmuxd: tools for iPhones connect to it as if phones were attached.

It speaks the property-list protocol over a Unix socket. A connection to a port of a phone is carried to a
port of this machine; at 62078 a small lockdown service answers what a phone tells unpaired. Faults are
set by tests at any time.
"""

import contextlib
import plistlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOCKDOWN_PORT = 62078
_HEADER = struct.Struct("<IIII")
_LENGTH = struct.Struct(">I")
_OK, _BAD_COMMAND, _BAD_DEVICE, _REFUSED = 0, 1, 2, 3


@dataclass
class PluggedPhone:
    """A phone on the stand-in.

    Attributes:
        udid: 40 hexadecimal digits, or 24, which usbmuxd lists without their dash.
        properties: what lockdown tells.
        ports: port of the phone -> port of this machine.
        trusted: whether there is a pair record.
        plugged: whether the cable is in; `unplug` also cuts what runs over it.
        cut_on: cut the cable when these bytes go to the phone, for the `cut_on_nth` time.
    """

    udid: str
    properties: dict[str, str]
    ports: dict[int, int] = field(default_factory=dict)
    trusted: bool = True
    plugged: bool = True
    cut_on: bytes | None = None
    cut_on_nth: int = 1
    number: int = 1


class UsbmuxStandIn:
    """The stand-in, serving until `stop`; a context manager.

    `USBMUXD_SOCKET_ADDRESS` must be `address` for tools to find it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"UNIX:{path}"
        self.phones: list[PluggedPhone] = []
        self.asked: list[str] = []  # the kinds of messages, in order
        self._links: dict[str, set[socket.socket]] = {}
        self._listeners: list[socket.socket] = []
        self._lock = threading.Lock()
        self._numbers = 0
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(32)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def plug(self, phone: PluggedPhone) -> None:
        """Plug a phone in, for the first time or again: it gets a new number, as usbmuxd does."""
        with self._lock:
            self._numbers += 1
            phone.number, phone.plugged = self._numbers, True
            if phone not in self.phones:
                self.phones.append(phone)
        self._tell({"MessageType": "Attached", "DeviceID": phone.number} | _properties(phone))

    def unplug(self, phone: PluggedPhone) -> None:
        """Pull the cable: whatever runs over it ends."""
        with self._lock:
            phone.plugged = False
            links = self._links.pop(phone.udid, set())
        for link in links:
            _shut(link)
        self._tell({"MessageType": "Detached", "DeviceID": phone.number})

    def stop(self) -> None:
        """End, and with it every connection."""
        for phone in self.phones:
            self.unplug(phone)
        _shut(self._server)
        self._server.close()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener.sendall(_framed(0, message))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                length, _, _, tag = _HEADER.unpack(_exactly(client, _HEADER.size))
                message = plistlib.loads(_exactly(client, length - _HEADER.size))
                self.asked.append(message["MessageType"])
                if message["MessageType"] == "Connect":
                    if self._connect(client, tag, message):
                        return
                    continue
                client.sendall(_framed(tag, self._answer(message)))
                if message["MessageType"] == "Listen":
                    self._listen(client)

    def _listen(self, client: socket.socket) -> None:
        with self._lock:
            self._listeners.append(client)
            plugged = [phone for phone in self.phones if phone.plugged]
        for phone in plugged:
            attached = {"MessageType": "Attached", "DeviceID": phone.number} | _properties(phone)
            client.sendall(_framed(0, attached))

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        kind = message["MessageType"]
        plugged = [phone for phone in self.phones if phone.plugged]
        if kind == "Listen":
            return _result(_OK)
        if kind == "ListDevices":
            listed = [
                {"MessageType": "Attached", "DeviceID": phone.number} | _properties(phone)
                for phone in plugged
            ]
            return {"DeviceList": listed}
        if kind == "ReadBUID":
            return {"BUID": "00000000-0000-0000-0000-000000000000"}
        if kind == "ReadPairRecord":
            for phone in plugged:
                if phone.udid == message["PairRecordID"] and phone.trusted:
                    record = {"HostID": "RIG", "SystemBUID": "RIG"}
                    return {"PairRecordData": plistlib.dumps(record)}
            return _result(_BAD_DEVICE)
        return _result(_BAD_COMMAND)

    def _connect(self, client: socket.socket, tag: int, message: dict[str, Any]) -> bool:
        """Connect the client to the phone's port; returns whether that worked and is over."""
        port = socket.ntohs(message["PortNumber"])
        number = message["DeviceID"]
        found = [phone for phone in self.phones if phone.plugged and phone.number == number]
        if not found:
            client.sendall(_framed(tag, _result(_BAD_DEVICE)))
            return False
        phone = found[0]
        if port == LOCKDOWN_PORT:
            client.sendall(_framed(tag, _result(_OK)))
            _lockdown(client, phone)
            return True
        try:
            inner = socket.create_connection(("127.0.0.1", phone.ports[port]), 5)
        except (KeyError, OSError):
            client.sendall(_framed(tag, _result(_REFUSED)))
            return False
        for end in (client, inner):
            end.settimeout(None)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with inner:
            with self._lock:
                self._links.setdefault(phone.udid, set()).update((client, inner))
            client.sendall(_framed(tag, _result(_OK)))
            back = threading.Thread(target=_carry_back, args=(inner, client, phone), daemon=True)
            back.start()
            self._carry_to_phone(client, inner, phone)
            back.join()
            with self._lock:
                self._links.get(phone.udid, set()).difference_update((client, inner))
        return True

    def _carry_to_phone(
        self, client: socket.socket, inner: socket.socket, phone: PluggedPhone
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if phone.cut_on is not None and phone.cut_on in data:
                    phone.cut_on_nth -= 1
                if phone.cut_on is not None and phone.cut_on_nth < 1:
                    phone.cut_on, phone.cut_on_nth = None, 1
                    phone.plugged = False  # else the phone may answer before the cut
                    inner.sendall(data)
                    self.unplug(phone)
                    break
                inner.sendall(data)
        _shut(inner)


def _properties(phone: PluggedPhone) -> dict[str, Any]:
    serial = phone.udid.replace("-", "")
    return {
        "Properties": {
            "ConnectionType": "USB",
            "ConnectionSpeed": 480000000,
            "DeviceID": phone.number,
            "LocationID": phone.number,
            "ProductID": 0x12A8,
            "SerialNumber": serial,
            "UDID": serial,
        }
    }


def _lockdown(client: socket.socket, phone: PluggedPhone) -> None:
    """Answer as a phone's lockdown does to somebody it does not know."""
    known = phone.properties | {"UniqueDeviceID": phone.udid}
    with contextlib.suppress(OSError, EOFError):
        while True:
            (length,) = _LENGTH.unpack(_exactly(client, _LENGTH.size))
            request = plistlib.loads(_exactly(client, length))
            kind, key = request["Request"], request.get("Key")
            reply: dict[str, Any] = {"Request": kind}
            if kind == "QueryType":
                reply["Type"] = "com.apple.mobile.lockdown"
            elif kind == "GetValue" and key is None:
                reply["Value"] = known
            elif kind == "GetValue" and key in known:
                reply |= {"Key": key, "Value": known[key]}
            elif kind == "GetValue":
                reply["Error"] = "MissingValue"
            else:
                reply["Error"] = "PasswordProtected"
            body = plistlib.dumps(reply)
            client.sendall(_LENGTH.pack(len(body)) + body)


def _result(number: int) -> dict[str, Any]:
    return {"MessageType": "Result", "Number": number}


def _framed(tag: int, message: dict[str, Any]) -> bytes:
    body = plistlib.dumps(message)
    return _HEADER.pack(_HEADER.size + len(body), 1, 8, tag) + body


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _carry_back(inner: socket.socket, client: socket.socket, phone: PluggedPhone) -> None:
    with contextlib.suppress(OSError):
        while data := inner.recv(1 << 16):
            if phone.plugged:
                client.sendall(data)
    _shut(client)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
