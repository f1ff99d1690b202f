"""The rig's phone: a folder of this machine as its root, and its faults."""

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.profiles import Profile

# Paths of the phone in a command's text; those of this machine that merely end alike are left alone.
_PHONE_PATH = re.compile(r"(?<![\w./-])/(data|sdcard|system|sys|proc/\w+)(?![\w.-])")


@dataclass
class Faults:
    """What goes wrong from now on; a test sets them, at any time.

    Attributes:
        cut_received: cut the link when so many more bytes have come from the client; it is set back
            to None then, as are the next three.
        hang_received: stop answering when so many more bytes have come.
        cut_sent: cut the link when so many more bytes have gone to the client.
        cut_service: cut the link when a service is opened whose name starts so.
        authorise: whether the user allows a computer that the phone does not know.
        disk_left: how many more bytes of files the phone takes.
        denied: prefixes of paths that the sync service may not touch.
    """

    cut_received: int | None = None
    hang_received: int | None = None
    cut_sent: int | None = None
    cut_service: str | None = None
    authorise: bool = True
    disk_left: int | None = None
    denied: set[str] = field(default_factory=set)


class Phone:
    """State that outlives connections. `root` becomes its file system.

    Args:
        map_input: also replace the phone's paths in what commands read, as in requests to a runner.
    """

    def __init__(self, root: Path, profile: Profile, *, map_input: bool = False) -> None:
        self.root, self.profile, self.map_input = root.resolve(), profile, map_input
        self.faults = Faults()
        self.known_keys: list[bytes] = []
        self.groups: set[int] = set()  # process groups of commands that may still run
        self._booted = time.monotonic()
        profile.install(self.root)

    def boot(self) -> None:
        """Start over: nothing runs any more, and the uptime is zero."""
        for group in self.groups:
            kill_group(group, signal.SIGKILL)
        self.groups.clear()
        self._booted = time.monotonic()

    def real(self, path: str) -> Path:
        """Where a path of the phone lies on this machine.

        Raises:
            PermissionError: it is one of those denied.
        """
        whole = os.path.normpath("/" + path).lstrip("/")
        if any(f"/{whole}".startswith(prefix) for prefix in self.faults.denied):
            raise PermissionError(13, "Permission denied")
        return self.root / whole

    def translate(self, command: str) -> str:
        """A command's text with the phone's paths replaced by those of this machine."""
        self._tell_uptime()
        return _PHONE_PATH.sub(self._translated, command)

    def translate_input(self, data: bytes) -> bytes:
        """What a command is to read; as it is, unless the input is mapped."""
        if not self.map_input:
            return data
        return data.replace(b"/data/local/tmp", os.fsencode(self.root / "data/local/tmp"))

    def take_space(self, size: int) -> None:
        """Use up free space.

        Raises:
            OSError: there is not so much.
        """
        if self.faults.disk_left is not None:
            self.faults.disk_left -= size
            if self.faults.disk_left < 0:
                self.faults.disk_left = 0
                raise OSError(28, "No space left on device")

    def _translated(self, match: re.Match[str]) -> str:
        own = self.root / match[1]
        if match[1].startswith("proc/") and not own.exists():
            return match[0]
        return str(own)

    def _tell_uptime(self) -> None:
        uptime = time.monotonic() - self._booted
        target = self.root / "proc/uptime"
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"{uptime:.2f} {uptime:.2f}\n")


def kill_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if there is still one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
