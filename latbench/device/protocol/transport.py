"""The transport between a client and a runner, and the one over the pipes of a child process."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

_CHUNK = 1 << 16
_KEPT_STDERR = 8192  # bytes
_SHOWN_LINES = 6


class Transport(Protocol):
    """A byte stream to a runner. Deadlines are in `time.monotonic` seconds."""

    @property
    def alive(self) -> bool:
        """Whether the runner still runs, as far as this side knows."""

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data`.

        Raises:
            TimeoutError: the runner does not accept it in time.
            EOFError: the runner has closed its end.
        """

    def receive(self, deadline: float) -> bytes:
        """Return the next bytes, at least one.

        Raises:
            TimeoutError: none came.
            EOFError: none will come.
        """

    def close(self, grace_s: float) -> None:
        """Close this end, and kill the runner if it has not ended after `grace_s`."""

    def post_mortem(self) -> str:
        """How the runner ended, and its last output; to be called after `close`."""


class ProcessTransport:
    """A runner in a child process, over its standard input and output.

    It has its own session, so that Ctrl-C reaches only the parent, which then ends it.

    Raises:
        OSError: the command cannot be started.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._stdin = _pipe(self._process.stdin)
        self._stdout = _pipe(self._process.stdout)
        self._stderr = _pipe(self._process.stderr)
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)
        self._errors = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, data: bytes, deadline: float) -> None:
        rest = self._written(memoryview(data))  # nearly always all of it
        if not rest:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while rest:
                if not selector.select(_left(deadline)):
                    raise TimeoutError
                rest = self._written(rest)

    def _written(self, data: memoryview) -> memoryview:
        """Write what the pipe takes now; returns what is left."""
        try:
            return data[os.write(self._stdin.fileno(), data) :]
        except BlockingIOError:
            return data
        except (BrokenPipeError, ValueError):
            raise EOFError from None

    def receive(self, deadline: float) -> bytes:
        while True:
            ready = self._selector.select(_left(deadline))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is self._stderr:
                    self._read_errors()
                    continue
                data = os.read(self._stdout.fileno(), _CHUNK)
                if not data:
                    raise EOFError
                return data

    def close(self, grace_s: float) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        deadline = time.monotonic() + grace_s
        with contextlib.suppress(TimeoutError, EOFError, ValueError):
            while True:  # drain its output, so that it does not block on writing
                self.receive(deadline)
        try:
            self._process.wait(_left(deadline))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._stderr.closed:
            self._read_errors()
        self._selector.close()
        self._stdout.close()
        self._stderr.close()

    def post_mortem(self) -> str:
        return _ending(self._process.returncode) + last_output(self._errors)

    def _read_errors(self) -> None:
        """Read the available standard error, and keep its end; stop watching the stream at its end."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stderr.fileno(), _CHUNK):
                self._errors += data
                del self._errors[:-_KEPT_STDERR]
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._stderr)


def last_output(errors: bytes | bytearray) -> str:
    """The last lines of a runner's standard error, as the end of a sentence; empty if there are none."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return "; its last output: " + " / ".join(lines[-_SHOWN_LINES:]) if lines else ""


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "it was requested"
    return stream


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _ending(status: int | None) -> str:
    if status is None:
        return "it closed its output but did not end"
    if status >= 0:
        return f"it ended with exit status {status}"
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"
