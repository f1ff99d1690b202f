"""An Android-like arm64 phone on this machine: AOSP's adbd, arm64 programs, and stand-ins.

    with Phone("galaxy-s8") as phone:
        phone.allow(public_key)
        subprocess.run(["adb", "connect", phone.address])

It needs root, and what `python -m tests.rigs.setup` brings. What it computes is right; how long it
takes means nothing.
"""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from tests.rigs.parts import Parts, RigMissing, default_cache, parts
from tests.rigs.phone.profiles import PROFILES, Profile
from tests.rigs.phone.state import SHELL, PhoneState
from tests.rigs.setup import UNSHARE, registered_emulator

_HERE = Path(__file__).parent
_STARTS_WITHIN_S = 20.0
_ENDS_WITHIN_S = 5.0
_serials = count(1)


class Phone:
    """A phone that runs until `close`, or until the process that made it ends, however it ends.

    Attributes:
        profile: which model it is.
        serial: its `ro.serialno`; adb calls it by `address`.
        state: what it tells of itself, to be read and changed while it runs.
        parts: where the arm64 runtimes are, among others.
    """

    profile: Profile
    serial: str
    state: PhoneState
    parts: Parts

    def __init__(
        self,
        profile: Profile | str = "galaxy-s8",
        *,
        cache: Path | None = None,
        uptime_s: float = 3600.0,
    ) -> None:
        """Switch on a phone of that profile, or profile of that name, up for `uptime_s`.

        Raises:
            RigMissing: not root, or not set up; the message says what to do.
        """
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.parts = _ready_parts(cache or default_cache())
        self.serial = f"RIG{os.getpid()}X{next(_serials)}"
        self._folder = Path(mkdtemp(prefix="latbench-phone-"))
        self._init: subprocess.Popen[bytes] | None = None
        self._port = 0
        try:
            self.state = PhoneState(self._make("state"), self.profile, self.serial)
            self._make_data()
            self._boot(uptime_s)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where its adbd listens, "127.0.0.1:PORT": the same for its whole life."""
        return f"127.0.0.1:{self._port}"

    @property
    def data(self) -> Path:
        """The phone's /data, seen from this machine."""
        return self._folder / "data"

    @property
    def log(self) -> str:
        """What adbd wrote to its log."""
        return (self._folder / "adbd.log").read_text(errors="replace")

    def allow(self, public_key: str) -> None:
        """Let a computer in, now and later, by the text of its adbkey.pub; as a user by a tap.

        If the phone asks about that key just now, the answer is yes.
        """
        keys = self.data / "misc" / "adb" / "adb_keys"
        with keys.open("a") as file:
            file.write(public_key.strip() + "\n")
        asked = self.asked()
        if asked and asked[0].split()[0] == public_key.split()[0]:
            self._ask(op="allow")

    def asked(self) -> list[str]:
        """The public keys that the phone asks its user about, oldest first."""
        keys: list[str] = self._ask(op="asked")
        return keys

    def stop_daemon(self) -> None:
        """End adbd and all that was started through it: connections break, new ones are refused."""
        self._ask(op="stop_daemon")

    def start_daemon(self) -> None:
        """Start adbd, unless it runs."""
        self._port = self._ask(op="start_daemon")
        _until(self._answers, "adbd answers", self._why)

    def restart_daemon(self) -> None:
        """End adbd and all that was started through it, and start it anew."""
        self.stop_daemon()
        self.start_daemon()

    def reboot(self, uptime_s: float = 20.0) -> None:
        """Restart the phone: processes die, uptime starts anew, /data stays."""
        self._shut_down()
        self.state.boot()
        self._boot(uptime_s)

    def processes(self) -> list[str]:
        """The command lines of the phone's processes, adbd among them.

        Those of arm64 programs start with qemu's name.
        """
        lines: list[str] = self._ask(op="processes")
        return lines

    def kill(self, pattern: str, which: signal.Signals = signal.SIGKILL) -> int:
        """Signal every process whose command line has a match of a regular expression.

        adbd is started anew when it ends. Returns how many were hit.
        """
        hit: int = self._ask(op="kill", pattern=pattern, signal=int(which))
        return hit

    def close(self) -> None:
        """Switch it off and remove all it left. Again: nothing."""
        self._shut_down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, name: str, mode: int = 0o755, owner: int = 0) -> Path:
        folder = self._folder / name
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, owner, owner)
        return folder

    def _make_data(self) -> None:
        """Folders of /data with Android's owners and modes."""
        system = 1000
        self._make("data", 0o771, system)
        self._make("data/misc", 0o771, system)
        self._make("data/misc/adb", 0o755, system)
        self._make("data/local", 0o751)
        self._make("data/local/tmp", 0o771, SHELL)

    def _boot(self, uptime_s: float) -> None:
        settings = {
            "folder": str(self._folder),
            "system": str(self.parts.system),
            "adbd": str(self.parts.adbd),
            "standins": str(_HERE / "standins"),
            "port": self._port,
            "cores": len(self.profile.cores),
            "environment": {
                "QEMU_CPU": self.profile.emulated_cpu,
                "QEMU_UNAME": self.profile.kernel,
            },
        }
        command = [
            *UNSHARE,
            f"--boottime={uptime_s - time.clock_gettime(time.CLOCK_BOOTTIME):.0f}",
            *(sys.executable, "-E", "-s", "-S", str(_HERE / "boot.py"), json.dumps(settings)),
        ]
        with (self._folder / "boot.log").open("ab") as log:
            self._init = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.start_daemon()

    def _shut_down(self) -> None:
        if self._init is None:
            return
        init, self._init = self._init, None
        assert init.stdin is not None
        assert init.stdout is not None
        init.stdin.close()
        try:
            init.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            init.kill()  # unshare's child, process 1, dies with it
            init.wait()
        init.stdout.close()

    def _ask(self, **request: Any) -> Any:
        """Ask process 1.

        Raises:
            RigMissing: there is none; its last words are reported.
        """
        if self._init is None:
            raise RigMissing("the phone is switched off")
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        try:
            self._init.stdin.write(json.dumps(request).encode() + b"\n")
            reply = self._init.stdout.readline()
        except BrokenPipeError:
            reply = b""
        if not reply:
            raise RigMissing(f"the phone ended by itself:\n{self._why()}")
        return json.loads(reply)

    def _why(self) -> str:
        texts = [(self._folder / name) for name in ("boot.log", "adbd.log")]
        return "\n".join(
            text.read_text(errors="replace")[-2000:] for text in texts if text.exists()
        )

    def _answers(self) -> bool:
        """Whether adbd answers a client: CNXN is met by AUTH (AOSP, adb/protocol.txt)."""
        connect, banner = 0x4E584E43, b"host::\0"
        message = struct.pack(
            "<6I",
            *(connect, 0x01000000, 4096, len(banner), sum(banner), connect ^ 0xFFFFFFFF),
        )
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as link:
                link.sendall(message + banner)
                return link.recv(4) in (b"AUTH", b"CNXN")
        except OSError:
            return False


def _ready_parts(cache: Path) -> Parts:
    advice = "run python -m tests.rigs.setup"
    if sys.platform != "linux" or os.geteuid() != 0:
        raise RigMissing("the phone needs Linux and root")
    found = parts(cache)
    if missing := found.missing():
        raise RigMissing(f"there is no {missing[0]}: {advice}")
    if registered_emulator() is None:
        raise RigMissing(f"the kernel does not know how to run arm64 programs: {advice}")
    return found


def _until(condition: Callable[[], bool], what: str, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise RigMissing(f"waited {_STARTS_WITHIN_S:.0f} s until {what}, in vain:\n{why()}")
        time.sleep(0.02)
