"""Files to and from a unit, over its sync service (AOSP: adb SYNC.TXT).

A request is four letters, a little-endian length, and a path; contents travel as DATA blocks of at
most 64 KiB. Only the requests of the first version are used: every phone knows them.
"""

import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from latbench.device.android.link import ByteStream, FileRefused, StreamLost

_HEADER = struct.Struct("<4sI")
_BLOCK = 64 << 10


class FileSync:
    """A conversation with the sync service of the unit `serial`.

    It gives up once nothing moves for `stall_s`.
    """

    def __init__(self, stream: ByteStream, serial: str, stall_s: float) -> None:
        self._stream, self._serial, self._stall_s = stream, serial, stall_s
        self._unread = bytearray()

    def push(self, local: Path, remote: str, mode: int, *, known_as: str) -> None:
        """Write the file `local` to `remote`; after an error the conversation is over.

        Raises:
            FileRefused: the unit would not take it; it is called `known_as` there.
            TimeoutError, EOFError: as `ByteStream`.
            OSError: `local` cannot be read.
        """
        with local.open("rb") as file:
            modified = int(local.stat().st_mtime) & 0xFFFFFFFF
            try:
                self._send(_request(b"SEND", f"{remote},{stat.S_IFREG | mode}"))
                while block := file.read(_BLOCK):
                    self._send(_HEADER.pack(b"DATA", len(block)) + block)
                self._send(_HEADER.pack(b"DONE", modified))
            except StreamLost:
                raise
            except EOFError:
                pass  # it hung up, and may have told why before
        kind, size = self._header()
        if kind != b"OKAY":
            raise self._refusal("take", known_as, kind, size)

    def pull(self, remote: str) -> Iterator[bytes]:
        """Yield the contents of `remote`.

        Raises:
            FileRefused: the unit would not give it.
            TimeoutError, EOFError: as `ByteStream`.
        """
        self._send(_request(b"RECV", remote))
        while True:
            kind, size = self._header()
            if kind == b"DONE":
                return
            if kind != b"DATA":
                raise self._refusal("give", remote, kind, size)
            yield self._take(size)

    def quit(self) -> None:
        """End the conversation; raises as `ByteStream.send`."""
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
