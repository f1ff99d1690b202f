"""One ADB connection to a unit, and the streams that share it (AOSP: adb protocol.txt).

A unit on USB accepts a single connection, so its streams must share one: a thread reads all messages and
dispatches them to their streams. adb-shell's `AdbDevice` cannot do that: its reads hold the lock that writes
need, a reader consumes the messages of other streams, and the unit's features are discarded. The key, the
signature and the USB transport are adb-shell's.

Each stream has at most one message in flight per direction: the receiver must confirm it with OKAY before the
next. We confirm when the message is consumed, so a stream that nobody reads blocks only itself.
"""

import contextlib
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from latbench.device.android.adb.link import BACK, StreamLost
from latbench.device.android.adb.wire import Wire
from latbench.errors import DeviceUnavailable

_HEADER = struct.Struct("<6I")
_VERSION = 0x01000001  # from this version on, checksums are not verified
_MAX_PAYLOAD = 1 << 20
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3  # kinds of AUTH
_IDLE_S = 1.0  # how often the reading thread checks whether to end
_PAYLOAD_S = 30.0  # for the rest of a message that has begun
_CONTROL_S = 10.0  # for a message without payload to leave


class Signer(Protocol):
    """Authenticates this computer, as adb-shell's signers do."""

    def Sign(self, data: bytes) -> bytes:  # noqa: N802  # adb-shell's name
        """Sign a token, which is treated as a SHA-1 digest."""

    def GetPublicKey(self) -> bytes:  # noqa: N802  # adb-shell's name
        """Return the public key in Android's own form."""


class Connection:
    """A connection that the unit has accepted.

    Attributes:
        features: the features that the unit reports, such as shell_v2.
        lost: why the connection is lost; None while it works.

    Raises:
        TimeoutError, OSError, EOFError: the unit does not answer before `deadline`, or disconnects.
        DeviceUnavailable: it does not authorise this computer; its user has `authorise_s` to allow it.
    """

    def __init__(
        self, wire: Wire, serial: str, signer: Signer, deadline: float, authorise_s: float
    ) -> None:
        self._wire, self._serial = wire, serial
        self._peer_version = 0
        self._max_payload = 4096
        self.features: frozenset[str] = frozenset()
        self.lost: str | None = None
        self._changed = threading.Condition()  # guards the streams and `lost`
        self._writing = threading.Lock()
        self._streams: dict[int, ServiceStream] = {}
        self._last_id = 0
        self._shake_hands(signer, deadline, authorise_s)
        self._reader = threading.Thread(target=self._read, name=f"adb {serial}", daemon=True)
        self._reader.start()

    def open(self, service: str, deadline: float) -> "ServiceStream":
        """Open a service of the unit.

        Raises:
            TimeoutError: the unit does not answer.
            EOFError: it has no such service, or refuses it; `StreamLost` if it is gone.
        """
        with self._changed:
            self._last_id += 1
            stream = ServiceStream(self, self._last_id)
            self._streams[stream.number] = stream
        try:
            name = service.encode(errors="surrogateescape") + b"\0"
            self._write(b"OPEN", stream.number, 0, name, deadline)
            self._wait(lambda: stream.ready or stream.closed, deadline)
            if not stream.ready:
                raise EOFError(f"it refused the service {service[:60]!r}")
        except BaseException:
            stream.close()
            raise
        return stream

    def close(self) -> None:
        """Close the connection and all its streams. Never raises; may be repeated."""
        self._lose("the link was closed")
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _shake_hands(self, signer: Signer, deadline: float, authorise_s: float) -> None:
        self._write(b"CNXN", _VERSION, _MAX_PAYLOAD, b"host::features=shell_v2\0", deadline)
        asked = 0  # how often it asked for authentication
        while True:
            try:
                command, first, second, data = self._receive(deadline)
            except (TimeoutError, EOFError):
                if asked < 2:
                    raise
                raise _unauthorised(self._serial) from None
            if command == b"CNXN":
                self._peer_version = first
                self._max_payload = min(second, _MAX_PAYLOAD)
                self.features = _features(data)
                return
            if command == b"STLS":
                raise DeviceUnavailable(
                    f"{self._serial} requires wireless debugging with pairing, which only adb supports",
                    hint="pair it with adb (adb pair, adb connect) and use the adb server, or run "
                    "adb tcpip 5555 while it is on USB",
                )
            if command == b"AUTH" and first == _TOKEN:
                asked += 1
                if asked == 1:
                    self._write(b"AUTH", _SIGNATURE, 0, signer.Sign(data), deadline)
                elif asked == 2:
                    # It does not know our key, and asks its user on the screen.
                    deadline = time.monotonic() + authorise_s
                    key = signer.GetPublicKey() + b"\0"
                    self._write(b"AUTH", _PUBLIC_KEY, 0, key, deadline)
            # Anything else is left over from an earlier connection over the same cable.

    def _write(self, command: bytes, first: int, second: int, data: bytes, deadline: float) -> None:
        # Until its version is known, and for old versions, the checksum is needed.
        total = 0 if self._peer_version >= _VERSION else sum(data) & 0xFFFFFFFF
        (word,) = struct.unpack("<I", command)
        header = _HEADER.pack(word, first, second, len(data), total, word ^ 0xFFFFFFFF)
        if not self._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            self._check()
            self._wire.write(header, data, deadline)
        except StreamLost:
            raise
        except (OSError, EOFError, ValueError) as error:  # a partial message cannot be repaired
            self._lose(_reason(error))
            raise self._loss() from None
        finally:
            self._writing.release()

    def _receive(self, deadline: float) -> tuple[bytes, int, int, bytes]:
        word, first, second, size, _, magic = _HEADER.unpack(
            self._wire.read(_HEADER.size, deadline)
        )
        if magic != word ^ 0xFFFFFFFF or size > _MAX_PAYLOAD:
            raise OSError("it does not speak ADB")
        try:
            data = self._wire.read(size, time.monotonic() + _PAYLOAD_S) if size else b""
        except TimeoutError:
            raise OSError("a message was incomplete") from None
        return struct.pack("<I", word), first, second, data

    def _read(self) -> None:
        """Dispatch messages until the connection ends. Runs in the reading thread."""
        while self.lost is None:
            try:
                command, first, second, data = self._receive(time.monotonic() + _IDLE_S)
            except TimeoutError:
                continue
            except (OSError, EOFError, ValueError) as error:
                self._lose(_reason(error))
                return
            with self._changed:
                stream = self._streams.get(second)
                if stream is None:
                    continue  # it was closed on this side
                if command == b"OKAY":
                    stream.peer, stream.ready = first, True
                elif command == b"WRTE":
                    stream.inbox.append(data)
                elif command == b"CLSE":
                    stream.closed = True
                    del self._streams[second]
                self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until `ready`, which is called with the lock held.

        Raises:
            TimeoutError: it is not before `deadline`.
            StreamLost: the connection ends before.
        """
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: ready() or self.lost is not None, left)
            if not ready():
                self._check()
                raise TimeoutError

    def _check(self) -> None:
        if self.lost is not None:
            raise self._loss()

    def _loss(self) -> StreamLost:
        return StreamLost(f"the connection to {self._serial} is lost: {self.lost}", hint=BACK)

    def _lose(self, reason: str) -> None:
        with self._changed:
            if self.lost is None:
                self.lost = reason
            self._streams.clear()
            self._changed.notify_all()
        self._wire.close()


class ServiceStream:
    """A `ByteStream` over a `Connection`, whose lock guards its fields."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self.number, self.peer = number, 0
        self.inbox: deque[bytes] = deque()
        self.ready = False  # to send the next message
        self.closed = False

    def send(self, data: bytes, deadline: float) -> None:
        """As `ByteStream.send`."""
        connection, size = self._connection, self._connection._max_payload
        for start in range(0, len(data), size):
            connection._wait(lambda: self.ready or self.closed, deadline)
            if self.closed:
                raise EOFError
            self.ready = False
            chunk = data[start : start + size]
            connection._write(b"WRTE", self.number, self.peer, chunk, deadline)

    def receive(self, deadline: float) -> bytes:
        """As `ByteStream.receive`."""
        connection = self._connection
        while True:
            connection._wait(lambda: bool(self.inbox) or self.closed, deadline)
            if not self.inbox:
                raise EOFError
            data = self.inbox.popleft()
            if not self.closed:
                self._notify(b"OKAY")
            if data:
                return data

    def close(self) -> None:
        """As `ByteStream.close`."""
        connection = self._connection
        with connection._changed:
            known = connection._streams.pop(self.number, None) is not None
            self.closed = True
        if known and self.peer:
            self._notify(b"CLSE")

    def _notify(self, command: bytes) -> None:
        deadline = time.monotonic() + _CONTROL_S
        # If that fails, the connection is lost, and its next use raises.
        with contextlib.suppress(TimeoutError, EOFError):
            self._connection._write(command, self.number, self.peer, b"", deadline)


def _features(banner: bytes) -> frozenset[str]:
    """The features in `device::name=value;…;features=one,two`."""
    for part in banner.rstrip(b"\0").decode(errors="replace").split(";"):
        name, _, value = part.rpartition("::")[2].partition("=")
        if name == "features":
            return frozenset(value.split(","))
    return frozenset()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it accepts no more data"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def _unauthorised(serial: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"{serial} has not authorised this computer",
        hint="unlock the phone, allow USB debugging for this computer (tick Always), then run "
        "the same command again",
    )
