"""What a running adb server knows of phones. A server that does not run is never started."""

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from adbutils import AdbClient, AdbConnection, AdbError

from latbench.device.android.link import parse_properties

_TIMEOUT_S = 3.0
_PORT = 5037  # adb's own default


@dataclass(frozen=True)
class AdbUnit:
    """One unit that an adb server lists.

    `state` is the server's word, such as device, unauthorized or offline; `properties` are those
    of getprop, and empty unless the state is device.
    """

    serial: str
    state: str
    properties: dict[str, str]


class _Connection(AdbConnection):  # type: ignore[misc]  # adbutils has no annotations
    def _safe_connect(self) -> Any:
        """Connect, and no more: adbutils would start a server where none answers."""
        return self._create_socket()


class ServerClient(AdbClient):  # type: ignore[misc]  # adbutils has no annotations
    """A client of the adb server at a host and port, which is never started."""

    def make_connection(self, timeout: float | None = None) -> Any:
        """Connect to the server; every answer is due within `timeout` seconds (default 3)."""
        connection = _Connection(self.host, self.port)
        connection.conn.settimeout(timeout or _TIMEOUT_S)
        connection.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def server_address() -> tuple[str, int] | None:
    """Where the environment says that the adb server listens; None if not on TCP.

    As adb itself: $ADB_SERVER_SOCKET (tcp:host:port or tcp:port), else $ANDROID_ADB_SERVER_PORT on
    $ANDROID_ADB_SERVER_ADDRESS.
    """
    if specification := os.environ.get("ADB_SERVER_SOCKET"):
        match = re.fullmatch(r"tcp:(?:(.+):)?(\d{1,5})", specification)
        return (match[1] or "127.0.0.1", int(match[2])) if match else None
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    return host, int(port) if port.isdecimal() else _PORT


def adb_units() -> list[AdbUnit]:
    """The units that the adb server lists, or none where no server answers."""
    address = server_address()
    if address is None:
        return []
    try:
        return list_units(ServerClient(*address))
    except (AdbError, OSError, ValueError):
        return []  # nobody listens, or it is no adb server


def list_units(client: ServerClient) -> list[AdbUnit]:
    """The units that the server lists.

    Raises:
        AdbError, OSError, ValueError: nobody listens, or it is no adb server.
    """
    return [
        AdbUnit(serial, state, _properties(client, serial) if state == "device" else {})
        for serial, state in unit_states(client)
    ]


def unit_states(client: ServerClient) -> Iterator[tuple[str, str]]:
    """Serial number and state of each unit that the server lists; raises as `list_units`."""
    with client.make_connection() as connection:
        connection.send_command("host:devices")
        connection.check_okay()
        listing = connection.read_string_block()
    for line in listing.splitlines():
        serial, _, state = line.partition("\t")
        if serial and state:
            yield serial, state


def _properties(client: ServerClient, serial: str) -> dict[str, str]:
    """What getprop prints; nothing if the unit went away meanwhile."""
    try:
        output = client.device(serial).shell("getprop", timeout=_TIMEOUT_S)
    except (AdbError, OSError):
        return {}
    return parse_properties(str(output))
