"""The journal: every trial in SQLite before anything is made of it.

A run that is killed loses at most the trial in flight, and is continued where it was. One process
writes a journal at a time, from as many threads as it likes; any number may read it meanwhile.
`latbench.measure.journal_file` says how it is locked, versioned and kept safe.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from latbench.errors import BadRequest
from latbench.measure.journal_file import JournalFile
from latbench.measure.plan import Plan, Role, Workload
from latbench.measure.records import Failure, Run, RunState, Samples, Trial, workload_of
from latbench.target import Target


class Journal:
    """An open journal. A context manager; `close` it, or the lock stays until the process ends.

    Args:
        path: the file; it is created unless `readonly`.
        readonly: only read it; another process may be writing.

    Raises:
        JournalRefused: there is none to read, it is no journal, is damaged, of a newer version, or
            another process is writing it (the message says which).
        OutputFailed: the folder cannot be written, or the disk is full. So does every method that
            writes; what was committed before is intact.
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

    def start_run(
        self, plan: Plan, *, device: Mapping[str, Any], about: Mapping[str, Any], tool: str
    ) -> Run:
        """Start a run of `plan`; arguments as the fields of `Run`."""
        now = time.time()
        with self._file.told(), self._file.transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (identity, unit, target, settings, about, device, tool, created,"
                " updated, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    plan.identity,
                    device["unit"],
                    plan.target.model_dump_json(),
                    json.dumps(plan.settings.determining),
                    json.dumps(about),
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
        """Return run `number`; without one, the run that was measured last.

        Raises:
            BadRequest: there is no such run.
        """
        wanted, values = ("id = ?", (number,)) if number is not None else ("1", ())
        runs = self._runs(wanted, values)
        if not runs:
            what = "any run" if number is None else f"a run {number}"
            raise BadRequest(
                f"{self.path} does not hold {what}", hint="measure first, with: latbench profile"
            )
        return runs[0]

    def runs(self) -> tuple[Run, ...]:
        """Every run, the one that was measured last first."""
        return self._runs("1", ())

    def find_run(self, identity: str, *units: str) -> Run | None:
        """The newest run of the plan `identity` that any of `units` takes part in."""
        runs = self._runs("identity = ?", (identity,), newest="id")
        return next((run for run in runs if set(run.units) & set(units)), None)

    def _runs(
        self, where: str, values: tuple[Any, ...], *, newest: str = "updated"
    ) -> tuple[Run, ...]:
        with self._file.told():
            rows = self._db.execute(
                "SELECT id, identity, target, settings, about, device, hello, tool, created,"
                f" updated, state, wall_s FROM runs WHERE {where} ORDER BY {newest} DESC, id DESC",
                values,
            ).fetchall()
            return tuple(self._run_of(row) for row in rows)

    def _run_of(self, row: tuple[Any, ...]) -> Run:
        number, identity, target, settings, about, device, hello, tool, *rest = row
        created, updated, state, wall_s = rest
        workloads = self._db.execute(
            "SELECT key, role, sha256, path FROM subjects WHERE run = ? ORDER BY key", (number,)
        )
        return Run(
            id=number,
            identity=identity,
            target=Target.model_validate_json(target),
            workloads={key: workload_of(key, *columns) for key, *columns in workloads},
            settings=json.loads(settings),
            about=json.loads(about),
            device=json.loads(device),
            hello=None if hello is None else json.loads(hello),
            tool=tool,
            created=created,
            updated=updated,
            state=RunState(state),
            wall_s=wall_s,
        )

    def update_run(
        self,
        run: int,
        *,
        state: RunState | None = None,
        wall_s: float | None = None,
        hello: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
        device: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what is given to `run`, as the fields of `Run`; the rest stays."""
        columns = {
            "state": state,
            "wall_s": wall_s,
            "hello": None if hello is None else json.dumps(hello),
            "about": None if about is None else json.dumps(about),
            "device": None if device is None else json.dumps(device),
            "unit": None if device is None else device["unit"],
        }
        given = {name: value for name, value in columns.items() if value is not None}
        given["updated"] = time.time()
        assignments = ", ".join(f"{name} = ?" for name in given)
        with self._file.told():
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
        place: int | None = None,
        clocks_khz: Samples | None = None,
        before: int | None = None,
        taint: str | None = None,
        failure: Failure | None = None,
    ) -> Trial:
        """Commit one trial and return it; arguments as the fields of `Trial`.

        Without `unit` it is the run's own.
        """
        failed = (None,) * 3 if failure is None else (failure.stage, failure.kind, failure.reason)
        with self._file.told():
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
                    place,
                    unit,
                    run,
                ),
            )
        return self._trials("id = ?", (cursor.lastrowid,))[0]

    def add_conditions(self, run: int, moment: float, data: str, unit: str | None = None) -> int:
        """Commit conditions (JSON text, read at Unix time `moment`) and return their id.

        Without `unit` they are those of the run's own.
        """
        with self._file.told():
            cursor = self._db.execute(
                "INSERT INTO conditions (run, time, data, unit)"
                " VALUES (?, ?, ?, coalesce(?, (SELECT unit FROM runs WHERE id = ?)))",
                (run, moment, data, unit, run),
            )
        return int(cursor.lastrowid or 0)

    def close_trials(self, trials: Iterable[int], after: int) -> None:
        """Say which conditions were read first after `trials`."""
        with self._file.told(), self._file.transaction():
            self._db.executemany(
                "UPDATE trials SET after = ? WHERE id = ?", [(after, trial) for trial in trials]
            )

    def taint(self, trials: Iterable[int], reason: str) -> None:
        """Distrust `trials`; a reason that is there already stays, and `reason` joins it."""
        with self._file.told(), self._file.transaction():
            self._db.executemany(
                "UPDATE trials SET taint = coalesce(taint || '; ', '') || ? WHERE id = ?",
                [(reason, trial) for trial in trials],
            )

    def trials(self, run: int) -> list[Trial]:
        """Every trial of `run` in the order taken."""
        return self._trials("run = ?", (run,))

    def _trials(self, where: str, values: tuple[Any, ...]) -> list[Trial]:
        with self._file.told():
            rows = self._db.execute(
                "SELECT id, run, subject, role, round, samples, clocks, warmups, started, duration,"
                " before, after, taint, failure_stage, failure_kind, failure_reason, unit, place"
                f" FROM trials WHERE {where} ORDER BY id",
                values,
            ).fetchall()
        return [_trial_of(row) for row in rows]

    def conditions(self, run: int, unit: str | None = None) -> dict[int, dict[str, Any]]:
        """Every reading of the conditions during `run`, by id; those of one unit, if it is given."""
        with self._file.told():
            rows = self._db.execute(
                "SELECT id, data FROM conditions WHERE run = ? AND unit = coalesce(?, unit)"
                " ORDER BY id",
                (run, unit),
            ).fetchall()
        return {number: json.loads(data) for number, data in rows}


def _blob(values: Samples) -> bytes:
    return np.ascontiguousarray(values, dtype="<i8").tobytes()


def _trial_of(row: tuple[Any, ...]) -> Trial:
    number, run, workload, role, round_number, samples, clocks, warmups, started, *rest = row
    duration, before, after, taint, stage, kind, reason, unit, place = rest
    return Trial(
        id=number,
        run=run,
        workload=workload,
        role=Role(role),
        round=round_number,
        unit=unit,
        place=place,
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
