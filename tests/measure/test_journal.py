import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from measuring import QUICK, small_plan

from latbench.device.host.device import HostDevice
from latbench.errors import JournalRefused, OutputFailed
from latbench.measure import Journal, Plan, measure
from latbench.measure.journal_file import VERSION
from latbench.measure.records import DelegationNote, Failure, NetworkNote, RunNote, RunState, Trial

DEVICE = {"name": "host", "unit": "u1", "description": "a machine", "emulated": False}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small tmpfs; called again, change its options."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    there: list[Path] = []

    def mount(options: str) -> Path:
        remount = "remount," if there else ""
        command = ["mount", "-t", "tmpfs", "-o", remount + options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"mounting a tmpfs needs root: {done.stderr.strip()}")
        there.append(folder)
        return folder

    yield mount
    if there:
        subprocess.run(["umount", "-l", str(folder)], check=True)


#: Callers may note more than latbench does.
NOTE = RunNote.model_validate({"context": "sandwich", "why": ["a", 1]})


def filled(path: Path, plan: Plan, trials: int = 3) -> list[int]:
    """Write a run with some trials; returns the first sample of each."""
    with Journal(path) as journal:
        run = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
        for number in range(trials):
            journal.add_trial(
                run.id,
                plan.workloads[0],
                number,
                samples_ns=np.array([1000 + number, 5000]),
                started=1.0,
                duration_s=0.1,
                warmups=2,
            )
    return [1000 + number for number in range(trials)]


def first_samples(trials: list[Trial]) -> list[int]:
    return [int(trial.samples_ns[0]) for trial in trials]


def test_trials_are_read_back_as_they_were_written(journal: Journal, plan: Plan) -> None:
    run = journal.start_run(plan, device=DEVICE, note=NOTE, tool="9.9")
    before = journal.add_conditions(run.id, 12.5, '{"load_average": 0.5}')
    written = journal.add_trial(
        run.id,
        plan.workloads[1],
        4,
        samples_ns=np.array([3, 2**62, 1]),
        clocks_khz=np.array([1_200_000] * 3),
        started=12.75,
        duration_s=0.25,
        warmups=2,
        before=before,
        taint="trend: samples rose by 9%",
    )
    journal.add_trial(
        run.id,
        plan.workloads[0],
        4,
        samples_ns=np.empty(0, np.int64),
        started=13.0,
        duration_s=0.5,
        warmups=2,
        failure=Failure("load", "refused", "no model"),
    )
    after = journal.add_conditions(run.id, 14.0, '{"load_average": 1.5}')
    journal.close_trials([written.id], after)
    journal.taint([written.id], "sentinel: +9% from its median")

    timed, failed = journal.trials(run.id)
    assert timed.samples_ns.tolist() == [3, 2**62, 1]
    assert timed.clocks_khz is not None
    assert timed.clocks_khz.tolist() == [1_200_000] * 3
    assert (timed.workload, timed.round, timed.started, timed.duration_s) == ("m1", 4, 12.75, 0.25)
    assert (timed.before, timed.after) == (before, after)
    assert timed.taint == "trend: samples rose by 9%; sentinel: +9% from its median"
    assert failed.failure == Failure("load", "refused", "no model")
    assert failed.samples_ns.size == 0
    assert journal.conditions(run.id)[after] == {"load_average": 1.5}
    again = journal.run()
    assert again.target == plan.target
    assert again.note == NOTE
    assert again.workloads == {workload.key: workload for workload in plan.all_workloads}
    assert again.sentinel == plan.sentinel
    assert (again.state, again.tool, again.unit) == (RunState.RUNNING, "9.9", "u1")


def test_a_workload_cannot_be_visited_twice_in_a_round(journal: Journal, plan: Plan) -> None:
    run = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
    visit = {"samples_ns": np.array([1]), "started": 0.0, "duration_s": 0.0, "warmups": 0}
    journal.add_trial(run.id, plan.workloads[0], 0, **visit)
    with pytest.raises(JournalRefused):
        journal.add_trial(run.id, plan.workloads[0], 0, **visit)
    assert plan.sentinel is not None
    for _ in range(2):
        journal.add_trial(run.id, plan.sentinel, 0, **visit)
    assert len(journal.trials(run.id)) == 3


def test_the_last_run_is_the_one_measured_last(journal: Journal, plan: Plan) -> None:
    first = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
    second = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
    assert journal.run().id == second.id
    journal.update_run(first.id, state=RunState.FINISHED)
    assert journal.run().id == first.id
    found = journal.find_run(plan.identity, "u1")
    assert found is not None
    assert found.id == second.id
    assert journal.find_run(plan.identity, "another unit") is None


def test_a_run_is_found_by_any_of_its_units(journal: Journal, plan: Plan) -> None:
    units = {name: {"description": "", "dropped_out": 0} for name in ("u2", "u3")}
    run = journal.start_run(
        plan, device=DEVICE | {"unit": "u2, u3", "units": units}, note=RunNote(), tool="1"
    )
    for asked in (("u2",), ("u3", "u9"), ("u2", "u3")):
        found = journal.find_run(plan.identity, *asked)
        assert found is not None
        assert (found.id, found.units) == (run.id, ("u2", "u3"))
    assert journal.find_run(plan.identity, "u1", "u9") is None
    assert journal.find_run("0" * 64, "u2") is None


def test_threads_share_a_journal(journal: Journal, plan: Plan) -> None:
    run = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
    visit = {"samples_ns": np.array([1]), "started": 0.0, "duration_s": 0.0, "warmups": 0}

    def write(number: int) -> Trial:
        return journal.add_trial(run.id, plan.workloads[0], number, unit=f"u{number % 4}", **visit)

    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(write, range(200)))
    assert [trial.round for trial in written] == list(range(200))
    assert all(trial.unit == f"u{trial.round % 4}" for trial in written)
    assert len({trial.id for trial in written}) == len(journal.trials(run.id)) == 200


def of_version_2(path: Path, plan: Plan) -> None:
    """A journal from before trials named their unit: the rounds of a workload at two runners."""
    filled(path, plan)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE runs SET settings = json_set(settings, '$.runners', 2)")
        database.execute(
            "INSERT INTO trials (run, subject, role, round, samples, warmups, started, duration)"
            " SELECT run, 'network', 'sentinel', 1, samples, warmups, started, duration FROM trials"
            " LIMIT 1"
        )
        database.execute("INSERT INTO conditions (run, time, data) VALUES (1, 2.0, '{}')")
        for table, column in (("trials", "unit"), ("trials", "place"), ("conditions", "unit")):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize("readonly", [True, False])
def test_trials_of_a_journal_of_version_2_name_their_unit(
    tmp_path: Path, plan: Plan, readonly: bool
) -> None:
    path = tmp_path / "trials.sqlite"
    of_version_2(path, plan)
    before = path.read_bytes()
    with Journal(path, readonly=readonly) as journal:
        trials = journal.trials(1)
        assert [(trial.unit, trial.slot) for trial in trials] == [
            *(("u1", 0), ("u1", 1), ("u1", 0)),
            ("u1", 0),
        ]
        assert list(journal.conditions(1, "u1").values()) == [{}]
        assert journal.run().units == ("u1",)
    if readonly:
        assert path.read_bytes() == before


def test_a_journal_of_a_newer_version_is_refused_and_untouched(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "trials.sqlite"
    filled(path, plan)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    for readonly in (False, True):
        with pytest.raises(JournalRefused, match=f"version {VERSION + 1}") as refused:
            Journal(path, readonly=readonly)
        assert refused.value.hint is not None
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database\n" * 500, b"SQLite format 3\0" + b"\7" * 900])
def test_garbage_is_refused_and_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for readonly in (False, True):
        with pytest.raises(JournalRefused, match=r"notes\.txt"):
            Journal(path, readonly=readonly)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    with pytest.raises(JournalRefused, match="not a latbench journal"):
        Journal(path)


def test_a_damaged_journal_is_refused(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "trials.sqlite"
    filled(path, plan, trials=200)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(JournalRefused, match="damaged"), Journal(path) as journal:
        journal.trials(1)


def test_a_missing_journal_is_not_created_by_reading(tmp_path: Path) -> None:
    with pytest.raises(JournalRefused, match="there is no journal") as refused:
        Journal(tmp_path / "none.sqlite", readonly=True)
    assert "latbench profile" in str(refused.value.hint)
    assert not list(tmp_path.iterdir())


def test_one_process_writes_and_others_read(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "trials.sqlite"
    written = filled(path, plan)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib, latbench.measure as m\n"
            "journal = m.Journal(pathlib.Path(sys.argv[1])); print('open', flush=True)\n"
            "sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(JournalRefused, match=f"process {holder.pid} on "):
            Journal(path)
        with Journal(path, readonly=True) as reader:
            assert first_samples(reader.trials(1)) == written
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Journal(path) as journal:  # a dead owner's lock is no lock
        assert first_samples(journal.trials(1)) == written


def test_two_journals_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "trials.sqlite"
    with Journal(path), pytest.raises(JournalRefused, match=f"process {os.getpid()} "):
        Journal(path)
    Journal(path).close()


def test_read_only_folder(mounted: Callable[[str], Path], tmp_path: Path, plan: Plan) -> None:
    if os.geteuid() == 0:  # whom no permission stops
        folder = mounted("size=4m")
        written = filled(folder / "trials.sqlite", plan)
        mounted("ro")
    else:
        folder = tmp_path / "closed"
        folder.mkdir()
        written = filled(folder / "trials.sqlite", plan)
        folder.chmod(0o555)
    for name in ("trials.sqlite", "new.sqlite", "sub/new.sqlite"):
        with pytest.raises(OutputFailed) as refused:
            Journal(folder / name)
        assert name in refused.value.message
        assert refused.value.hint is not None
        assert "--journal" in refused.value.hint
    with Journal(folder / "trials.sqlite", readonly=True) as reader:
        assert first_samples(reader.trials(1)) == written


def test_a_disk_that_fills_up_loses_no_trial(
    mounted: Callable[[str], Path], tmp_path: Path, device: HostDevice
) -> None:
    folder = mounted("size=600k")
    plan = small_plan(tmp_path / "models", 12, QUICK)
    path = folder / "trials.sqlite"
    with Journal(path) as journal:
        with pytest.raises(OutputFailed, match="the disk is full") as failed:
            measure(plan, device, journal)
        kept = journal.trials(1)
    assert "free some space" in str(failed.value.hint)
    assert len(kept) > 10
    with Journal(path, readonly=True) as reader:
        assert [trial.id for trial in reader.trials(1)] == [trial.id for trial in kept]

    mounted("size=32m")
    with Journal(path) as journal:
        report = measure(plan, device, journal)
        trials = journal.trials(1)
    assert report.complete
    assert report.taken == len(trials) - len(kept)
    assert [trial.samples_ns.tolist() for trial in trials[: len(kept)]] == [
        trial.samples_ns.tolist() for trial in kept
    ]


@pytest.mark.parametrize(
    ("column", "path", "value", "field"),
    [
        ("about", "$.sentinel.head", "true", "sentinel.head"),
        ("about", "$.verified", '[{"unit": "u", "errors": {"op": true}, "worst": "op"}]', "errors"),
        ("settings", "$.runners", "true", "settings.runners must be a number, got true"),
        ("device", "$.units", '{"u1": {"description": "", "dropped_out": false}}', "dropped_out"),
    ],
)
def test_true_is_no_number_in_a_run(
    column: str, path: str, value: str, field: str, tmp_path: Path, plan: Plan
) -> None:
    journal = tmp_path / "trials.sqlite"
    note = RunNote(sentinel=NetworkNote(workload="network", layers="skip", head=64))
    with Journal(journal) as opened:
        opened.start_run(plan, device=DEVICE, note=note, tool="1")
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute(
            f"UPDATE runs SET {column} = json_set({column}, ?, json(?))", (path, value)
        )
    with (
        Journal(journal, readonly=True) as opened,
        pytest.raises(JournalRefused, match=r"run 1 in .* is damaged: .*" + re.escape(field)),
    ):
        opened.run()


def test_true_is_no_number_in_conditions(journal: Journal, plan: Plan) -> None:
    run = journal.start_run(plan, device=DEVICE, note=RunNote(), tool="1")
    journal.add_conditions(run.id, 1.0, '{"charging": true, "thermal_status": 0}')
    assert list(journal.conditions(run.id).values()) == [{"charging": True, "thermal_status": 0}]
    journal.add_conditions(run.id, 2.0, '{"thermal_status": true}')
    with pytest.raises(JournalRefused, match=r"conditions of run 1 .*: thermal_status"):
        journal.conditions(run.id)


def test_a_note_is_stored_under_the_names_of_earlier_versions(tmp_path: Path, plan: Plan) -> None:
    note = RunNote(
        space={"name": "fbnet"},
        context="sandwich",
        sentinel=NetworkNote(workload="network:64:skip", layers="skip", head=64),
        calibration=(),
        delegated=(DelegationNote(unit="u1", workloads=3, fell_back={"op": "1 node"}),),
    )
    stored = {
        "space": {"name": "fbnet"},
        "context": "sandwich",
        "sentinel": {"subject": "network:64:skip", "layers": "skip", "head": 64},
        "calibration": [],
        "delegated": [{"unit": "u1", "subjects": 3, "fell_back": {"op": "1 node"}}],
    }
    journal = tmp_path / "trials.sqlite"
    with Journal(journal) as opened:
        assert opened.start_run(plan, device=DEVICE, note=note, tool="1").note == note
    with contextlib.closing(sqlite3.connect(journal)) as database:
        assert json.loads(database.execute("SELECT about FROM runs").fetchone()[0]) == stored
