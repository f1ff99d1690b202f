"""A direct link to an Android unit: one connection, without adb and its server."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from latbench.device.android.adb.connection import Connection
from latbench.device.android.adb.keys import own_key, signer
from latbench.device.android.adb.link import BACK, ByteStream, StreamLost
from latbench.device.android.adb.services import ServiceLink
from latbench.device.android.adb.wire import TcpWire, UsbWire, Wire
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable

_PORT = 5555  # of adb tcpip
_ATTEMPT_S = 5.0  # for one of several attempts to connect
_PAUSE_S = 0.2  # between them


class DirectLink(ServiceLink):
    """An `AdbLink` to the unit itself, over TCP or USB; see `tcp` and `usb`.

    All its streams share one connection, which a thread reads; so any number of threads can use it.

    Args:
        serial: the unit's name in messages.
        connect: opens a new wire to it, before a deadline.
        key: the private key for authentication; adb's own by default, created if missing.
        connect_s: how long to wait for the unit's answer.
        authorise_s: how long its user has to allow this computer.
        stall_s: after a transfer has stalled for so long, the unit counts as lost.

    Raises:
        DeviceUnavailable: it cannot be reached, or does not authorise this computer.
        OutputFailed: there is no key, and none can be created.
    """

    def __init__(
        self,
        serial: str,
        connect: Callable[[float], Wire],
        *,
        key: Path | None = None,
        connect_s: float = 10.0,
        authorise_s: float = 30.0,
        stall_s: float = 15.0,
    ) -> None:
        super().__init__(serial, stall_s)
        self._connect = connect
        self._signer = signer(key or own_key())
        self._authorise_s = authorise_s
        self._replacing = threading.Lock()
        self._connection = self._new(time.monotonic() + connect_s)

    @classmethod
    def tcp(
        cls,
        address: str,
        *,
        key: Path | None = None,
        connect_s: float = 10.0,
        authorise_s: float = 30.0,
        stall_s: float = 15.0,
    ) -> Self:
        """Connect to the unit at `address`, HOST or HOST:PORT (default port 5555).

        Raises:
            BadRequest: `address` is invalid.
            DeviceUnavailable, OutputFailed: as the class.
        """
        match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:]+)(?::(\d{1,5}))?", address)
        if match is None or int(match[2] or 0) > 65535:
            raise BadRequest(
                f"invalid address of a unit: {address!r}",
                hint="write it like --unit 192.168.1.7:5555",
            )
        host, port = match[1].strip("[]"), int(match[2] or _PORT)
        return cls(
            f"{match[1]}:{port}",
            lambda deadline: TcpWire(host, port, deadline),
            key=key,
            connect_s=connect_s,
            authorise_s=authorise_s,
            stall_s=stall_s,
        )

    @classmethod
    def usb(cls, serial: str, *, key: Path | None = None, authorise_s: float = 30.0) -> Self:
        """Connect to the unit with this serial number on USB; no adb server may use it.

        Raises:
            DeviceUnavailable: as the class; also if libusb is missing.
            OutputFailed: as the class.
        """
        try:
            return cls(serial, lambda _: UsbWire(serial), key=key, authorise_s=authorise_s)
        except ImportError:
            raise DeviceUnavailable(
                f"cannot reach {serial} on USB directly: libusb is missing",
                hint="pip install 'adb-shell[usb]', or use an adb server: adb start-server",
            ) from None

    def reconnect(self, timeout_s: float) -> None:
        """As `AdbLink.reconnect`; the old connection is closed even if it still works."""
        deadline = time.monotonic() + timeout_s
        with self._replacing:
            self._connection.close()
            while True:
                try:
                    left = deadline - time.monotonic()
                    self._connection = self._new(time.monotonic() + min(left, _ATTEMPT_S))
                    return
                except _Unreachable as error:
                    if time.monotonic() + _PAUSE_S >= deadline:
                        raise DeviceLost(
                            f"{self.serial} did not reconnect within {timeout_s:g} s: "
                            f"{error.reason}",
                            hint=BACK,
                        ) from None
                time.sleep(_PAUSE_S)

    def close(self) -> None:
        """As `AdbLink.close`."""
        self._connection.close()

    def _new(self, deadline: float) -> Connection:
        try:
            wire = self._connect(deadline)
        except OSError as error:
            raise _Unreachable(self.serial, _text(error)) from None
        try:
            return Connection(wire, self.serial, self._signer, deadline, self._authorise_s)
        except StreamLost as error:
            raise _Unreachable(self.serial, error.message) from None
        except (OSError, EOFError) as error:
            wire.close()
            raise _Unreachable(self.serial, _text(error)) from None
        except BaseException:  # Ctrl-C included: the connection may not stay open
            wire.close()
            raise

    @property
    def _framed(self) -> bool:
        return "shell_v2" in self._connection.features

    def _open(self, name: str, deadline: float) -> ByteStream:
        try:
            return self._connection.open(name, deadline)
        except DeviceLost:
            raise
        except TimeoutError:
            raise DeviceLost(f"{self.serial} no longer answers", hint=BACK) from None
        except EOFError as error:
            raise DeviceLost(f"{self.serial}: {error}", hint=BACK) from None


class _Unreachable(DeviceUnavailable):
    """A unit that cannot be connected to; `reason` says why."""

    def __init__(self, serial: str, reason: str) -> None:
        super().__init__(
            f"cannot reach {serial}: {reason}",
            hint="check that it is on and connected, that debugging is enabled (adb tcpip 5555 "
            "for a network), and that no adb server uses it (adb kill-server)",
        )
        self.reason = reason


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or "it closed the connection"
