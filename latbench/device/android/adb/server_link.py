"""A link to an Android unit through an adb server, on this machine or another. It is never started.

The server shares the unit with other programs, such as Android Studio, over USB too. Every stream is a
separate connection to the server, so any number of threads can use a link.
"""

import contextlib
import socket
import time
from collections.abc import Iterator

from adbutils import AdbError, AdbTimeout

from latbench.device.android.adb.link import BACK, ByteStream, StreamLost
from latbench.device.android.adb.server import (
    ServerClient,
    address_of,
    no_server,
    unit_states,
    unusable,
)
from latbench.device.android.adb.services import SHORT, ServiceLink
from latbench.errors import DeviceLost, DeviceUnavailable

_CHUNK = 1 << 16
_LONG_REQUESTS = 41  # the server version that accepts more than 4096 bytes in a request
_CONNECT_S = 5.0  # for the server to reach a unit on the network
_PAUSE_S = 0.2  # between attempts to reconnect


class ServerLink(ServiceLink):
    """An `AdbLink` through an adb server.

    Args:
        serial: the unit, as the server lists it.
        address: HOST:PORT of the server; by default as adb's own environment variables say.
        stall_s: after a transfer has stalled for so long, the unit counts as lost.

    Raises:
        BadRequest: `address` is invalid.
        DeviceUnavailable: no server answers, or the unit is not ready; the hint says what to do.
    """

    def __init__(self, serial: str, address: str | None = None, *, stall_s: float = 15.0) -> None:
        super().__init__(serial, stall_s)
        self._client = ServerClient(*address_of(address))
        self._open_streams: set[_ServerStream] = set()
        state = self._state()
        if state != "device":
            raise unusable(serial, state)
        try:
            self._features = frozenset(self._client.device(serial).get_features().split(","))
        except (AdbError, OSError, ValueError) as error:
            raise self._failure(error) from None

    def reconnect(self, timeout_s: float) -> None:
        """As `AdbLink.reconnect`. The server connects to a unit on a network again."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._redial()
                if self._answers(deadline):
                    return
            except DeviceLost:
                pass  # the server itself may be restarting
            if time.monotonic() + _PAUSE_S >= deadline:
                raise DeviceLost(
                    f"{self.serial} did not reconnect within {timeout_s:g} s", hint=BACK
                )
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """As `AdbLink.close`."""
        for stream in list(self._open_streams):
            stream.close()

    @property
    def gone(self) -> bool:
        """Whether the server no longer lists the unit as ready."""
        try:
            return self._state() != "device"
        except DeviceUnavailable:
            return True

    @property
    def longest(self) -> int:
        """As `AdbLink.longest`; old servers accept less than the unit."""
        try:
            version = self._client.server_version()
        except (AdbError, OSError):
            return SHORT  # every server accepts that
        return super().longest if version >= _LONG_REQUESTS else SHORT

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
        """Forget a stream that was closed."""
        self._open_streams.discard(stream)

    def _state(self) -> str:
        """The state of the unit according to the server; `absent` if it is not listed.

        Raises:
            DeviceLost: no server answers.
        """
        try:
            return dict(unit_states(self._client)).get(self.serial, "absent")
        except (AdbError, OSError, ValueError):
            error = no_server(self._client.host, self._client.port)
            raise DeviceLost(error.message, hint=error.hint) from None

    def _redial(self) -> None:
        """Make the server connect to the unit again, if it is on a network."""
        if ":" not in self.serial or self._state() == "device":
            return
        with contextlib.suppress(AdbError, OSError, ValueError):
            # An offline unit counts as connected already.
            self._client.disconnect(self.serial)
            self._client.connect(self.serial, timeout=_CONNECT_S)

    def _answers(self, deadline: float) -> bool:
        """Whether the unit is ready and runs a command.

        Raises:
            DeviceUnavailable: it is there, but has not authorised this computer.
        """
        state = self._state()
        if state.startswith(("unauthorized", "no permissions")):
            raise unusable(self.serial, state)
        if state != "device":
            return False
        try:
            left = min(_CONNECT_S, deadline - time.monotonic())
            return self.shell("true", timeout_s=max(0.01, left)).exit_code == 0
        except TimeoutError:
            return False

    def _failure(self, error: Exception) -> DeviceUnavailable:
        """What a failed request to the server means for the unit."""
        text = str(error).lower()
        for state in ("unauthorized", "authorizing", "no permissions"):
            if state in text:
                return unusable(self.serial, state)
        if isinstance(error, TimeoutError | AdbTimeout):
            return DeviceLost(f"{self.serial} no longer answers", hint=BACK)
        text = str(error).strip()
        # adbutils reports the end of the stream as unknown data.
        closed = not text or text.startswith("Unknown data")
        reason = "the adb server closed the connection" if closed else text
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
            raise self._loss("the adb server cannot reach it")
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
            # What it sent before it closed the connection can still be read.
            raise EOFError from None
        except OSError as error:
            raise self._loss(error.strerror or "the adb server closed the connection") from None

    def _loss(self, reason: str) -> StreamLost:
        return StreamLost(f"{self._link.serial} is gone: {reason}", hint=BACK)
