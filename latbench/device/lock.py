"""One process at a time measures on a unit; others are told which.

The lock is that of SQLite, as for a journal: the operating system releases it when its owner dies,
however it dies. It is this computer's alone; nothing is left on the phone.
"""

import contextlib
import json
import os
import platform
import re
import sqlite3
import sys
import time
from pathlib import Path

from latbench.errors import DeviceUnavailable
from latbench.files import home, make_folder, write_atomically


def unit_file(folder: str, unit: str, suffix: str) -> Path:
    """Where latbench's home keeps something about a unit, whatever is in its name."""
    return home() / folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', unit)}{suffix}"


class UnitLock:
    """The right to measure on `unit`, held until `release`.

    Raises:
        DeviceUnavailable: another process holds it; it is named.
        OutputFailed: latbench's home cannot be written.
    """

    def __init__(self, unit: str) -> None:
        path = unit_file("units", unit, ".lock")
        self._owner = path.with_suffix(".json")
        make_folder(path.parent)
        self._lock = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            self._lock.close()
            raise DeviceUnavailable(
                f"{unit} is in use by {self._told()}",
                hint="wait for it to end, or stop it, then run the same command again",
            ) from None
        owner = {
            "pid": os.getpid(),
            "host": platform.node(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "since": time.strftime("%H:%M"),
        }
        try:
            write_atomically(self._owner, json.dumps(owner) + "\n")
        except BaseException:
            self._lock.close()
            raise

    def release(self) -> None:
        """Give it up. Twice does nothing."""
        self._lock.close()

    def _told(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads(self._owner.read_text(encoding="utf-8"))
            return (
                f"process {owner['pid']} on {owner['host']} since {owner['since']} "
                f"({owner['command']})"
            )
        return "another process"
