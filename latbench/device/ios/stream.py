"""A connection to the companion app: a `Transport`, and the app's own requests."""

import contextlib
import json
import time
from typing import Any, NoReturn

from latbench.device.ios.link import AppLink
from latbench.errors import DeviceLost, DeviceUnavailable, RunnerFailed

#: The hint for a phone that is gone.
BACK = (
    "check the cable, unlock the phone and open the latbench app, then run the same command again: "
    "it continues"
)
#: How long a lost phone may take to return by itself.
RETURN_S = 8.0

_CHUNK = 1 << 16
_POLL_S = 0.25
_REPLY_S = 30.0


class PhoneLost(DeviceLost, EOFError):
    """The phone disconnected while a connection was open, and did not return.

    It is also an EOFError, which a `Transport` raises at the end of its data.
    """


class PhoneStream:
    """A connection to the app.

    If it breaks and the phone returns within `return_s`, the connection has ended (EOFError), and another can
    be opened; otherwise the phone is lost.
    """

    def __init__(self, link: AppLink, return_s: float = RETURN_S) -> None:
        self._link, self._return_s = link, return_s
        self._socket = link.connect()
        self._end: str | None = None

    @property
    def alive(self) -> bool:
        return self._end is None

    def send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self._socket.settimeout(_left(deadline))
                rest = rest[self._socket.send(rest) :]
            except (TimeoutError, BlockingIOError):
                raise TimeoutError from None
            except OSError:
                self._broke()

    def receive(self, deadline: float) -> bytes:
        data = b""
        try:
            self._socket.settimeout(_left(deadline))
            data = self._socket.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            raise TimeoutError from None
        except OSError:
            self._broke()
        if not data:
            self._broke()
        return data

    def close(self, grace_s: float) -> None:
        # Nothing to wait for: the app unloads the models of a closed connection.
        if self._end is None:
            self._end = "the connection was closed"
        self._socket.close()

    def post_mortem(self) -> str:
        return self._end or "the connection was closed"

    def _broke(self) -> NoReturn:
        """Find out whether the phone is lost. Always raises."""
        self._end = "the app closed the connection: it crashed, or was closed on the phone"
        deadline = time.monotonic() + self._return_s
        while not self._link.is_reachable():
            self._end = "the phone was disconnected and returned"
            if time.monotonic() > deadline:
                self._end = "the phone is gone"
                raise PhoneLost(f"{self._link.shown} is gone", hint=BACK)
            time.sleep(_POLL_S)
        raise EOFError


class Conversation:
    """The app's own requests over a stream: pairing and artifacts.

    A runner's requests may follow on the same stream when no request is pending here.
    """

    def __init__(self, stream: PhoneStream, shown: str) -> None:
        self.stream, self._shown = stream, shown
        self._buffer = bytearray()

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request, and return the fields of its reply.

        Raises:
            RunnerFailed: refused, with the app's reason.
            DeviceLost: the phone is gone, or the app ended or does not answer.
        """
        line = json.dumps({"id": op, "op": op, **fields}, separators=(",", ":")).encode() + b"\n"
        deadline = time.monotonic() + _REPLY_S
        try:
            self.stream.send(line, deadline)
            reply = json.loads(self._line(deadline))
        except TimeoutError:
            self.close()
            raise DeviceLost(f"the app on {self._shown} does not answer", hint=BACK) from None
        except PhoneLost:
            raise
        except EOFError:
            self.close()
            message = f"{self._shown}: {self.stream.post_mortem()}"
            raise DeviceLost(message, hint=BACK) from None
        except (ValueError, RecursionError):
            self.close()
            raise _foreign(self._shown) from None
        if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
            raise _foreign(self._shown)
        if not reply["ok"]:
            error = reply["error"] if isinstance(reply.get("error"), dict) else {}
            raise RunnerFailed(
                op,
                "refused",
                str(error.get("message", "it gave no reason")),
                hint=error.get("hint"),
            )
        return reply

    def close(self) -> None:
        """Close the stream. Never raises."""
        with contextlib.suppress(OSError):
            self.stream.close(0.0)

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _CHUNK:
                raise ValueError("the line is too long")
            self._buffer += self.stream.receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def _foreign(shown: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"the program at {shown} is not the latbench app",
        hint="check the address, and that the app has the version of this latbench",
    )


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
