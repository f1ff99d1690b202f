"""The journal: an SQLite file that holds every trial before it is used.

A run that is killed loses at most the trial in flight, and continues where it stopped. One process writes
a journal at a time, from any number of threads; any number of processes may read it meanwhile. Locking,
versions and durability: `latbench.measure.journal_file`.
"""

import json
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, StrictInt, ValidationError

from latbench.device.conditions import Conditions
from latbench.errors import BadRequest, JournalRefused
from latbench.measure.journal_file import JournalFile
from latbench.measure.plan import Plan, Role, Settings, Workload
from latbench.measure.records import Failure, Run, RunNote, RunState, Samples, Trial, workload_of
from latbench.target import Target


class Journal:
    """An open journal. Use it as a context manager, or close it: the lock is held until then.

    Args:
        path: the file; it is created unless `readonly`.
        readonly: only read it; another process may be writing.

    Raises:
        JournalRefused: the file does not exist (`readonly`), is not a journal, is damaged, is of a newer
            version, or is being written by another process.
        OutputFailed: the folder cannot be written, or the disk is full. Every method that writes may raise
            it; what was committed before is intact.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._file = JournalFile(path, readonly=readonly)
        self._db = self._file.db

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the lock. Closing twice does nothing."""
        self._file.close()

    # Runs

    def start_run(self, plan: Plan, *, device: Mapping[str, Any], note: RunNote, tool: str) -> Run:
        """Start a run of `plan`. Arguments are fields of `Run`."""
        now = time.time()
        with self._file.guarded(), self._file.transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (identity, unit, target, settings, about, device, tool, created,"
                " updated, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    plan.identity,
                    device["unit"],
                    plan.target.model_dump_json(),
                    json.dumps(plan.settings.determining),
                    note.to_json(),
                    json.dumps(device),
                    tool,
                    now,
                    now,
                    RunState.RUNNING,
                ),
            )
            self._db.executemany(
                "INSERT INTO subjects VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        cursor.lastrowid,
                        workload.key,
                        workload.role,
                        workload.sha256,
                        "" if workload.path is None else str(workload.path),
                    )
                    for workload in plan.all_workloads
                ],
            )
        return self.run(int(cursor.lastrowid or 0))

    def run(self, number: int | None = None) -> Run:
        """Run `number`, or the run that was measured last.

        Raises:
            BadRequest: there is no such run.
            JournalRefused: its row holds values of wrong types.
        """
        runs = self._runs("1", ()) if number is None else self._runs("id = ?", (number,))
        if runs:
            return runs[0]
        if number is None:
            raise BadRequest(
                f"{self.path} holds no run",
                hint=f"measure one with: latbench profile --journal {shlex.quote(str(self.path))}",
            )
        known = ", ".join(str(run.id) for run in self.runs()) or "none"
        raise BadRequest(f"{self.path} holds no run {number}", hint=f"runs in it: {known}")

    def runs(self) -> tuple[Run, ...]:
        """All runs, the last measured first."""
        return self._runs("1", ())

    def find_run(self, identity: str, *units: str) -> Run | None:
        """The newest run of the plan `identity` in which any of `units` took part, or None."""
        runs = self._runs("identity = ?", (identity,), newest="id")
        return next((run for run in runs if set(run.units) & set(units)), None)

    def _runs(
        self, where: str, values: tuple[Any, ...], *, newest: str = "updated"
    ) -> tuple[Run, ...]:
        with self._file.guarded():
            rows = self._db.execute(
                "SELECT id, identity, target, settings, about, device, hello, tool, created,"
                f" updated, state, wall_s FROM runs WHERE {where} ORDER BY {newest} DESC, id DESC",
                values,
            ).fetchall()
            return tuple(self._run_of(row) for row in rows)

    def _run_of(self, row: tuple[Any, ...]) -> Run:
        number, identity, target, settings, note, device, hello, tool, *rest = row
        created, updated, state, wall_s = rest
        workloads = self._db.execute(
            "SELECT key, role, sha256, path FROM subjects WHERE run = ? ORDER BY key", (number,)
        )
        try:
            return Run(
                id=number,
                identity=identity,
                target=Target.model_validate_json(target),
                workloads={key: workload_of(key, *columns) for key, *columns in workloads},
                settings=_settings_of(settings),
                note=RunNote.model_validate_json(note),
                device=_device_of(device),
                hello=None if hello is None else json.loads(hello),
                tool=tool,
                created=created,
                updated=updated,
                state=RunState(state),
                wall_s=wall_s,
            )
        except ValueError as error:  # pydantic's included
            raise JournalRefused(
                f"run {number} in {self.path} is damaged: {_first_problem(error)}",
                hint="name another journal with --journal; this one was not changed",
            ) from None

    def update_run(
        self,
        run: int,
        *,
        state: RunState | None = None,
        wall_s: float | None = None,
        hello: Mapping[str, Any] | None = None,
        note: RunNote | None = None,
        device: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the given fields of `run` (see `Run`)."""
        columns = {
            "state": state,
            "wall_s": wall_s,
            "hello": None if hello is None else json.dumps(hello),
            "about": None if note is None else note.to_json(),
            "device": None if device is None else json.dumps(device),
            "unit": None if device is None else device["unit"],
        }
        given = {name: value for name, value in columns.items() if value is not None}
        given["updated"] = time.time()
        assignments = ", ".join(f"{name} = ?" for name in given)
        with self._file.guarded():
            self._db.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*given.values(), run))

    # Trials and conditions

    def add_trial(
        self,
        run: int,
        workload: Workload,
        round_number: int,
        *,
        samples_ns: Samples,
        started: float,
        duration_s: float,
        warmups: int,
        unit: str | None = None,
        slot: int | None = None,
        clocks_khz: Samples | None = None,
        before: int | None = None,
        taint: str | None = None,
        failure: Failure | None = None,
    ) -> Trial:
        """Commit one trial and return it. Arguments are fields of `Trial`; `unit` defaults to the run's."""
        failed = (None,) * 3 if failure is None else (failure.stage, failure.kind, failure.reason)
        with self._file.guarded():
            cursor = self._db.execute(
                "INSERT INTO trials (run, subject, role, round, samples, clocks, warmups, started,"
                " duration, before, taint, failure_stage, failure_kind, failure_reason, place, unit)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " coalesce(?, (SELECT unit FROM runs WHERE id = ?)))",
                (
                    run,
                    workload.key,
                    workload.role,
                    round_number,
                    _blob(samples_ns),
                    None if clocks_khz is None else _blob(clocks_khz),
                    warmups,
                    started,
                    duration_s,
                    before,
                    taint,
                    *failed,
                    slot,
                    unit,
                    run,
                ),
            )
        return self._trials("id = ?", (cursor.lastrowid,))[0]

    def add_conditions(self, run: int, moment: float, data: str, unit: str | None = None) -> int:
        """Commit conditions and return their id.

        Args:
            run: the id of the run.
            moment: Unix time of the reading, seconds.
            data: the conditions, as JSON text.
            unit: by default the run's.
        """
        with self._file.guarded():
            cursor = self._db.execute(
                "INSERT INTO conditions (run, time, data, unit)"
                " VALUES (?, ?, ?, coalesce(?, (SELECT unit FROM runs WHERE id = ?)))",
                (run, moment, data, unit, run),
            )
        return int(cursor.lastrowid or 0)

    def close_trials(self, trials: Iterable[int], after: int) -> None:
        """Set the conditions that were read first after `trials` (ids)."""
        with self._file.guarded(), self._file.transaction():
            self._db.executemany(
                "UPDATE trials SET after = ? WHERE id = ?", [(after, trial) for trial in trials]
            )

    def taint(self, trials: Iterable[int], reason: str) -> None:
        """Taint `trials` (ids); `reason` is appended to earlier ones."""
        with self._file.guarded(), self._file.transaction():
            self._db.executemany(
                "UPDATE trials SET taint = coalesce(taint || '; ', '') || ? WHERE id = ?",
                [(reason, trial) for trial in trials],
            )

    def trials(self, run: int) -> list[Trial]:
        """All trials of `run` in the order taken."""
        return self._trials("run = ?", (run,))

    def _trials(self, where: str, values: tuple[Any, ...]) -> list[Trial]:
        with self._file.guarded():
            rows = self._db.execute(
                "SELECT id, run, subject, role, round, samples, clocks, warmups, started, duration,"
                " before, after, taint, failure_stage, failure_kind, failure_reason, unit, place"
                f" FROM trials WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        return [_trial_of(row) for row in rows]

    def conditions(self, run: int, unit: str | None = None) -> dict[int, dict[str, Any]]:
        """All conditions read during `run`, by id, as JSON data; if `unit` is given, only those of it.

        Raises:
            JournalRefused: one holds values of wrong types.
        """
        with self._file.guarded():
            rows = self._db.execute(
                "SELECT id, data FROM conditions WHERE run = ? AND unit = coalesce(?, unit)"
                " ORDER BY id",
                (run, unit),
            ).fetchall()
        try:
            return {number: _reading_of(data) for number, data in rows}
        except ValueError as error:
            raise JournalRefused(
                f"the conditions of run {run} in {self.path} are damaged: {_first_problem(error)}",
                hint="name another journal with --journal; this one was not changed",
            ) from None


class _UnitRow(BaseModel):
    """The description of one unit in `Run.device`."""

    dropped_out: StrictInt


class _DeviceRow(BaseModel):
    """`Run.device`, as far as numbers in it are used."""

    units: dict[str, _UnitRow] = {}


def _device_of(text: str) -> dict[str, Any]:
    """The device in a journal's row, checked, and otherwise as it is."""
    _DeviceRow.model_validate_json(text)
    device: dict[str, Any] = json.loads(text)
    return device


def _settings_of(text: str) -> dict[str, Any]:
    """The settings in a journal's row: a number is required where `Settings` has one."""
    settings: dict[str, Any] = json.loads(text)
    for field in fields(Settings):
        value = settings.get(field.name)
        if field.type is not bool and isinstance(value, bool):
            raise ValueError(f"settings.{field.name} must be a number, got {json.dumps(value)}")
    return settings


def _reading_of(text: str) -> dict[str, Any]:
    """Conditions in a journal's row, checked, and otherwise as they are."""
    Conditions.model_validate_json(text, strict=True)
    reading: dict[str, Any] = json.loads(text)
    return reading


def _first_problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _blob(values: Samples) -> bytes:
    return np.ascontiguousarray(values, dtype="<i8").tobytes()


def _trial_of(row: tuple[Any, ...]) -> Trial:
    number, run, workload, role, round_number, samples, clocks, warmups, started, *rest = row
    duration, before, after, taint, stage, kind, reason, unit, slot = rest
    return Trial(
        id=number,
        run=run,
        workload=workload,
        role=Role(role),
        round=round_number,
        unit=unit,
        slot=slot,
        samples_ns=np.frombuffer(samples, dtype="<i8"),
        clocks_khz=None if clocks is None else np.frombuffer(clocks, dtype="<i8"),
        warmups=warmups,
        started=started,
        duration_s=duration,
        before=before,
        after=after,
        taint=taint,
        failure=None if stage is None else Failure(stage, kind, reason),
    )
