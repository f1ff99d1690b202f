"""Real adb servers for tests: each with a port and a home of its own, ended with the test."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_S = 20.0


@dataclass(frozen=True)
class AdbServer:
    """A running server, and its client."""

    binary: Path
    port: int
    home: Path

    @property
    def address(self) -> str:
        """host:port of the server."""
        return f"127.0.0.1:{self.port}"

    def adb(
        self, *arguments: str | Path, serial: str | None = None, timeout_s: float = 20.0
    ) -> subprocess.CompletedProcess[str]:
        """Run adb with these arguments."""
        choice = [] if serial is None else ["-s", serial]
        return subprocess.run(
            [self.binary, "-P", str(self.port), *choice, *arguments],
            env=_environment(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def connect(self, address: str) -> None:
        """Have the server connect to a daemon, and wait until it is ready."""
        deadline = time.monotonic() + 10
        listed = self.adb("devices").stdout
        while f"{address}\tdevice" not in listed:
            assert time.monotonic() < deadline, listed
            if address not in listed:
                # It says that it failed while the phone's user is asked, and that it is connected already
                # while the server has yet to see that an earlier connection is gone.
                self.adb("connect", address)
            time.sleep(0.05)
            listed = self.adb("devices").stdout


def adb_of_debian() -> Path | None:
    """The adb of the system, if it is installed (apt-get install adb)."""
    found = shutil.which("adb")
    return Path(found) if found else None


def adb_of_adbutils() -> Path:
    """The adb that the adbutils wheel brings along."""
    package = importlib.util.find_spec("adbutils")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "binaries" / "adb"


@contextlib.contextmanager
def running_adb_server(binary: Path, home: Path) -> Iterator[AdbServer]:
    """Start a server that keeps its keys in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, "-P", str(port), "nodaemon", "server"],
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_listener(port, process)
        yield AdbServer(binary, port, home)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(home: Path) -> dict[str, str]:
    # It must find nothing by itself: that would take real phones away from their owner.
    nothing = {"ADB_USB": "0", "ADB_MDNS": "0", "ADB_EMU": "0"}
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | nothing | {"HOME": str(home), "TMPDIR": str(home)}


def _await_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "the adb server ended at once"
        assert time.monotonic() < deadline, "the adb server does not listen"
        time.sleep(0.02)
