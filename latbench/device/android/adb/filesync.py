"""Copies files to and from a unit over its sync service (AOSP: adb SYNC.TXT).

A request is four letters, a little-endian length, and a path; contents are sent as DATA blocks of at
most 64 KiB. Only requests of the first version are used, which every phone supports.
"""

import contextlib
import stat
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from latbench.device.android.adb.link import ByteStream, FileRefused, StreamLost

_HEADER = struct.Struct("<4sI")
_BLOCK = 64 << 10
_BATCH = 256 << 10  # the largest message of phones since Android 7


class FileSync:
    """A session with the sync service of the unit `serial`.

    A transfer that stalls for `stall_s` raises TimeoutError.
    """

    def __init__(self, stream: ByteStream, serial: str, stall_s: float) -> None:
        self._stream, self._serial, self._stall_s = stream, serial, stall_s
        self._unread = bytearray()

    def push(self, files: Iterable[tuple[Path, str]], mode: int) -> None:
        """Write local files to remote paths; after an error the session is over.

        Files are pipelined, many in one message: the unit confirms each, and its replies for earlier files
        are read while later ones are sent.

        Raises:
            FileRefused: the unit refuses one.
            TimeoutError, EOFError: as `ByteStream`.
            OSError: a local file cannot be read.
        """
        sent: deque[str] = deque()  # completely, but not yet confirmed
        batch = bytearray()
        try:
            for local, remote in files:
                with local.open("rb") as file:
                    modified = int(local.stat().st_mtime) & 0xFFFFFFFF
                    batch += _request(b"SEND", f"{remote},{stat.S_IFREG | mode}")
                    while block := file.read(_BLOCK):
                        batch += _HEADER.pack(b"DATA", len(block)) + block
                        if len(batch) >= _BATCH:
                            self._send_batch(batch, sent)
                    batch += _HEADER.pack(b"DONE", modified)
                sent.append(remote)
            self._send_batch(batch, sent)
        except StreamLost:
            raise
        except EOFError:
            sent.append(remote)  # it disconnected; its reason may still be readable
        while sent:
            self._read_answer(sent)

    def _send_batch(self, batch: bytearray, sent: deque[str]) -> None:
        """Send the batch, and read the confirmations that have arrived."""
        self._send(bytes(batch))
        batch.clear()
        with contextlib.suppress(TimeoutError):
            while sent:
                while len(self._unread) < _HEADER.size:
                    self._unread += self._stream.receive(time.monotonic())
                self._read_answer(sent)

    def _read_answer(self, sent: deque[str]) -> None:
        kind, size = self._header()
        remote = sent.popleft()
        if kind != b"OKAY":
            raise self._refusal("accept", remote, kind, size)

    def pull(self, remote: str) -> Iterator[bytes]:
        """Yield the contents of `remote`.

        Raises:
            FileRefused: the unit refuses it.
            TimeoutError, EOFError: as `ByteStream`.
        """
        self._send(_request(b"RECV", remote))
        while True:
            kind, size = self._header()
            if kind == b"DONE":
                return
            if kind != b"DATA":
                raise self._refusal("send", remote, kind, size)
            yield self._take(size)

    def quit(self) -> None:
        """End the session; raises as `ByteStream.send`."""
        self._send(_HEADER.pack(b"QUIT", 0))

    def _send(self, data: bytes) -> None:
        self._stream.send(data, time.monotonic() + self._stall_s)

    def _header(self) -> tuple[bytes, int]:
        kind, size = _HEADER.unpack(self._take(_HEADER.size))
        return kind, size

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._unread += self._stream.receive(time.monotonic() + self._stall_s)
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _refusal(self, action: str, remote: str, kind: bytes, size: int) -> FileRefused:
        if kind != b"FAIL":
            return FileRefused(action, self._serial, remote, f"it answered {kind!r}")
        reason = self._take(size).decode(errors="replace")
        return FileRefused(action, self._serial, remote, reason)


def _request(kind: bytes, path: str) -> bytes:
    text = path.encode(errors="surrogateescape")
    return _HEADER.pack(kind, len(text)) + text
