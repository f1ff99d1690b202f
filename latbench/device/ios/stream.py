"""One connection to the companion app: a `Transport`, and the requests that are the app's own."""

import contextlib
import json
import time
from typing import Any, NoReturn

from latbench.device.ios.way import Way
from latbench.errors import DeviceLost, DeviceUnavailable, RunnerFailed

#: What to do about a phone that is gone.
BACK = (
    "check the cable, unlock the phone and open the latbench app, then run the same command again: "
    "it goes on from there"
)
#: How long a phone that went away may take to come back by itself.
RETURN_S = 8.0

_CHUNK = 1 << 16
_LOOK_S = 0.25
_REPLY_S = 30.0


class PhoneLost(DeviceLost, EOFError):
    """The phone went away under an open connection, and did not come back.

    It is an EOFError too, because that is what a `Transport` raises when nothing more will come.
    """


class PhoneStream:
    """A connection to the app.

    Where it breaks and the phone is gone, it has `return_s` to come back; then the connection is merely
    over (EOFError), so that another can be opened, else the phone is lost.
    """

    def __init__(self, way: Way, return_s: float = RETURN_S) -> None:
        self._way, self._return_s = way, return_s
        self._socket = way.dial()
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
        # There is nothing to wait for: the app frees what the conversation held.
        if self._end is None:
            self._end = "the connection was closed"
        self._socket.close()

    def post_mortem(self) -> str:
        return self._end or "the connection was closed"

    def _broke(self) -> NoReturn:
        """Find out what became of the phone. Always raises."""
        self._end = "the app closed the connection: it crashed, or was closed on the phone"
        deadline = time.monotonic() + self._return_s
        while not self._way.is_there():
            self._end = "the phone went away and came back"
            if time.monotonic() > deadline:
                self._end = "the phone is gone"
                raise PhoneLost(f"{self._way.shown} is gone", hint=BACK)
            time.sleep(_LOOK_S)
        raise EOFError


class Conversation:
    """The app's own requests over a stream: pairing and artifacts.

    A runner's requests may follow on the same stream, once nothing is under way here.
    """

    def __init__(self, stream: PhoneStream, shown: str) -> None:
        self.stream, self._shown = stream, shown
        self._buffer = bytearray()

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask for `op`; returns the reply's fields.

        Raises:
            RunnerFailed: refused, with the app's reason.
            DeviceLost: the phone went away, or the app ended or does not answer.
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
            told = reply.get("error")
            error = told if isinstance(told, dict) else {}
            raise RunnerFailed(
                op,
                "refused",
                str(error.get("message", "it did not say why")),
                hint=error.get("hint"),
            )
        return reply

    def close(self) -> None:
        """Close the stream. Never fails."""
        with contextlib.suppress(OSError):
            self.stream.close(0.0)

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _CHUNK:
                raise ValueError("a line that never ends")
            self._buffer += self.stream.receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def _foreign(shown: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"what answers at {shown} is no latbench app",
        hint="check the address, and that the app is the one of this version",
    )


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
