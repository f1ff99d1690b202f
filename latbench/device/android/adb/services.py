"""What both links have in common: running commands and moving files over the unit's services."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from latbench.device.android.adb.command import (
    CommandStream,
    RunningCommand,
    service,
    start_stream,
    with_group,
)
from latbench.device.android.adb.filesync import FileSync
from latbench.device.android.adb.link import (
    BACK,
    ByteStream,
    ShellResult,
    parse_properties,
)
from latbench.errors import DeviceLost

_START_S = 30.0  # for a command to start
_KILL_S = 5.0
_LONG = 30_000  # characters in one command; Linux allows 131,072 in one argument
SHORT = 3000  # Android before 5, and adb servers before 29, accept at most 4096 bytes in a request
_STATUS = "latbench-exit-status="


class ServiceLink:
    """An `AdbLink`, based on `_open`, which opens a service of the unit.

    Args:
        stall_s: after a transfer has stalled for so long, the unit counts as lost.
    """

    def __init__(self, serial: str, stall_s: float) -> None:
        self.serial, self._stall_s = serial, stall_s

    def _open(self, name: str, deadline: float) -> ByteStream:
        """Open the service `name`.

        Raises:
            DeviceLost: the unit is gone, does not answer before `deadline`, or has no such service.
        """
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """As `AdbLink.longest`."""
        return _LONG if self._framed else SHORT

    @property
    def _framed(self) -> bool:
        """Whether the unit supports the shell protocol (Android 7 and later)."""
        raise NotImplementedError

    def shell(self, command: str, *, timeout_s: float = 30.0) -> ShellResult:
        """As `AdbLink.shell`."""
        deadline = time.monotonic() + timeout_s
        framed = self._framed
        if not framed:
            command = f"(\n{command}\n) </dev/null; echo {_STATUS}$?"
        opened = min(deadline, time.monotonic() + _START_S)
        with contextlib.closing(self._open(service(command, framed=framed), opened)) as stream:
            running = RunningCommand(stream, framed=framed)
            with self._watched("running a command"):
                running.close_input(deadline)
                while not running.ended:
                    try:
                        running.pump(deadline)
                    except TimeoutError:
                        # The unit is not lost: it started the command, which is slow.
                        raise _StillRuns(
                            f"{self.serial} did not finish {_shorten(command)} within {timeout_s:g} s"
                        ) from None
        return self._result(running, framed)

    def open_stream(self, command: str) -> CommandStream:
        """As `AdbLink.open_stream`."""
        deadline = time.monotonic() + _START_S
        stream = self._open(service(with_group(command), framed=self._framed), deadline)
        try:
            with self._watched(f"starting {_shorten(command)}"):
                return start_stream(stream, self._kill, deadline, framed=self._framed)
        except BaseException:  # Ctrl-C included: no process may stay behind
            stream.close()
            raise

    def push(self, files: Sequence[tuple[Path, str]], *, mode: int = 0o644) -> None:
        """As `AdbLink.push`."""
        if not files:
            return
        with self._syncing("sending files") as sync:
            sync.push(files, mode)
            sync.quit()

    def pull(self, remote: str) -> bytes:
        """As `AdbLink.pull`."""
        with self._syncing(f"reading {remote}") as sync:
            data = b"".join(sync.pull(remote))
            sync.quit()
        return data

    def properties(self) -> dict[str, str]:
        """As `AdbLink.properties`."""
        return parse_properties(self.shell("getprop").stdout)

    @contextlib.contextmanager
    def _syncing(self, what: str) -> Iterator[FileSync]:
        deadline = time.monotonic() + self._stall_s
        with contextlib.closing(self._open("sync:", deadline)) as stream, self._watched(what):
            yield FileSync(stream, self.serial, self._stall_s)

    @contextlib.contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Turn a stalled or closed stream into the loss of the unit."""
        try:
            yield
        except (DeviceLost, _StillRuns):
            raise
        except TimeoutError:
            raise DeviceLost(f"{self.serial} stopped answering while {what}", hint=BACK) from None
        except EOFError:
            raise DeviceLost(
                f"{self.serial} closed the connection while {what}", hint=BACK
            ) from None

    def _kill(self, group: int) -> None:
        with contextlib.suppress(DeviceLost, TimeoutError):
            self.shell(f"kill -s KILL -- -{group}", timeout_s=_KILL_S)

    def _result(self, running: RunningCommand, framed: bool) -> ShellResult:
        output = running.output.decode(errors="replace")
        errors = running.errors.decode(errors="replace")
        status = running.status
        if not framed:
            output, _, printed = output.rpartition(_STATUS)
            status = int(printed) if printed.strip().isdecimal() else None
        if status is None:
            raise DeviceLost(
                f"{self.serial} closed the connection while running a command", hint=BACK
            )
        return ShellResult(output, errors, status)


class _StillRuns(TimeoutError):
    """A command that runs longer than its caller waits."""


def _shorten(command: str) -> str:
    text = " ".join(command.split())
    return text if len(text) <= 60 else f"{text[:60]}…"
