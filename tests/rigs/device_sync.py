"""The phone's files (service sync), in both versions of the requests (AOSP: file_sync_protocol.h)."""

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.rigs.device_phone import Phone
from tests.rigs.device_services import Channel

_HEADER = struct.Struct("<4sI")
_STAT_2 = struct.Struct("<4sIQQIIIIQqqq")
_LIST_2 = struct.Struct("<4sIQQIIIIQqqqI")
_BLOCK = 64 << 10


async def serve_files(phone: Phone, channel: Channel) -> None:
    """Answer requests until the client quits, closes, or an error ends the conversation."""
    while True:
        kind, size = _HEADER.unpack(await channel.read(_HEADER.size))
        if kind == b"QUIT":
            return
        path = (await channel.read(size)).decode(errors="surrogateescape")
        if kind in (b"STAT", b"STA2", b"LST2"):
            await channel.write(_stat(phone, path, kind))
        elif kind in (b"LIST", b"LIS2"):
            for entry in _list(phone, path, kind):
                await channel.write(entry)
        elif kind == b"RECV":
            await _send_out(phone, channel, path)
        elif kind == b"RCV2":
            await channel.read(8)  # its own name again, and flags
            await _send_out(phone, channel, path)
        elif kind == b"SEND":
            name, _, mode = path.rpartition(",")
            if not await _take_in(phone, channel, name, int(mode)):
                return
        elif kind == b"SND2":
            _, mode, _ = struct.unpack("<4sII", await channel.read(12))
            if not await _take_in(phone, channel, path, mode):
                return
        else:
            await channel.write(_failure(f"unknown command {kind!r}"))
            return


def _stat(phone: Phone, path: str, kind: bytes) -> bytes:
    try:
        real = phone.real(path)
        found = real.stat() if kind == b"STA2" else real.lstat()
    except OSError as error:
        if kind == b"STAT":
            return struct.pack("<4sIII", kind, 0, 0, 0)
        return _STAT_2.pack(kind, error.errno or errno.EIO, *[0] * 10)
    if kind == b"STAT":
        size, modified = found.st_size & 0xFFFFFFFF, int(found.st_mtime)
        return struct.pack("<4sIII", kind, found.st_mode, size, modified)
    return _STAT_2.pack(kind, 0, *_fields(found))


def _list(phone: Phone, path: str, kind: bytes) -> Iterator[bytes]:
    second = kind == b"LIS2"
    with contextlib.suppress(OSError):
        for entry in sorted(phone.real(path).iterdir()):
            found, name = entry.lstat(), os.fsencode(entry.name)
            if second:
                yield _LIST_2.pack(b"DNT2", 0, *_fields(found), len(name)) + name
            else:
                size, modified = found.st_size & 0xFFFFFFFF, int(found.st_mtime)
                head = struct.pack("<4sIIII", b"DENT", found.st_mode, size, modified, len(name))
                yield head + name
    yield b"DONE" + bytes((_LIST_2.size if second else 20) - 4)


def _fields(found: os.stat_result) -> tuple[int, ...]:
    whose = (found.st_nlink, found.st_uid, found.st_gid)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    return (found.st_dev, found.st_ino, found.st_mode, *whose, found.st_size, *times)


async def _send_out(phone: Phone, channel: Channel, path: str) -> None:
    try:
        file = phone.real(path).open("rb")
    except OSError as error:
        await channel.write(_failure(f"open failed: {error.strerror}"))
        return
    with file:
        while block := file.read(_BLOCK):
            await channel.write(_HEADER.pack(b"DATA", len(block)) + block)
    await channel.write(_HEADER.pack(b"DONE", 0))


async def _take_in(phone: Phone, channel: Channel, path: str, mode: int) -> bool:
    """Receive a file; whether the conversation goes on after it. A file cut short is deleted."""
    target: Path | None = None
    whole = False
    try:
        target = phone.real(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while True:
                kind, size = _HEADER.unpack(await channel.read(_HEADER.size))
                if kind == b"DONE":
                    break
                block = await channel.read(size)
                phone.take_space(size)
                file.write(block)
        target.chmod(mode & 0o777)
        os.utime(target, (size, size))
        whole = True
    except OSError as error:
        what = "write failed" if error.errno == errno.ENOSPC else "couldn't create file"
        await channel.write(_failure(f"{what}: {error.strerror}"))
        await _drain(channel)
        return False
    finally:
        if target is not None and not whole:
            target.unlink(missing_ok=True)
    await channel.write(_HEADER.pack(b"OKAY", 0))
    return True


async def _drain(channel: Channel) -> None:
    """Throw away the rest of a file: a client that only writes would never see the failure."""
    while True:
        kind, size = _HEADER.unpack(await channel.read(_HEADER.size))
        if kind != b"DATA":
            return
        await channel.read(size)


def _failure(reason: str) -> bytes:
    return _HEADER.pack(b"FAIL", len(reason)) + reason.encode()
