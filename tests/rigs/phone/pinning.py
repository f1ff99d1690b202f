"""Lets programs of a phone pin themselves to its cores, which this machine may not have.

A seccomp filter hands sched_setaffinity(2) and sched_getaffinity(2) of the phone's processes to
process 1 (seccomp_unotify(2)), which keeps for each thread the cores it asked for, and answers as a
kernel with the phone's cores would. Where threads really run stays this machine's choice, and shows
in `sched_getcpu` and in `Cpus_allowed` of /proc/PID/status.
"""

import array
import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

# Numbers of x86-64 Linux: asm/unistd_64.h, linux/audit.h, linux/seccomp.h, linux/prctl.h.
_SECCOMP, _SET_AFFINITY, _GET_AFFINITY = 317, 203, 204
_X86_64 = 0xC000003E
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NO_NEW_PRIVILEGES = 38
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, ip, six arguments.
_QUESTION = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, error, flags.
_ANSWER = struct.Struct("=QqiI")
_WORD = 8  # bytes; a kernel's mask is of whole longs

_libc = ctypes.CDLL(None, use_errno=True)


def _filter() -> bytes:
    """The BPF program: notify of the two calls, allow all others (linux/filter.h)."""
    load, equal, give = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, 3, _X86_64),
        (load, 0, 0, 0),  # seccomp_data.nr
        (equal, 2, 0, _SET_AFFINITY),
        (equal, 1, 0, _GET_AFFINITY),
        (give, 0, 0, _ALLOW),
        (give, 0, 0, _NOTIFY),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in program)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


_STEPS = _filter()


def hand_over(link: socket.socket) -> None:
    """Put this process and all that it starts under the filter; its listener goes down `link`."""
    program = _Program(len(_STEPS) // 8, _STEPS)
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    listener = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    socket.send_fds(link, [b"\0"], [listener])
    os.close(listener)


def take_over(link: socket.socket) -> int:
    """The listener that `hand_over` sent."""
    _, (listener,), _, _ = socket.recv_fds(link, 1, 1)
    return listener


class Pinning:
    """What cores the phone's threads asked for."""

    def __init__(self, cores: int) -> None:
        self.all = (1 << cores) - 1
        self.chosen: dict[tuple[int, int], int] = {}

    def answer(self, listener: int) -> None:
        """Answer one call. A caller that is gone meanwhile needs no answer."""
        question = array.array("B", bytes(_QUESTION.size))
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
        except FileNotFoundError:
            return
        number, thread, _, call, _, _, target, size, address, *_ = _QUESTION.unpack(question)
        value, error = 0, 0
        try:
            if call == _SET_AFFINITY:
                self._set(target or thread, _read(thread, address, size))
            else:
                value = _write(thread, address, size, self._get(target or thread))
        except OSError as failure:
            error = -(failure.errno or errno.EIO)
        try:
            fcntl.ioctl(listener, _SEND, array.array("B", _ANSWER.pack(number, value, error, 0)))
        except FileNotFoundError:
            return

    def _set(self, thread: int, mask: int) -> None:
        if not mask & self.all:
            raise OSError(errno.EINVAL, "no such core")
        self.chosen[_identity(thread)] = mask & self.all

    def _get(self, thread: int) -> int:
        """A thread's choice, else its process's, else that of the process which started it."""
        while thread > 1:
            if (identity := _identity(thread)) in self.chosen:
                return self.chosen[identity]
            process, parent = _family(thread)
            thread = process if process != thread else parent
        return self.all


def _identity(thread: int) -> tuple[int, int]:
    """A thread's number and when it started: numbers are used again."""
    fields = _proc(thread, "stat").rpartition(")")[2].split()
    return thread, int(fields[19])


def _family(thread: int) -> tuple[int, int]:
    """The numbers of a thread's process, and of the process which started that."""
    lines = dict(line.partition(":\t")[::2] for line in _proc(thread, "status").splitlines())
    return int(lines["Tgid"]), int(lines["PPid"])


def _proc(thread: int, name: str) -> str:
    try:
        return Path(f"/proc/{thread}/{name}").read_text()
    except FileNotFoundError:
        raise OSError(errno.ESRCH, "no such thread") from None


def _read(thread: int, address: int, size: int) -> int:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return int.from_bytes(memory.read(min(size, 128)), "little")


def _write(thread: int, address: int, size: int, mask: int) -> int:
    if size < _WORD or size % _WORD:
        raise OSError(errno.EINVAL, "too short for a mask")
    with Path(f"/proc/{thread}/mem").open("r+b", buffering=0) as memory:
        memory.seek(address)
        memory.write(mask.to_bytes(_WORD, "little"))
    return _WORD
