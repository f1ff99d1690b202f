"""A lock that lets one process at a time measure on a unit; the error in others names its owner.

It is SQLite's lock, as for a journal: the operating system releases it when its owner ends, however it
ends. It holds on this computer only; nothing is written to the unit.
"""

import os
import platform
import re
import sqlite3
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from latbench.errors import DeviceUnavailable
from latbench.files import home, make_folder, write_atomically
from latbench.record import Integer, Record


def unit_file(folder: str, unit: str, suffix: str) -> Path:
    """The path of a file about a unit in latbench's home; any characters may be in the unit's name."""
    return home() / folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', unit)}{suffix}"


class _Owner(Record):
    pid: Integer
    host: str
    command: str
    since: str


class UnitLock:
    """The exclusive right to measure on `unit`, until `release`.

    Raises:
        DeviceUnavailable: another process holds it; the error names it.
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
                f"{unit} is in use by {self._owner_shown()}",
                hint="wait for it to end, or stop it, then run the same command again",
            ) from None
        owner = _Owner(
            pid=os.getpid(),
            host=platform.node(),
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            since=time.strftime("%H:%M"),
        )
        try:
            write_atomically(self._owner, owner.model_dump_json() + "\n")
        except BaseException:
            self._lock.close()
            raise

    def release(self) -> None:
        """Release the lock; may be repeated."""
        self._lock.close()

    def _owner_shown(self) -> str:
        try:
            owner = _Owner.model_validate_json(self._owner.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return "another process"
        return f"process {owner.pid} on {owner.host} since {owner.since} ({owner.command})"
