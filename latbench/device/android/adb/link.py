"""The interface of a link to an Android unit.

`DirectLink` connects to the unit itself, `ServerLink` goes through an adb server. Several threads can use
a link, and it can have any number of open streams; a single stream belongs to one thread.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latbench.device.protocol.transport import Transport
from latbench.errors import DeviceLost, LatbenchError

#: The hint for a unit that is gone.
BACK = "check the cable and that the phone is on, then run the same command again"


@dataclass(frozen=True)
class ShellResult:
    """The outputs and the exit status of a command on a unit.

    Phones before Android 7 do not separate the outputs: `stderr` is empty, and `stdout` contains both.
    """

    stdout: str
    stderr: str
    exit_code: int


class StreamLost(DeviceLost, EOFError):
    """The unit disconnected while a stream was open.

    It is also an EOFError, which a `Transport` raises at the end of its data.
    """


class FileRefused(LatbenchError):
    """The unit refused to accept or send the file at `path`; `reason` is its own."""

    def __init__(self, action: str, serial: str, path: str, reason: str) -> None:
        full = "no space" in reason.lower()
        super().__init__(
            f"{serial} refuses to {action} {path}: {reason}",
            hint="free some space on the phone: adb shell df /data/local/tmp" if full else None,
        )
        self.path, self.reason = path, reason


class AdbLink(Protocol):
    """A connection to one Android unit.

    Every method but `close` raises `DeviceLost` if the unit no longer answers; `reconnect` then tries to
    find it again.
    """

    serial: str

    @property
    def longest(self) -> int:
        """The largest number of characters of file names in one command."""

    def shell(self, command: str, *, timeout_s: float = 30.0) -> ShellResult:
        """Run `command` in the unit's shell, without input, and wait for its end.

        Raises:
            TimeoutError: it still runs after `timeout_s`; it is hung up.
            DeviceLost: the unit is gone, or does not start it within `timeout_s`.
        """

    def open_stream(self, command: str) -> Transport:
        """Start `command` without a terminal, and return its standard input and output as raw bytes.

        The last lines of its standard error are kept for the post-mortem. Phones before Android 7 mix them
        into the output, and do not report the exit status.

        Raises:
            DeviceLost: the unit is gone, or does not start it.
        """

    def push(self, files: Sequence[tuple[Path, str]], *, mode: int = 0o644) -> None:
        """Copy local files to paths on the unit.

        Parent folders are created. Modification times are kept. An interrupted copy may leave a partial file,
        so callers verify the contents (`latbench.device.android.artifacts`).

        Raises:
            FileRefused: the unit refuses one: no space, no permission.
            DeviceLost: the unit is gone, or the transfer stalls.
            OSError: a local file cannot be read.
        """

    def pull(self, remote: str) -> bytes:
        """Return the contents of the file at `remote`.

        Raises:
            FileRefused: it does not exist, or cannot be read.
            DeviceLost: as `push`.
        """

    def properties(self) -> dict[str, str]:
        """Return the unit's system properties (getprop)."""

    def reconnect(self, timeout_s: float) -> None:
        """Wait until the unit answers again; open streams stay lost.

        Raises:
            DeviceLost: it does not answer within `timeout_s`.
            DeviceUnavailable: it has not authorised this computer.
        """

    def close(self) -> None:
        """Close the link and all its streams. Never raises; may be repeated."""


class ByteStream(Protocol):
    """A byte stream to one service of a unit. Deadlines are in `time.monotonic` seconds."""

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data`.

        Raises:
            TimeoutError: the unit does not accept it in time.
            EOFError: the service has ended; `StreamLost` if the unit is gone.
        """

    def receive(self, deadline: float) -> bytes:
        """Return the next bytes, at least one.

        Raises:
            TimeoutError: none came.
            EOFError: the service has ended; `StreamLost` if the unit is gone.
        """

    def close(self) -> None:
        """Close it. Never raises; may be repeated."""


def quote(text: str) -> str:
    """Quote `text` as one word of a shell command.

    Raises:
        ValueError: it contains a NUL, which a command line cannot.
    """
    if "\0" in text:
        raise ValueError("a command line cannot contain a NUL")
    return shlex.quote(text)


def parse_properties(output: str) -> dict[str, str]:
    """Parse the output of `getprop`: `[name]: [value]` lines; values may contain newlines."""
    pairs = re.findall(r"^\[([^\]\r\n]+)\]: \[(.*?)\]\r?$", output, re.MULTILINE | re.DOTALL)
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
