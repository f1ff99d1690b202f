"""What earlier runs found of a unit, so that a slow run can tell that it was slow.

A run cannot know that all of it was slow: its entries are relative to its own fastest quarter. So each run
leaves the latencies of its reference and its sentinel in `history.jsonl` in latbench's home, one line for
each of its units. The reference uses no runtime, so if it is slower than before, the machine is. Where a
unit has no reference, the sentinel takes its place, if model and runtime are the same as then.

The history is an aid: a line that cannot be read is skipped, and a history that cannot be written is not.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from latbench.errors import OutputFailed
from latbench.files import home, make_folder, write_atomically
from latbench.lut.faster_run import FasterRun
from latbench.measure import Result, UnitPart
from latbench.measure.records import Run
from latbench.record import Count, Number, PositiveNumber, Record
from latbench.statistics import MIN_ROUNDS

#: A run was faster if the workload takes at least this many times as long now. References of runs in which
#: nothing changed but the neighbours differ by some per cent (docs/drift.md).
SLOWER_BY = 1.08

#: So many runs are kept for each unit and target, and so many in all.
_KEPT_OF_EACH = 50
_KEPT = 1000

#: How often, and how far apart, a process tries to write while another one does, which takes milliseconds.
_ATTEMPTS = 20
_PAUSE_S = 0.05


class _Figure(Record):
    """The latency of one workload in one run, milliseconds; `sha256` is that of its model, if it has one."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["reference", "sentinel"]
    workload: str
    sha256: str
    ms: PositiveNumber
    ci95: tuple[PositiveNumber, PositiveNumber]
    rounds: Count


class _Line(Record):
    """What one run found of one unit; `started` is a Unix time, seconds."""

    model_config = ConfigDict(extra="ignore")

    unit: str
    target: str
    runtime_version: str
    started: Number
    figures: tuple[_Figure, ...]

    @property
    def of_each(self) -> tuple[str, str]:
        """Runs are compared only with those of the same unit and target."""
        return self.unit, self.target

    def figure(self, role: str) -> _Figure | None:
        """The figure of the workload with this role."""
        return next((one for one in self.figures if one.role == role), None)


def path() -> Path:
    """The file of the history."""
    return home() / "history.jsonl"


def remember(run: Run, results: Mapping[str, Result], parts: Mapping[str, UnitPart]) -> None:
    """Keep what `run` found; a run that is continued replaces what it left before.

    Args:
        results: the statistic of each workload that has one.
        parts: the part of each unit.
    """
    new = [line for line in _lines_of(run, results, parts) if line.figures]
    # ImportError: a system without fcntl.
    with contextlib.suppress(OSError, OutputFailed, ImportError), _locked():
        before = _read()
        if all(line in before for line in new):
            return
        replaced = {(*line.of_each, line.started) for line in new}
        kept = [line for line in before if (*line.of_each, line.started) not in replaced]
        lines = _bounded([*kept, *new])
        if lines == [*before, *new]:
            _append(new)
        else:
            write_atomically(path(), "".join(f"{line.model_dump_json()}\n" for line in lines))


def faster_run(
    run: Run, results: Mapping[str, Result], parts: Mapping[str, UnitPart]
) -> FasterRun | None:
    """The run in which one of the units of `run` was fastest, if it was faster beyond noise then.

    If that is so for several units, the one that is most behind.
    """
    history = _read()
    found = [
        one
        for line in _lines_of(run, results, parts)
        if (one := _faster_run(line, history)) is not None
    ]
    return max(found, key=lambda one: one.slowdown, default=None)


def _faster_run(line: _Line, history: Sequence[_Line]) -> FasterRun | None:
    now = line.figure("reference") or line.figure("sentinel")
    if now is None:
        return None
    others = [
        (then, other)
        for other in history
        if other.of_each == line.of_each
        and other.started != line.started
        and (then := other.figure(now.role)) is not None
        and (then.workload, then.sha256) == (now.workload, now.sha256)
        and (now.role == "reference" or other.runtime_version == line.runtime_version)
    ]
    if not others:
        return None
    best, when = min(others, key=lambda pair: pair[0].ms)
    if now.ms < SLOWER_BY * best.ms or now.ci95[0] <= best.ci95[1]:
        return None
    return FasterRun(
        unit=line.unit,
        workload=now.role,
        ms=now.ms,
        best_ms=best.ms,
        when=datetime.fromtimestamp(when.started, UTC).replace(microsecond=0),
    )


def _lines_of(
    run: Run, results: Mapping[str, Result], parts: Mapping[str, UnitPart]
) -> Iterator[_Line]:
    """What `run` found of each of its units.

    Results are normalised to the median unit, so a unit's own are those times its factor.
    """
    workloads = [one for one in (run.reference, run.sentinel) if one is not None]
    timed = [(one, results[one.key]) for one in workloads if one.key in results]
    for unit in run.units:
        factor = parts[unit].factor or 1.0 if unit in parts else 1.0
        figures = [
            {
                "role": one.role.value,
                "workload": one.key,
                "sha256": one.sha256,
                "ms": factor * result.ms,
                "ci95": tuple(factor * bound for bound in result.ci95),
                "rounds": result.rounds,
            }
            for one, result in timed
            if result.rounds >= MIN_ROUNDS and not result.distrusted
        ]
        yield _Line.model_validate(
            {
                "unit": unit,
                "target": str(run.target),
                "runtime_version": _runtime_version(run),
                "started": run.created,
                "figures": figures,
            }
        )


def _runtime_version(run: Run) -> str:
    engines: Sequence[Mapping[str, Any]] = (run.hello or {}).get("engines", ())
    versions = (str(one.get("version")) for one in engines if one["runtime"] == run.target.runtime)
    return next(versions, "")


# The file


def _read() -> list[_Line]:
    """The lines that can be read, the oldest first; none if there is no history."""
    try:
        text = path().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for one in text.splitlines():
        with contextlib.suppress(ValidationError):
            lines.append(_Line.model_validate_json(one))
    return lines


def _append(lines: Sequence[_Line]) -> None:
    """Append `lines` at once; one that was cut off before is ended first."""
    text = "".join(f"{line.model_dump_json()}\n" for line in lines).encode()
    with path().open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else b"\n" + text
        file.write(text)


def _bounded(lines: Sequence[_Line]) -> list[_Line]:
    """The newest of `lines`, in their order."""
    kept: list[_Line] = []
    counts: dict[tuple[str, str], int] = {}
    for line in reversed(lines):
        counts[line.of_each] = counts.get(line.of_each, 0) + 1
        if counts[line.of_each] <= _KEPT_OF_EACH:
            kept.append(line)
    return kept[_KEPT - 1 :: -1] if len(kept) > _KEPT else kept[::-1]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time write the history."""
    import fcntl

    make_folder(path().parent)
    with path().with_suffix(".lock").open("w") as lock:
        for attempt in reversed(range(_ATTEMPTS)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not attempt:
                    raise
                time.sleep(_PAUSE_S)
        yield
