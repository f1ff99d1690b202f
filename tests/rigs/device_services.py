"""The phone's commands (services shell and exec), run as processes of this machine."""

import asyncio
import contextlib
import os
import signal
import struct
from typing import Protocol

from tests.rigs.device_phone import Phone, kill_group

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)  # AOSP: adb shell_protocol.h
_HEADER = struct.Struct("<BI")
_CHUNK = 32 << 10


class Channel(Protocol):
    """A stream to the client."""

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises EOFError when the client closes before."""

    async def read_some(self) -> bytes:
        """Return the next bytes, at least one. Raises EOFError when the client closes."""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises EOFError when the client has closed."""


async def run_command(phone: Phone, channel: Channel, command: str, *, framed: bool) -> None:
    """Run a command until it ends or the client closes, which hangs it up."""
    path = f"{phone.root}/system/bin:/usr/bin:/bin"
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        phone.translate(command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if framed else asyncio.subprocess.STDOUT,
        cwd=phone.root,
        env={"PATH": path, "HOME": "/", "TMPDIR": str(phone.root / "data/local/tmp")},
        start_new_session=True,
    )
    phone.groups.add(process.pid)
    feeding = asyncio.ensure_future(_feed(phone, channel, process, framed))
    try:
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(channel, process.stdout, STDOUT if framed else None))
            if framed:
                pumps.create_task(_pump(channel, process.stderr, STDERR))
        status = await process.wait()
        phone.groups.discard(process.pid)
        if framed:
            code = status if status >= 0 else 128 - status
            await channel.write(_HEADER.pack(EXIT, 1) + bytes([code]))
    except* EOFError:
        pass  # the client is gone, and _feed has hung up
    finally:
        feeding.cancel()
        # Closes our ends of the pipes, and kills the shell if it ignored the hang-up.
        process._transport.close()  # type: ignore[attr-defined]


async def _pump(channel: Channel, pipe: asyncio.StreamReader | None, kind: int | None) -> None:
    assert pipe is not None
    while data := await pipe.read(_CHUNK):
        await channel.write(data if kind is None else _HEADER.pack(kind, len(data)) + data)


async def _feed(
    phone: Phone, channel: Channel, process: asyncio.subprocess.Process, framed: bool
) -> None:
    assert process.stdin is not None
    try:
        while True:
            if framed:
                kind, size = _HEADER.unpack(await channel.read(_HEADER.size))
                data = await channel.read(size)
                if kind == CLOSE_STDIN:
                    process.stdin.close()
                if kind != STDIN:
                    continue
            else:
                data = await channel.read_some()
            with contextlib.suppress(ConnectionError, RuntimeError):  # it has closed its input
                process.stdin.write(phone.translate_input(data))
                await process.stdin.drain()
    except EOFError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)  # as adbd does, to the shell alone


def end_all(phone: Phone) -> None:
    """Kill whatever commands have left running."""
    for group in phone.groups:
        kill_group(group, signal.SIGKILL)
