"""The file of a journal: an SQLite database with a lock, a version, and errors that a user can act on.

The write-ahead log runs with `synchronous = NORMAL`: a commit is in the operating system's hands when it
returns, so a killed process loses nothing that it committed. A power cut may lose the last few trials, never
the journal; they are measured again. Flushing to disk after every trial (`FULL`) would save those few at the
price of disk writes between the timings.

The lock is SQLite's own on `<journal>.lock`, an empty database beside the journal: it works the same on
every system, and the operating system releases it when its owner ends for any reason.

History of the schema (`user_version`):
    1  (2026-11-24)  the first.
    2  (2026-11-24)  the reference, too, may be visited more than once a round.
    3  (2026-11-24)  trials and conditions name their unit, trials their runner slot (`place`), too.

An older journal is upgraded when it is opened for writing. Opened for reading it is not changed: a copy in
memory is upgraded and read.
"""

import contextlib
import os
import shlex
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from latbench.errors import JournalInUse, JournalRefused, LatbenchError, OutputFailed

VERSION = 3

#: Marks an SQLite file as a journal: 'latb' (sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x6C617462

#: Version n -> the statements that turn a journal of version n into one of version n + 1.
UPDATES: dict[int, tuple[str, ...]] = {
    0: (
        """CREATE TABLE owner (
            one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER, host TEXT, since REAL)""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY, identity TEXT NOT NULL, unit TEXT NOT NULL,
            target TEXT NOT NULL, settings TEXT NOT NULL, about TEXT NOT NULL,
            device TEXT NOT NULL, hello TEXT, tool TEXT NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL, state TEXT NOT NULL,
            wall_s REAL NOT NULL DEFAULT 0)""",
        """CREATE TABLE subjects (
            run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, role TEXT NOT NULL,
            sha256 TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (run, key))""",
        """CREATE TABLE conditions (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs,
            time REAL NOT NULL, data TEXT NOT NULL)""",
        """CREATE TABLE trials (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs,
            subject TEXT NOT NULL, role TEXT NOT NULL, round INTEGER NOT NULL,
            samples BLOB NOT NULL, clocks BLOB, warmups INTEGER NOT NULL,
            started REAL NOT NULL, duration REAL NOT NULL,
            before INTEGER REFERENCES conditions, after INTEGER REFERENCES conditions, taint TEXT,
            failure_stage TEXT, failure_kind TEXT, failure_reason TEXT)""",
        # A workload has one visit a round; the sentinel has many.
        """CREATE UNIQUE INDEX one_visit_a_round ON trials (run, subject, round)
            WHERE role <> 'sentinel'""",
        "CREATE INDEX trials_of_run ON trials (run)",
        "CREATE INDEX conditions_of_run ON conditions (run)",
    ),
    1: (
        "DROP INDEX one_visit_a_round",
        """CREATE UNIQUE INDEX one_visit_a_round ON trials (run, subject, round)
            WHERE role NOT IN ('sentinel', 'reference')""",
    ),
    2: (
        "ALTER TABLE trials ADD COLUMN unit TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE trials ADD COLUMN place INTEGER",
        "ALTER TABLE conditions ADD COLUMN unit TEXT NOT NULL DEFAULT ''",
        # A run had one unit; workloads alternated between its runners by round, the sentinel did not.
        """UPDATE trials SET unit = runs.unit, place = CASE role
            WHEN 'sentinel' THEN 0
            WHEN 'reference' THEN NULL
            ELSE round % coalesce(json_extract(runs.settings, '$.runners'), 1) END
            FROM runs WHERE runs.id = trials.run""",
        "UPDATE conditions SET unit = runs.unit FROM runs WHERE runs.id = conditions.run",
    ),
}


class JournalFile:
    """An open journal file. Its connection `db` may be used inside `guarded` only.

    Arguments and errors are those of `Journal`.
    """

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.path, self._readonly = path, readonly
        self._lock: sqlite3.Connection | None = None
        self._turn = threading.RLock()
        with self.guarded():
            if readonly:
                self.db = self._open_reading()
                self._close_on_error(self._read_up_to_date)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                # Refuse a file that is no journal before a lock is created beside it.
                self.db = self._open_reading()
                self._close_on_error(self._check)
                self.db.close()
            self._lock = self._acquire()
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._close_on_error(self._prepare)

    def close(self) -> None:
        """Close the file and release the lock. Closing twice does nothing."""
        if self._lock is not None:
            # On a full disk the row stays; the lock, not the row, excludes other processes.
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("DELETE FROM owner")
        self.db.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything written inside, or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors, such as a full disk.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Let one thread at a time in, and translate errors of SQLite and the operating system."""
        try:
            with self._turn:
                yield
        except sqlite3.Error as error:
            raise self._translated(error) from None
        except OSError as error:
            raise OutputFailed(
                f"cannot open {self.path}: {error.strerror}",
                hint="name a writable file with --journal",
            ) from None

    # Opening

    def _close_on_error(self, step: Callable[[], object]) -> None:
        try:
            step()
        except BaseException:
            self.close()
            raise

    def _check(self) -> int:
        """Refuse a file that is no journal; returns its version, 0 if it is empty."""
        version = int(self.db.execute("PRAGMA user_version").fetchone()[0])
        marked = self.db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        tables = self.db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not marked and (version or tables):
            raise self._refused("is not a latbench journal")
        if version > VERSION:
            raise JournalRefused(
                f"{self.path} is a journal of version {version}; this latbench reads up to "
                f"{VERSION}",
                hint="upgrade with: pip install --upgrade latbench",
            )
        return version

    def _prepare(self) -> None:
        version = self._check()
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("PRAGMA foreign_keys = ON")
        with self.transaction():
            self._update(version)
            self.db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.db.execute(f"PRAGMA user_version = {VERSION}")
            self.db.execute(
                "INSERT OR REPLACE INTO owner VALUES (1, ?, ?, ?)",
                (os.getpid(), socket.gethostname(), time.time()),
            )

    def _update(self, version: int) -> None:
        for step in range(version, VERSION):
            for statement in UPDATES[step]:
                self.db.execute(statement)

    def _read_up_to_date(self) -> None:
        version = self._check()
        if 0 < version < VERSION:
            copy = sqlite3.connect(":memory:", isolation_level=None)
            with contextlib.closing(self.db):
                self.db.backup(copy)
            self.db = copy
            self._update(version)

    def _acquire(self) -> sqlite3.Connection:
        lock = sqlite3.connect(
            self.path.with_name(f"{self.path.name}.lock"), isolation_level=None, timeout=0
        )
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise JournalInUse(
                f"{self.path} is being written by {self._owner()}",
                hint="wait until it ends, stop it, or name another file with --journal",
            ) from None
        return lock

    def _owner(self) -> str:
        with contextlib.suppress(sqlite3.Error, LatbenchError):
            reader = self._open_reading()
            try:
                row = reader.execute("SELECT pid, host FROM owner").fetchone()
            finally:
                reader.close()
            if row is not None:
                return f"process {row[0]} on {row[1]}"
        return "another process"

    def _open_reading(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise JournalRefused(
                f"there is no journal at {self.path}",
                hint=f"measure one with: latbench profile --journal {shlex.quote(str(self.path))}",
            )
        uri = self.path.resolve().as_uri()
        reader = sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None)
        try:
            reader.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            reader.close()
            # A reader shares memory with writers through a file beside the journal. If that file cannot be
            # created, nobody writes either, so the journal is immutable once its log is merged.
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise
            reader = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
        return reader

    # Errors

    def _refused(self, what: str) -> JournalRefused:
        return JournalRefused(
            f"{self.path} {what}", hint="name another file with --journal; this one was not changed"
        )

    def _translated(self, error: sqlite3.Error) -> LatbenchError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._readonly and code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            return JournalRefused(f"cannot read {self.path}: {error}")
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            why = "the disk is full" if code == sqlite3.SQLITE_FULL else str(error)
            return OutputFailed(
                f"cannot write {self.path}: {why}; all earlier trials are kept",
                hint="free some space and repeat the command: it continues the run",
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return OutputFailed(
                f"cannot open {self.path}: the file or its folder is read-only",
                hint="name a writable file with --journal",
            )
        if code == sqlite3.SQLITE_NOTADB:
            return self._refused("is not a latbench journal")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return JournalInUse(
                f"{self.path} is being written by another process",
                hint="wait for it to end, stop it, or name another file with --journal",
            )
        return self._refused(f"is damaged: {error}")
