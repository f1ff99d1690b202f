"""The two physical connections to a unit: TCP, and USB through adb-shell's libusb transport.

Reads return exactly the requested number of bytes, or time out without losing data. adb-shell's own TCP
transport is not used: it waits for delayed acknowledgements (no TCP_NODELAY), may send partial messages, and
does not recognise the end of the stream.
"""

import contextlib
import select
import socket
import threading
import time
from typing import Any, Protocol

_CHUNK = 1 << 16
_USB_TIMEOUT = -7  # LIBUSB_ERROR_TIMEOUT


class Wire(Protocol):
    """A physical connection. One thread may read while another writes."""

    def read(self, size: int, deadline: float) -> bytes:
        """Return the next `size` bytes.

        Raises:
            TimeoutError: they have not arrived; try again.
            OSError: the connection is broken; EOFError: the unit closed it.
        """

    def write(self, header: bytes, payload: bytes, deadline: float) -> None:
        """Send a message. After an error the wire cannot be used any more.

        Raises:
            OSError: the connection is broken, or (TimeoutError) the unit accepts no data.
        """

    def close(self) -> None:
        """Close it, and wake a reading thread. Never raises; may be repeated."""


class TcpWire:
    """A unit that listens on TCP: wireless debugging by `adb tcpip`, an emulator, a rig.

    Raises:
        OSError: the connection is refused.
    """

    def __init__(self, host: str, port: int, deadline: float) -> None:
        left = max(0.01, deadline - time.monotonic())
        self._socket = socket.create_connection((host, port), timeout=left)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.setblocking(False)
        self._unread = bytearray()

    def read(self, size: int, deadline: float) -> bytes:
        while len(self._unread) < size:
            self._wait(select.POLLIN, deadline)
            with contextlib.suppress(BlockingIOError):
                chunk = self._socket.recv(max(_CHUNK, size - len(self._unread)))
                if not chunk:
                    raise EOFError("it closed the connection")
                self._unread += chunk
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def write(self, header: bytes, payload: bytes, deadline: float) -> None:
        rest = memoryview(header + payload)
        while rest:
            with contextlib.suppress(BlockingIOError):
                rest = rest[self._socket.send(rest) :]
            if rest:
                self._wait(select.POLLOUT, deadline)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
            raise TimeoutError


class UsbWire:
    """A unit on USB that no adb server uses.

    Raises:
        OSError: it is not attached, or another program uses it.
        ImportError: libusb is not installed (pip install adb-shell[usb]).
    """

    def __init__(self, serial: str) -> None:
        import usb1
        from adb_shell.exceptions import UsbDeviceNotFoundError
        from adb_shell.transport.usb_transport import UsbTransport

        self._reading = threading.Lock()
        try:
            self._usb: Any = UsbTransport.find_adb(serial=serial)
            self._usb.connect()
        except UsbDeviceNotFoundError:
            raise OSError("no such unit on USB, or USB debugging is off") from None
        except usb1.USBError as error:
            raise OSError(f"it cannot be opened: {error}") from None

    def read(self, size: int, deadline: float) -> bytes:
        from adb_shell.exceptions import UsbReadFailedError

        # libusb takes whole milliseconds; zero means forever.
        left = max(0.001, deadline - time.monotonic())
        try:
            with self._reading:
                data = bytes(self._usb.bulk_read(size, left))
        except UsbReadFailedError as error:
            if getattr(error.usb_error, "value", None) == _USB_TIMEOUT:
                raise TimeoutError from None
            raise OSError(str(error)) from None
        if len(data) != size:
            raise OSError(f"a message of {len(data)} bytes instead of {size}")
        return data

    def write(self, header: bytes, payload: bytes, deadline: float) -> None:
        from adb_shell.exceptions import UsbWriteFailedError

        for part in (header, payload):
            if part:
                left = max(0.001, deadline - time.monotonic())
                try:
                    self._usb.bulk_write(part, left)
                except UsbWriteFailedError as error:
                    raise OSError(str(error)) from None

    def close(self) -> None:
        with self._reading:  # libusb must not lose a handle that it is waiting for
            self._usb.close()
