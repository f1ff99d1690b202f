"""The door to an Android unit through an adb server, here or elsewhere; none is ever started.

The server shares the unit, USB ones too, with Android Studio and everybody else. Every stream is a
connection to the server of its own, so a link may be used by any number of threads.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Sequence

from adbutils import AdbError, AdbTimeout

from latbench.device.android.adb_server import (
    AdbUnit,
    ServerClient,
    list_units,
    server_address,
    unit_states,
)
from latbench.device.android.link import BACK, ByteStream, StreamLost
from latbench.device.android.services import SHORT, ServiceLink
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable

_CHUNK = 1 << 16
_TAKES_MORE = 41  # the version of servers that take more than 4096 bytes in a request
_CONNECT_S = 5.0  # for the server to reach a unit on the network
_PAUSE_S = 0.2  # between attempts to reconnect

_ALLOW = (
    "unlock the phone, allow USB debugging for this computer (tick Always), then run the same "
    "command again"
)
# By what the state starts with: what is wrong, and what to do.
_CURES = {
    "unauthorized": ("does not let this computer in", _ALLOW),
    "authorizing": ("has not yet let this computer in", _ALLOW),
    "offline": (
        "does not answer the adb server",
        "unplug it and plug it in again, or restart it; on the network: adb reconnect offline",
    ),
    "connecting": ("is not ready yet", "wait a moment, then run the same command again"),
    "no permissions": (
        "is on USB, but your user may not use it",
        "add a udev rule for it (Debian: apt install android-sdk-platform-tools-common, and join "
        "the group plugdev), plug it in again, then adb kill-server and adb start-server",
    ),
    "recovery": ("is in recovery mode", "restart it: adb reboot"),
    "sideload": ("is in recovery mode", "restart it: adb reboot"),
    "bootloader": ("is in its bootloader", "restart it: fastboot reboot"),
}


def units(address: str | None = None) -> list[AdbUnit]:
    """Return every unit that an adb server lists, with its state and properties.

    Args:
        address: host:port of the server; by default where adb's own environment variables say.

    Raises:
        BadRequest: that is no address.
        DeviceUnavailable: no adb server answers there.
    """
    host, port = _address(address)
    try:
        return list_units(ServerClient(host, port))
    except (AdbError, OSError, ValueError):
        raise _no_server(host, port) from None


def cure_of(state: str) -> str | None:
    """What to do about a unit that an adb server says is in this state; None if it is ready."""
    return None if state == "device" else _unusable("it", state).hint


def choose_unit(found: Sequence[AdbUnit], serial: str | None = None) -> AdbUnit:
    """Return the unit with this serial number, or the only one, if it can be used.

    Raises:
        BadRequest: there are several and none is named, or the named one is not among them.
        DeviceUnavailable: there is none, or it is not ready; the cure is told.
    """
    listed = [f"{unit.serial}  {_describe(unit)}" for unit in found]
    if not found:
        raise DeviceUnavailable(
            "no phone is attached" if serial is None else f"no phone is attached, {serial} neither",
            hint="plug it in with USB debugging allowed (Settings, Developer options), or "
            "adb connect HOST:PORT; adb devices must list it",
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
                hint="name one to learn what it lacks: --unit SERIAL",
            )
        chosen = (ready or list(found))[0]
    else:
        named = [unit for unit in found if unit.serial == serial]
        if not named:
            raise BadRequest(
                f"no phone {serial!r} is attached; attached are:",
                details=listed,
                hint=f"name one of them: --unit {found[0].serial}",
            )
        chosen = named[0]
    if chosen.state != "device":
        raise _unusable(chosen.serial, chosen.state)
    return chosen


class ServerLink(ServiceLink):
    """An `AdbLink` through an adb server.

    Args:
        serial: the unit, as the server lists it.
        address: host:port of the server; by default where adb's own environment variables say.
        stall_s: how long a transfer may stand still before the unit counts as lost.

    Raises:
        BadRequest: that is no address.
        DeviceUnavailable: no server answers, or it has no such unit ready; the cure is told.
    """

    def __init__(self, serial: str, address: str | None = None, *, stall_s: float = 15.0) -> None:
        super().__init__(serial, stall_s)
        self._client = ServerClient(*_address(address))
        self._open_streams: set[_ServerStream] = set()
        state = self._state()
        if state != "device":
            raise _unusable(serial, state)
        try:
            self._features = frozenset(self._client.device(serial).get_features().split(","))
        except (AdbError, OSError, ValueError) as error:
            raise self._failure(error) from None

    def reconnect(self, timeout_s: float) -> None:
        """As `AdbLink.reconnect`. A unit on the network is dialled again."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._redial()
                if self._answers(deadline):
                    return
            except DeviceLost:
                pass  # the server itself may be coming back
            if time.monotonic() + _PAUSE_S >= deadline:
                raise DeviceLost(
                    f"{self.serial} has not come back within {timeout_s:g} s", hint=BACK
                )
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """As `AdbLink.close`."""
        for stream in list(self._open_streams):
            stream.close()

    @property
    def gone(self) -> bool:
        """Whether the server does not count the unit as ready any more."""
        try:
            return self._state() != "device"
        except DeviceUnavailable:
            return True

    @property
    def longest(self) -> int:
        """As `AdbLink.longest`; old servers take less than the unit."""
        try:
            version = self._client.server_version()
        except (AdbError, OSError):
            return SHORT  # what every server takes
        return super().longest if version >= _TAKES_MORE else SHORT

    @property
    def _framed(self) -> bool:
        return "shell_v2" in self._features

    def _open(self, name: str, deadline: float) -> ByteStream:
        left = max(0.01, deadline - time.monotonic())
        try:
            connection = self._client.make_connection(timeout=left)
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                for request in (f"host:transport:{self.serial}", name):
                    text = request.encode(errors="surrogateescape")
                    connection.conn.sendall(f"{len(text):04x}".encode() + text)
                    connection.check_okay()
                undo.pop_all()
        except (AdbError, OSError, ValueError) as error:
            raise self._failure(error) from None
        stream = _ServerStream(connection.conn, self)
        self._open_streams.add(stream)
        return stream

    def forget(self, stream: "_ServerStream") -> None:
        """A stream of ours has been closed."""
        self._open_streams.discard(stream)

    def _state(self) -> str:
        """The server's word for the unit's state; `absent` if it lists none of this name.

        Raises:
            DeviceLost: no server answers.
        """
        try:
            return dict(unit_states(self._client)).get(self.serial, "absent")
        except (AdbError, OSError, ValueError):
            error = _no_server(self._client.host, self._client.port)
            raise DeviceLost(error.message, hint=error.hint) from None

    def _redial(self) -> None:
        """Have the server connect to the unit again, if it is one on the network."""
        if ":" not in self.serial or self._state() == "device":
            return
        with contextlib.suppress(AdbError, OSError, ValueError):
            # An offline unit would count as connected already.
            self._client.disconnect(self.serial)
            self._client.connect(self.serial, timeout=_CONNECT_S)

    def _answers(self, deadline: float) -> bool:
        """Whether the unit is ready and runs a command.

        Raises:
            DeviceUnavailable: it is there, but does not let us in.
        """
        state = self._state()
        if state.startswith(("unauthorized", "no permissions")):
            raise _unusable(self.serial, state)
        if state != "device":
            return False
        try:
            left = min(_CONNECT_S, deadline - time.monotonic())
            return self.shell("true", timeout_s=max(0.01, left)).exit_code == 0
        except TimeoutError:
            return False

    def _failure(self, error: Exception) -> DeviceUnavailable:
        """What a failed conversation with the server means for the unit."""
        text = str(error).lower()
        for state in ("unauthorized", "authorizing", "no permissions"):
            if state in text:
                return _unusable(self.serial, state)
        if isinstance(error, TimeoutError | AdbTimeout):
            return DeviceLost(f"{self.serial} does not answer any more", hint=BACK)
        said = str(error).strip()
        # adbutils words the end of the stream as data that it does not know.
        reason = "the adb server hung up" if not said or said.startswith("Unknown data") else said
        return DeviceLost(f"{self.serial} is gone: {reason}", hint=BACK)


class _ServerStream:
    """A service of a unit, over a connection to the server; a `ByteStream`."""

    def __init__(self, connection: socket.socket, link: ServerLink) -> None:
        self._socket, self._link = connection, link

    def send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            with self._until(deadline):
                rest = rest[self._socket.send(rest) :]

    def receive(self, deadline: float) -> bytes:
        with self._until(deadline):
            data = self._socket.recv(_CHUNK)
        if data:
            return data
        if self._link.gone:
            raise self._loss("the adb server does not reach it any more")
        raise EOFError

    def close(self) -> None:
        self._link.forget(self)
        self._socket.close()

    @contextlib.contextmanager
    def _until(self, deadline: float) -> Iterator[None]:
        try:
            self._socket.settimeout(max(0.0, deadline - time.monotonic()))
            yield
        except (TimeoutError, BlockingIOError):
            raise TimeoutError from None
        except BrokenPipeError:
            # What it said before it hung up may still be read.
            raise EOFError from None
        except OSError as error:
            raise self._loss(error.strerror or "the adb server hung up") from None

    def _loss(self, reason: str) -> StreamLost:
        return StreamLost(f"{self._link.serial} is gone: {reason}", hint=BACK)


def _address(text: str | None) -> tuple[str, int]:
    if text is None:
        found = server_address()
        if found is None:
            raise BadRequest(
                "$ADB_SERVER_SOCKET does not name a TCP port",
                hint="set it to tcp:HOST:PORT, or name the adb server",
            )
        return found
    match = re.fullmatch(r"(?:tcp:)?(\[[0-9a-fA-F:.%]+\]|[^\s:]+):(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise BadRequest(
            f"{text!r} is no address of an adb server", hint="write HOST:PORT, as localhost:5037"
        )
    return match[1].strip("[]"), int(match[2])


def _no_server(host: str, port: int) -> DeviceUnavailable:
    here = host in ("127.0.0.1", "localhost", "::1")
    return DeviceUnavailable(
        f"no adb server answers at {host}:{port}",
        hint="adb start-server"
        if here
        else f"on {host}: adb -a -P {port} nodaemon server, and let the port through",
    )


def _unusable(serial: str, state: str) -> DeviceUnavailable:
    for word, (problem, cure) in _CURES.items():
        if state.startswith(word):
            return DeviceUnavailable(f"{serial} {problem}", hint=cure)
    if state == "absent":
        return DeviceUnavailable(
            f"the adb server knows no {serial}", hint="adb devices lists what it knows"
        )
    return DeviceUnavailable(
        f"{serial} is in the state {state!r}", hint="restart it, then run the same command again"
    )


def _describe(unit: AdbUnit) -> str:
    if unit.state != "device":
        return unit.state
    names = ("ro.product.manufacturer", "ro.product.model")
    model = " ".join(unit.properties[name] for name in names if unit.properties.get(name))
    return model or "unknown model"
