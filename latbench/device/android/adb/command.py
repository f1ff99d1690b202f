"""A command that runs on a unit: its output, its standard error, and its exit status.

Android 7 and later frame the data of a command (shell protocol v2; AOSP: adb shell_protocol.h): one byte
identifies the stream, four little-endian bytes the length, then the bytes follow. Older phones have the plain
`exec:` service, which mixes both outputs, cannot close the input alone, and has no exit status.
"""

import contextlib
import re
import signal
import struct
import time
from collections.abc import Callable

from latbench.device.android.adb.link import BACK, ByteStream, StreamLost
from latbench.device.protocol.transport import last_output

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_HEADER = struct.Struct("<BI")
_CHUNK = 32 << 10
_GROUP = "latbench-group="
_GROUP_LINE = re.compile(rb"latbench-group=(\d+)\r?\n")
_KEPT_STDERR = 8192  # bytes
_STATUS_S = 2.0  # for the exit status of a command that was killed


def service(command: str, *, framed: bool) -> str:
    """Return the name of the ADB service that runs `command` without a terminal."""
    return f"shell,v2,raw:{command}" if framed else f"exec:{command}"


class RunningCommand:
    """The outputs of a command so far, received over the stream of its service.

    Attributes:
        output: bytes of its standard output that were not consumed yet.
        errors: bytes of its standard error; only the last `kept` of them if that is given.
        status: its exit status, once known; 128 plus the signal's number if a signal ended it.
        ended: whether nothing more will come.
    """

    def __init__(self, stream: ByteStream, *, framed: bool, kept: int | None = None) -> None:
        self._stream, self._framed, self._kept = stream, framed, kept
        self._unread = bytearray()
        self.output = bytearray()
        self.errors = bytearray()
        self.status: int | None = None
        self.ended = False

    def pump(self, deadline: float) -> None:
        """Wait for data, and append it to the outputs; once `ended`, do nothing.

        Raises:
            TimeoutError: none came.
            StreamLost: the unit is gone.
        """
        if self.ended:
            return
        try:
            data = self._stream.receive(deadline)
        except StreamLost:
            self.ended = True
            raise
        except EOFError:
            self.ended = True
            if self._framed and self.status is None:
                raise StreamLost(
                    "the unit closed the connection while a command ran", hint=BACK
                ) from None
            return
        if self._framed:
            self._unread += data
            self._sort()
        else:
            self.output += data

    def send(self, data: bytes, deadline: float) -> None:
        """Send `data` to the command's standard input; raises as `ByteStream.send`."""
        if self.ended:
            raise EOFError
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            framed = _HEADER.pack(_STDIN, len(chunk)) + chunk
            self._stream.send(framed if self._framed else chunk, deadline)

    def close_input(self, deadline: float) -> bool:
        """Close the command's standard input; returns whether the unit supports that.

        Raises:
            TimeoutError, EOFError: as `ByteStream.send`.
        """
        if self._framed and not self.ended:
            self._stream.send(_HEADER.pack(_CLOSE_STDIN, 0), deadline)
        return self._framed

    def close(self) -> None:
        """Close the stream; the phone then hangs up the command."""
        self.ended = True
        self._stream.close()

    def _sort(self) -> None:
        while len(self._unread) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._unread)
            end = _HEADER.size + size
            if len(self._unread) < end:
                return
            data = bytes(self._unread[_HEADER.size : end])
            del self._unread[:end]
            if kind == _STDOUT:
                self.output += data
            elif kind == _STDERR:
                self.errors += data
                if self._kept is not None:
                    del self.errors[: -self._kept]
            elif kind == _EXIT and data:
                self.status = data[0]
                self.ended = True


class CommandStream:
    """A long-lived command as a `Transport`.

    Args:
        command: running; the line of its process group is already consumed.
        kill: kills the command and its children, if the unit can be reached.
    """

    def __init__(self, command: RunningCommand, kill: Callable[[], None]) -> None:
        self._command, self._kill = command, kill
        self._lost: str | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        with contextlib.suppress(TimeoutError, EOFError):
            while not self._command.ended:
                self._pump(0.0)
        return not self._command.ended

    def send(self, data: bytes, deadline: float) -> None:
        try:
            self._command.send(data, deadline)
        except StreamLost as error:
            self._lost = error.message
            raise

    def receive(self, deadline: float) -> bytes:
        while not self._command.output:
            if self._command.ended:
                raise EOFError
            self._pump(deadline)
        data = bytes(self._command.output)
        self._command.output.clear()
        return data

    def close(self, grace_s: float) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + grace_s
        with contextlib.suppress(TimeoutError, EOFError):
            self._command.close_input(deadline)
        self._drain(deadline)
        if not self._command.ended:
            self._kill()
            self._drain(time.monotonic() + _STATUS_S)
        self._command.close()

    def post_mortem(self) -> str:
        return self._ending() + last_output(self._command.errors)

    def _pump(self, deadline: float) -> None:
        try:
            self._command.pump(deadline)
        except StreamLost as error:
            self._lost = error.message
            raise

    def _drain(self, deadline: float) -> None:
        with contextlib.suppress(TimeoutError, EOFError):
            while not self._command.ended:
                self._pump(deadline)
                self._command.output.clear()

    def _ending(self) -> str:
        status = self._command.status
        if status is None:
            return self._lost or "it ended; this phone does not report exit statuses"
        with contextlib.suppress(ValueError):
            if status > 128:
                return f"it was killed by {signal.Signals(status - 128).name}"
        return f"it ended with exit status {status}"


def start_stream(
    stream: ByteStream, kill: Callable[[int], None], deadline: float, *, framed: bool
) -> CommandStream:
    """Wait until a command opened by `with_group` runs, and return its stream.

    Args:
        kill: kills the process group with a given number.

    Raises:
        TimeoutError, EOFError: it does not start.
    """
    command = RunningCommand(stream, framed=framed, kept=_KEPT_STDERR)
    while not (found := _GROUP_LINE.search(command.output)):
        if command.ended:
            raise EOFError
        command.pump(deadline)
    group = int(found[1])
    del command.output[: found.end()]  # and anything that the phone's shell printed before
    return CommandStream(command, lambda: kill(group))


def with_group(command: str) -> str:
    """Return `command` preceded by printing its shell's process number, which is its group's as well."""
    return f"echo {_GROUP}$$; {command}"
