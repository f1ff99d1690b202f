"""The adb server: its address, the units that it lists, and the choice of one. It is never started here."""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adbutils import AdbClient, AdbConnection, AdbError

from latbench.device.android.adb.link import parse_properties
from latbench.device.android.identity import model_of
from latbench.errors import BadRequest, DeviceUnavailable

_TIMEOUT_S = 3.0
_PORT = 5037  # adb's own default


_ALLOW = (
    "unlock the phone, allow USB debugging for this computer (tick Always), then run the same "
    "command again"
)
# The first word of a state -> what is wrong, and what to do.
_CURES = {
    "unauthorized": ("has not authorised this computer", _ALLOW),
    "authorizing": ("has not authorised this computer yet", _ALLOW),
    "offline": (
        "does not answer the adb server",
        "unplug it and plug it in again, or restart it; on a network: adb reconnect offline",
    ),
    "connecting": ("is not ready yet", "wait a moment, then run the same command again"),
    "no permissions": (
        "is on USB, but you have no permission to use it",
        "add a udev rule for it (Debian: apt install android-sdk-platform-tools-common, and join "
        "the group plugdev), plug it in again, then adb kill-server and adb start-server",
    ),
    "recovery": ("is in recovery mode", "restart it: adb reboot"),
    "sideload": ("is in recovery mode", "restart it: adb reboot"),
    "bootloader": ("is in its bootloader", "restart it: fastboot reboot"),
}


@dataclass(frozen=True)
class AdbUnit:
    """A unit that an adb server lists.

    `state` is the server's, such as device, unauthorized or offline; `properties` are those of getprop,
    and empty unless the state is device.
    """

    serial: str
    state: str
    properties: dict[str, str]


class _Connection(AdbConnection):  # type: ignore[misc]  # adbutils has no annotations
    def _safe_connect(self) -> Any:
        """Only connect: adbutils would start a server if none answers."""
        return self._create_socket()


class ServerClient(AdbClient):  # type: ignore[misc]  # adbutils has no annotations
    """A client of the adb server at a host and port. It never starts one."""

    def make_connection(self, timeout: float | None = None) -> Any:
        """Connect to the server; every answer must come within `timeout` seconds (default 3)."""
        connection = _Connection(self.host, self.port)
        connection.conn.settimeout(timeout or _TIMEOUT_S)
        connection.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def server_address() -> tuple[str, int] | None:
    """The adb server's address according to the environment; None if it is not on TCP.

    Like adb itself: $ADB_SERVER_SOCKET (tcp:host:port or tcp:port), else $ANDROID_ADB_SERVER_PORT on
    $ANDROID_ADB_SERVER_ADDRESS.
    """
    if specification := os.environ.get("ADB_SERVER_SOCKET"):
        match = re.fullmatch(r"tcp:(?:(.+):)?(\d{1,5})", specification)
        return (match[1] or "127.0.0.1", int(match[2])) if match else None
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    return host, int(port) if port.isdecimal() else _PORT


def adb_units() -> list[AdbUnit]:
    """List the units of the adb server; none if no server answers."""
    address = server_address()
    if address is None:
        return []
    try:
        return list_units(ServerClient(*address))
    except (AdbError, OSError, ValueError):
        return []  # no server, or another program


def list_units(client: ServerClient) -> list[AdbUnit]:
    """List the units of the server.

    Raises:
        AdbError, OSError, ValueError: no server answers, or it is another program.
    """
    return [
        AdbUnit(serial, state, _properties(client, serial) if state == "device" else {})
        for serial, state in unit_states(client)
    ]


def unit_states(client: ServerClient) -> Iterator[tuple[str, str]]:
    """Serial number and state of each unit of the server; raises as `list_units`."""
    with client.make_connection() as connection:
        connection.send_command("host:devices")
        connection.check_okay()
        listing = connection.read_string_block()
    for line in listing.splitlines():
        serial, _, state = line.partition("\t")
        if serial and state:
            yield serial, state


def _properties(client: ServerClient, serial: str) -> dict[str, str]:
    """The system properties; empty if the unit was just disconnected."""
    try:
        output = client.device(serial).shell("getprop", timeout=_TIMEOUT_S)
    except (AdbError, OSError):
        return {}
    return parse_properties(str(output))


def units(address: str | None = None) -> list[AdbUnit]:
    """List the units of an adb server, with their states and properties.

    Args:
        address: HOST:PORT of the server; by default as adb's own environment variables say.

    Raises:
        BadRequest: `address` is invalid.
        DeviceUnavailable: no adb server answers there.
    """
    host, port = address_of(address)
    try:
        return list_units(ServerClient(host, port))
    except (AdbError, OSError, ValueError):
        raise no_server(host, port) from None


def cure_of(state: str) -> str | None:
    """What to do about a unit in this state of the adb server; None if it is ready."""
    return None if state == "device" else unusable("it", state).hint


def choose_unit(found: Sequence[AdbUnit], serial: str | None = None) -> AdbUnit:
    """Return the unit with this serial number, by default the only one, if it is ready.

    Raises:
        BadRequest: there are several and none is named, or the named one is not listed.
        DeviceUnavailable: there is none, or it is not ready; the hint says what to do.
    """
    listed = [f"{unit.serial}  {_shown(unit)}" for unit in found]
    if not found:
        raise DeviceUnavailable(
            "no phone is attached"
            if serial is None
            else f"no phone is attached; {serial} was expected",
            hint="connect it with USB debugging enabled (Settings, Developer options), or "
            "adb connect HOST:PORT; then adb devices must list it",
        )
    if serial is None:
        ready = [unit for unit in found if unit.state == "device"]
        if len(ready) > 1:
            raise BadRequest(
                f"{len(ready)} phones are ready:",
                details=listed,
                hint=f"choose one: --unit {ready[0].serial}",
            )
        if not ready and len(found) > 1:
            raise DeviceUnavailable(
                f"{len(found)} phones are attached, but none is ready:",
                details=listed,
                hint=f"to see what is wrong with one, name it: --unit {found[0].serial}",
            )
        chosen = (ready or list(found))[0]
    else:
        named = [unit for unit in found if unit.serial == serial]
        if not named:
            raise BadRequest(
                f"no phone {serial!r} is attached; attached are:",
                details=listed,
                hint=f"choose one: --unit {found[0].serial}",
            )
        chosen = named[0]
    if chosen.state != "device":
        raise unusable(chosen.serial, chosen.state)
    return chosen


def address_of(text: str | None) -> tuple[str, int]:
    if text is None:
        found = server_address()
        if found is None:
            raise BadRequest(
                "$ADB_SERVER_SOCKET does not name a TCP port",
                hint="set it to tcp:HOST:PORT, or add --adb-server HOST:PORT",
            )
        return found
    match = re.fullmatch(r"(?:tcp:)?(\[[0-9a-fA-F:.%]+\]|[^\s:]+):(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise BadRequest(
            f"invalid address of an adb server: {text!r}",
            hint="write it like --adb-server localhost:5037",
        )
    return match[1].strip("[]"), int(match[2])


def no_server(host: str, port: int) -> DeviceUnavailable:
    here = host in ("127.0.0.1", "localhost", "::1")
    return DeviceUnavailable(
        f"no adb server answers at {host}:{port}",
        hint="adb start-server"
        if here
        else f"on {host}: adb -a -P {port} nodaemon server, and open the port in its firewall",
    )


def unusable(serial: str, state: str) -> DeviceUnavailable:
    for word, (problem, cure) in _CURES.items():
        if state.startswith(word):
            return DeviceUnavailable(f"{serial} {problem}", hint=cure)
    if state == "absent":
        return DeviceUnavailable(
            f"the adb server does not list {serial}", hint="adb devices shows what it lists"
        )
    return DeviceUnavailable(
        f"{serial} is in the state {state!r}", hint="restart it, then run the same command again"
    )


def _shown(unit: AdbUnit) -> str:
    return model_of(unit.properties) or "unknown model" if unit.state == "device" else unit.state
