"""Process 1 of a phone: builds its root, keeps adbd running, and executes the rig's requests.

It is run by path in namespaces of its own, and imports nothing but the standard library and its
neighbour, all of it before the root changes. When it ends the kernel kills every process of the
phone and takes its mounts down. It ends when its standard input does, and so when the test dies,
however it dies.

usage: boot.py SETTINGS    requests on standard input, replies on standard output, JSON lines
"""

import ctypes
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pinning import Pinning, hand_over, take_over  # its folder is on the path of a script

# mount(2)
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096

SHELL = 2000
# Android's groups of a shell, android_filesystem_config.h.
GROUPS = {
    "root": 0,
    "system": 1000,
    "input": 1004,
    "log": 1007,
    "adb": 1011,
    "shell": SHELL,
    "inet": 3003,
    "readproc": 3009,
}
ENVIRONMENT = {
    "PATH": "/system/bin:/system/xbin:/vendor/bin:/vendor/xbin",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
}
_RESTART_S = 0.5  # no busy loop, should adbd end at once again and again

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str | Path, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    words = [str(word).encode() for word in (source, target, kind)]
    if _libc.mount(*words, flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(source: Path, target: Path, flags: int = 0) -> None:
    """Show `source` at `target`, which is made, with other flags than where it lies."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.touch()
    mount(source, target, "", BIND)
    if flags:
        mount(source, target, "", BIND | REMOUNT | flags)


def build_root(settings: dict[str, Any]) -> Path:
    """Mount the phone's root, and all that is in it; returns where.

    Only /data and /rig, the state that stand-ins tell, can be written.
    """
    folder, system = Path(settings["folder"]), Path(settings["system"])
    root = folder / "root"
    root.mkdir(exist_ok=True)
    mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "mode=755")
    shutil.copytree(system / "system", root / "system", symlinks=True)
    shutil.copytree(settings["standins"], root / "system" / "bin", dirs_exist_ok=True)
    (root / "bin").symlink_to("system/bin")
    (root / "etc").symlink_to("system/etc")
    etc = root / "system" / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(
        f"root:x:0:0::/:/system/bin/sh\nshell:x:{SHELL}:{SHELL}::/:/system/bin/sh\n"
    )
    (etc / "group").write_text("".join(f"{name}:x:{number}:\n" for name, number in GROUPS.items()))
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    for name in ("lib", "usr"):
        bind(system / name, root / name, READ_ONLY | NO_SUID | NO_DEVICES)
    bind(Path(settings["adbd"]), root / "adbd", READ_ONLY | NO_SUID | NO_DEVICES)
    bind(folder / "data", root / "data", NO_SUID | NO_DEVICES)
    bind(folder / "state", root / "rig", NO_SUID | NO_DEVICES | NO_EXEC)
    bind(folder / "state" / "sys", root / "sys", READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC)
    (root / "proc").mkdir()
    mount("proc", root / "proc", "proc", NO_SUID | NO_DEVICES | NO_EXEC)
    bind(folder / "state" / "cpuinfo", root / "proc" / "cpuinfo", READ_ONLY)
    build_devices(root / "dev")
    mount("tmpfs", root, "", BIND | REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES)
    return root


def build_devices(folder: Path) -> None:
    """The few devices that a program may count on, and terminals of the phone's own."""
    folder.mkdir()
    mount("tmpfs", folder, "tmpfs", NO_SUID | NO_EXEC, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(Path("/dev", name), folder / name)
    (folder / "pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=0600"
    mount("devpts", folder / "pts", "devpts", NO_SUID | NO_EXEC, options)
    (folder / "ptmx").symlink_to("pts/ptmx")
    (folder / "fd").symlink_to("/proc/self/fd")
    (folder / "socket").mkdir()


def processes() -> dict[int, str]:
    """The command lines of the phone's processes but this one, by number."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and path.name != "1":
            try:
                words = (path / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            if words != [b""]:  # a dead one has none
                found[int(path.name)] = b" ".join(words).decode(errors="replace")
    return found


def kill_all() -> None:
    """End every process but this one, and those that they start meanwhile."""
    while running := processes():
        for number in running:
            send_signal(number, signal.SIGKILL)
        time.sleep(0.01)


def send_signal(number: int, which: int) -> None:
    """kill(2), but that the process is gone is no error."""
    with suppress(ProcessLookupError):
        os.kill(number, which)


class Phone:
    """What process 1 keeps: adbd, its port, and the keys that it asks about."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.port: int = settings["port"]
        self.log = Path(settings["folder"], "adbd.log").open("ab")  # noqa: SIM115 - kept for ever
        self.daemon: int | None = None
        self.framework: socket.socket | None = None
        self.asked: list[str] = []
        self.pinning = Pinning(settings["cores"])
        self.calls: int | None = None  # on which the kernel tells of calls about affinity

    def start_daemon(self) -> None:
        """Start adbd as Android's init does: with its port, its control socket, its user."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        address = "/dev/socket/adbd"
        Path(address).unlink(missing_ok=True)
        control.bind(address)
        control.listen()
        # The rig is the framework, which adbd tells of keys that it does not know.
        self.framework = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.framework.connect(address)
        self.asked = []
        properties = Path("/rig/properties").read_text()
        near, far = socket.socketpair()
        self.daemon = subprocess.Popen(
            ["/adbd/ld.so", "--library-path", "/adbd", "/adbd/adbd"],
            env={
                **ENVIRONMENT,
                **self.settings["environment"],
                "ADBD_PROPERTIES": f"{properties}service.adb.listen_addrs="
                f"acceptfd:{listener.fileno()}",
                "ANDROID_SOCKET_adbd": str(control.fileno()),
            },
            user=SHELL,
            group=SHELL,
            extra_groups=[number for number in GROUPS.values() if number not in (0, 1000)],
            pass_fds=(listener.fileno(), control.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=lambda: hand_over(far),
        ).pid
        self.calls = take_over(near)
        for used in (listener, control, near, far):
            used.close()

    def stop_daemon(self) -> None:
        """End adbd, and with it, as on a phone, all that was started through it."""
        self.daemon = None
        if self.framework is not None:
            self.framework.close()
            self.framework = None
        kill_all()
        if self.calls is not None:
            os.close(self.calls)
            self.calls = None

    def hear_framework(self) -> None:
        """Take note of a key that adbd asks about: a packet "PK" and the key."""
        if self.framework is None:
            return
        packet = self.framework.recv(4096)
        if not packet:
            self.framework.close()
            self.framework = None
        elif packet.startswith(b"PK"):
            self.asked.append(packet[2:].decode().rstrip("\0"))

    def reap(self) -> None:
        """Collect what ended; init starts adbd again."""
        while True:
            try:
                number, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if number == 0:
                return
            if number == self.daemon:
                self.stop_daemon()
                time.sleep(_RESTART_S)
                self.start_daemon()

    def answer(self, request: dict[str, Any]) -> Any:
        """Do what the rig asks."""
        match request["op"]:
            case "start_daemon":
                if self.daemon is None:
                    self.start_daemon()
                return self.port
            case "stop_daemon":
                return self.stop_daemon()
            case "processes":
                return list(processes().values())
            case "kill":
                pattern = re.compile(request["pattern"])
                hit = [number for number, line in processes().items() if pattern.search(line)]
                for number in hit:
                    send_signal(number, request["signal"])
                return len(hit)
            case "asked":
                return self.asked
            case "allow":
                if self.framework is None or not self.asked:
                    return False
                self.asked.pop(0)
                self.framework.send(b"OK")
                return True
        raise ValueError(request)


def serve(phone: Phone) -> None:
    """Answer requests until there are no more."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    buffer = b""
    while True:
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            if phone.framework is not None:
                selector.register(phone.framework, selectors.EVENT_READ)
            if phone.calls is not None:
                selector.register(phone.calls, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select()]
        if phone.calls in ready:
            phone.pinning.answer(phone.calls)
        if woken in ready:
            os.read(woken, 4096)
            phone.reap()
        if phone.framework in ready:
            phone.hear_framework()
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                return
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                print(json.dumps(phone.answer(json.loads(line))), flush=True)


def main() -> None:
    """Boot, tell the port, and serve."""
    settings = json.loads(sys.argv[1])
    socket.sethostname("localhost")
    root = build_root(settings)
    os.umask(0)
    phone = Phone(settings)
    os.chroot(root)
    os.chdir("/")
    serve(phone)


if __name__ == "__main__":
    main()
