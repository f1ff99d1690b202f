"""The direct door to an Android unit: no adb server, no adb, one connection of our own."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from latbench.device.android.connection import Connection
from latbench.device.android.keys import own_key, signer
from latbench.device.android.link import BACK, ByteStream, StreamLost
from latbench.device.android.services import ServiceLink
from latbench.device.android.wire import TcpWire, UsbWire, Wire
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable

_PORT = 5555  # of adb tcpip
_ATTEMPT_S = 5.0  # for one of several attempts to connect
_PAUSE_S = 0.2  # between them


class DirectLink(ServiceLink):
    """An `AdbLink` that speaks to the unit itself, over TCP or USB; see `tcp` and `usb`.

    All its streams share one connection, which a thread of its own reads; so it may be used by any
    number of threads.

    Args:
        serial: what to call the unit.
        connect: returns a new wire to it, before a deadline.
        key: the private key to show; adb's own by default, created if missing.
        connect_s: how long to wait for the unit's answer.
        authorise_s: how long its user has to allow this computer.
        stall_s: how long a transfer may stand still before the unit counts as lost.

    Raises:
        DeviceUnavailable: it cannot be reached, or does not let us in.
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
        """Connect to the unit that listens at `address`, host or host:port (5555 by default).

        Raises:
            BadRequest: that is no address.
            DeviceUnavailable, OutputFailed: as the class.
        """
        match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:]+)(?::(\d{1,5}))?", address)
        if match is None or int(match[2] or 0) > 65535:
            raise BadRequest(
                f"{address!r} is no address of a unit", hint="write host:port, or host alone"
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
        """Connect to the unit with this serial number on USB; no adb server may hold it.

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
        """As `AdbLink.reconnect`; the old connection is given up even if it still works."""
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
                            f"{self.serial} has not come back within {timeout_s:g} s: "
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
        except BaseException:  # Ctrl-C included: the unit must not stay taken
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
            raise DeviceLost(f"{self.serial} does not answer any more", hint=BACK) from None
        except EOFError as error:
            raise DeviceLost(f"{self.serial}: {error}", hint=BACK) from None


class _Unreachable(DeviceUnavailable):
    """A unit that cannot be connected to now; `reason` says why."""

    def __init__(self, serial: str, reason: str) -> None:
        super().__init__(
            f"cannot reach {serial}: {reason}",
            hint="check that it is on and connected, that debugging is allowed (adb tcpip 5555 "
            "for the network), and that no adb server holds it (adb kill-server)",
        )
        self.reason = reason


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or "it hung up"
