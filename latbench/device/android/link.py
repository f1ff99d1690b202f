"""What every way to an Android unit can do, whoever carries the bytes.

`DirectLink` speaks to the unit itself, `ServerLink` through an adb server. Both may be used by
several threads, and hold any number of streams open at once; a single stream belongs to one thread.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latbench.device.protocol.transport import Transport
from latbench.errors import DeviceLost, LatbenchError

#: What to do about a unit that is gone.
BACK = "check the cable and that the phone is on, then run the same command again"


@dataclass(frozen=True)
class ShellResult:
    """What a command on a unit printed, and how it ended.

    Phones before Android 7 do not keep the two outputs apart: there `stderr` is empty, and what was
    printed to it stands in `stdout`.
    """

    stdout: str
    stderr: str
    exit_code: int


class StreamLost(DeviceLost, EOFError):
    """The unit went away under an open stream.

    It is an EOFError too, because that is what a `Transport` raises when nothing more will come.
    """


class FileRefused(LatbenchError):
    """The unit answered, but would not take or give the file at `path`; `reason` is its own word."""

    def __init__(self, action: str, serial: str, path: str, reason: str) -> None:
        full = "no space" in reason.lower()
        super().__init__(
            f"{serial} would not {action} {path}: {reason}",
            hint="free some space on the unit (adb shell df /data/local/tmp)" if full else None,
        )
        self.path, self.reason = path, reason


class AdbLink(Protocol):
    """A way to one Android unit.

    Every method but `close` raises `DeviceLost` if the unit does not answer any more; after that
    `reconnect` may find it again.
    """

    serial: str

    @property
    def longest(self) -> int:
        """How many characters of names a command may have."""

    def shell(self, command: str, *, timeout_s: float = 30.0) -> ShellResult:
        """Run `command` in the unit's shell, with nothing to read, and wait for its end.

        Raises:
            TimeoutError: it still runs after `timeout_s`; it is told to hang up.
            DeviceLost: the unit went away, or does not even start it within `timeout_s`.
        """

    def open_stream(self, command: str) -> Transport:
        """Start `command`, and return its standard input and output as raw bytes; no terminal.

        The end of what it prints to its standard error is kept for the post mortem. Phones before
        Android 7 mix it into the output, and do not tell the exit status.

        Raises:
            DeviceLost: the unit went away, or does not start it.
        """

    def push(self, files: Sequence[tuple[Path, str]], *, mode: int = 0o644) -> None:
        """Copy local files to paths on the unit.

        Folders above them are created. Modification times are kept. What breaks off may leave a part of a
        file in its place; so it is for those whose place tells their hash (`android.artifacts`).

        Raises:
            FileRefused: the unit would not take one: no space, no permission.
            DeviceLost: the unit went away, or nothing moves any more.
            OSError: a local file cannot be read.
        """

    def pull(self, remote: str) -> bytes:
        """Return what is in the file at `remote`.

        Raises:
            FileRefused: there is none, or it may not be read.
            DeviceLost: as `push`.
        """

    def properties(self) -> dict[str, str]:
        """Return the unit's system properties (getprop)."""

    def reconnect(self, timeout_s: float) -> None:
        """Wait until the unit answers again; streams that were open stay lost.

        Raises:
            DeviceLost: it does not within `timeout_s`.
            DeviceUnavailable: it is there, but does not let us in.
        """

    def close(self) -> None:
        """Give the link up, and every stream with it. Never fails; may be repeated."""


class ByteStream(Protocol):
    """Bytes to and from one service of a unit. Deadlines are in `time.monotonic` seconds."""

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data`.

        Raises:
            TimeoutError: the unit does not take it.
            EOFError: the service has ended; `StreamLost` if the unit is gone.
        """

    def receive(self, deadline: float) -> bytes:
        """Return the next bytes, at least one.

        Raises:
            TimeoutError: none came.
            EOFError: the service has ended; `StreamLost` if the unit is gone.
        """

    def close(self) -> None:
        """Close it. Never fails; may be repeated."""


def quote(text: str) -> str:
    """Return `text` as one word of a shell's command line, whatever is in it.

    Raises:
        ValueError: it holds a NUL, which no command line can.
    """
    if "\0" in text:
        raise ValueError("a command line cannot hold a NUL")
    return shlex.quote(text)


def parse_properties(output: str) -> dict[str, str]:
    """Read what `getprop` prints: a `[name]: [value]` a line; values may run over lines."""
    pairs = re.findall(r"^\[([^\]\r\n]+)\]: \[(.*?)\]\r?$", output, re.MULTILINE | re.DOTALL)
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
