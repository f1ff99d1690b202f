"""A phone's ADB daemon on a TCP port of this machine, with faults on demand.

It speaks what adbd speaks (AOSP: adb protocol.txt, SERVICES.TXT): RSA authentication, streams with
flow control, the services shell, exec and sync. The real adb clients take it for a phone. Commands
run as processes of this machine, so it says nothing about times, nor about Android's own tools.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import os
import struct
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self

from tests.rigs.device_phone import Faults, Phone
from tests.rigs.device_services import end_all, run_command
from tests.rigs.device_sync import serve_files
from tests.rigs.profiles import PIXEL_8, Profile

_HEADER = struct.Struct("<6I")
_UNCHECKED = 0x01000001  # protocol version from which on sums are not checked
_OLDEST_PAYLOAD = 4096
_BUFFER = 200 << 10
_DONE_WITHIN_S = 60.0  # on a busy machine
_KEY_BYTES = 256
# PKCS #1 v1.5: what precedes a SHA-1 digest in a signature (RFC 8017, 9.2).
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")


class DeviceDaemon:
    """A phone that answers at `address` while the context is open.

    Args:
        root: an empty folder that becomes the phone's file system.
        map_input: also replace the phone's paths in what commands read, as in requests to a runner.
    """

    def __init__(self, root: Path, profile: Profile = PIXEL_8, *, map_input: bool = False) -> None:
        self.phone = Phone(root, profile, map_input=map_input)
        self._port = 0
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="device daemon", daemon=True
        )
        self._answering = asyncio.Event()
        self._answering.set()

    @property
    def address(self) -> str:
        """host:port, which is also how adb names a unit on the network."""
        return f"127.0.0.1:{self._port}"

    serial = address

    @property
    def faults(self) -> Faults:
        """What goes wrong; set its fields at any time."""
        return self.phone.faults

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._do(self._hang_up())
            end_all(self.phone)
            self._do(self._settle())
        finally:  # else a test that failed would have its whole run wait
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Cut every connection now; new ones are taken."""
        self._do(self._cut())

    def stop(self) -> None:
        """Cut every connection, and take no new ones: unplugged, or switched off."""
        self._do(self._hang_up())

    def start(self) -> None:
        """Take connections again, at the same address."""
        self._do(self._listen())

    def reboot(self) -> None:
        """Cut every connection, end everything that runs, and take connections again."""
        self.stop()
        self.phone.boot()
        self.start()

    def hang(self) -> None:
        """Stop answering, without a word."""
        self._loop.call_soon_threadsafe(self._answering.clear)

    def resume(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._loop.call_soon_threadsafe(self._answering.set)

    async def answering(self) -> None:
        """Wait while the phone hangs."""
        await self._answering.wait()

    def left(self, connection: "_Connection") -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        future: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(
            action, self._loop
        )
        future.result(_DONE_WITHIN_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        await connection.serve()

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    async def _hang_up(self) -> None:
        self._answering.set()
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _settle(self) -> None:
        """Let every task see that it is over."""
        own = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not own]
        if others:
            _, late = await asyncio.wait(others, timeout=2)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class _Connection:
    """A client's connection."""

    def __init__(
        self, daemon: DeviceDaemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._daemon, self._reader, self._writer = daemon, reader, writer
        self.phone = daemon.phone
        self.payload = _OLDEST_PAYLOAD
        self._version = 0
        self._online = False
        self._token = b""
        self._streams: dict[int, _Stream] = {}
        self._last_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def serve(self) -> None:
        """Answer until the link ends."""
        try:
            while True:
                word, first, second, size, total, magic = _HEADER.unpack(
                    await self._read(_HEADER.size)
                )
                data = await self._read(size)
                await self._daemon.answering()
                if magic != word ^ 0xFFFFFFFF:
                    return
                if self._checked and total != sum(data) & 0xFFFFFFFF:
                    return
                if not await self._dispatch(struct.pack("<I", word), first, second, data):
                    return
        except (EOFError, ConnectionError):
            pass
        finally:
            self.cut()
            self._daemon.left(self)

    def cut(self) -> None:
        """End the link, as a cable that is pulled does."""
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
        self._writer.transport.abort()

    async def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        """Send a message."""
        total = sum(data) & 0xFFFFFFFF if self._checked else 0
        (word,) = struct.unpack("<I", command)
        message = _HEADER.pack(word, first, second, len(data), total, word ^ 0xFFFFFFFF) + data
        await self._daemon.answering()
        async with self._writing:
            left = self.phone.faults.cut_sent
            if left is not None:
                message, whole = message[:left], len(message) <= left
                self.phone.faults.cut_sent = left - len(message) if whole else None
            self._writer.write(message)
            await self._writer.drain()
            if left is not None and not whole:
                self.cut()

    def forget(self, stream: "_Stream") -> None:
        """A stream has ended on our side."""
        self._streams.pop(stream.number, None)

    @property
    def _checked(self) -> bool:
        # Both sides check until both have told their version.
        return not self._online or self._version < _UNCHECKED

    async def _read(self, size: int) -> bytes:
        until_hang = self.phone.faults.hang_received
        if until_hang is not None:
            self.phone.faults.hang_received = until_hang - size if size < until_hang else None
            if size >= until_hang:
                self._daemon.hang()
        left = self.phone.faults.cut_received
        if left is not None:
            self.phone.faults.cut_received = left - size
            if size > left:
                await self._reader.readexactly(left)
                self.phone.faults.cut_received = None
                raise EOFError
        return await self._reader.readexactly(size)  # IncompleteReadError is an EOFError

    async def _dispatch(self, command: bytes, first: int, second: int, data: bytes) -> bool:
        """Act on a message; whether to go on."""
        if command == b"CNXN":
            self._version = min(first, self.phone.profile.version)
            self.payload = min(second, self.phone.profile.max_payload)
            await self._ask_who()
        elif command == b"AUTH":
            await self._authenticate(first, data)
        elif not self._online:
            return False
        elif command == b"OPEN":
            await self._open(first, data.rstrip(b"\0").decode(errors="surrogateescape"))
        elif (stream := self._streams.get(second)) is not None:
            if command == b"OKAY":
                stream.credit.set()
            elif command == b"WRTE":
                stream.inbox.put_nowait(data)
            elif command == b"CLSE":
                del self._streams[second]
                stream.end()
                await self.send(b"CLSE", stream.number, stream.peer)  # adbd does, adb-shell waits
        return True

    async def _ask_who(self) -> None:
        self._token = os.urandom(20)
        await self.send(b"AUTH", 1, 0, self._token)

    async def _authenticate(self, kind: int, data: bytes) -> None:
        if kind == 2:
            if any(_signed(key, self._token, data) for key in self.phone.known_keys):
                await self._welcome()
            else:
                await self._ask_who()
        elif kind == 3 and self.phone.faults.authorise:
            self.phone.known_keys.append(data.rstrip(b"\0"))
            await self._welcome()

    async def _welcome(self) -> None:
        profile = self.phone.profile
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        reported = "".join(f"{name}={profile.properties[name]};" for name in names)
        banner = f"device::{reported}features={','.join(profile.features)}"
        await self.send(b"CNXN", profile.version, profile.max_payload, banner.encode())
        self._online = True

    async def _open(self, peer: int, name: str) -> None:
        cut = self.phone.faults.cut_service
        if cut is not None and name.startswith(cut):
            self.phone.faults.cut_service = None
            self.cut()
            return
        kind, _, argument = name.partition(":")
        if kind.split(",")[0] not in ("shell", "exec", "sync", "root"):
            await self.send(b"CLSE", 0, peer)
            return
        self._last_id += 1
        stream = _Stream(self, self._last_id, peer)
        self._streams[stream.number] = stream
        await self.send(b"OKAY", stream.number, peer)
        task = asyncio.ensure_future(self._serve(stream, kind.split(","), argument))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: "_Stream", kind: list[str], argument: str) -> None:
        try:
            if kind[0] == "sync":
                await serve_files(self.phone, stream)
            elif kind[0] == "root":
                await stream.write(b"adbd cannot run as root in production builds\n")
            else:
                framed = "v2" in kind and "shell_v2" in self.phone.profile.features
                await run_command(self.phone, stream, argument, framed=framed)
            await stream.close()
        except (EOFError, ConnectionError):
            pass  # the client has closed the stream, or the link is cut


class _Stream:
    """A stream of a connection: one message on the way in each direction, until it is taken."""

    def __init__(self, connection: _Connection, number: int, peer: int) -> None:
        self._connection = connection
        self.number, self.peer = number, peer
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.credit = asyncio.Event()
        self.credit.set()
        self._unread = self._unsent = b""
        self._sending: asyncio.Future[None] | None = None
        self._ended = False

    def end(self) -> None:
        """The client has closed it, or is gone."""
        self._ended = True
        self.inbox.put_nowait(None)
        self.credit.set()

    async def read(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._unread += await self._next()
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def read_some(self) -> bytes:
        return await self._next()

    async def write(self, data: bytes) -> None:
        # As in adbd, a service writes into a socket with a buffer, and waits only when that is full.
        if self._ended:
            raise EOFError
        self._unsent += data
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send_out())
        while len(self._unsent) > _BUFFER and not self._ended:
            await asyncio.wait([self._sending], timeout=0.01)

    async def _send_out(self) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while self._unsent:
                await self.credit.wait()
                if self._ended:
                    return
                self.credit.clear()
                size = self._connection.payload
                chunk, self._unsent = self._unsent[:size], self._unsent[size:]
                await self._connection.send(b"WRTE", self.number, self.peer, chunk)

    async def close(self) -> None:
        """Close it from our side, once the client has taken everything."""
        if self._sending is not None:
            await self._sending
        await self.credit.wait()
        if not self._ended:
            self._connection.forget(self)
            self.end()
            await self._connection.send(b"CLSE", self.number, self.peer)

    async def _next(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            self.inbox.put_nowait(None)
            raise EOFError
        await self._connection.send(b"OKAY", self.number, self.peer)
        return data


def _signed(key: bytes, token: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `token` by `key`, in Android's form of a public key."""
    record = base64.b64decode(key.split()[0])
    modulus = int.from_bytes(record[8 : 8 + _KEY_BYTES], "little")
    (exponent,) = struct.unpack("<I", record[-4:])
    padding = b"\0\1" + b"\xff" * (_KEY_BYTES - 3 - len(_SHA1) - len(token)) + b"\0"
    opened = pow(int.from_bytes(signature, "big"), exponent, modulus)
    return opened.to_bytes(_KEY_BYTES, "big") == padding + _SHA1 + token
