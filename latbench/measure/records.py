"""What a journal holds, as data: runs and trials."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.measure.plan import Role, Workload
from latbench.target import Target

Samples = NDArray[np.int64]


class RunState(enum.StrEnum):
    """How far a run is. A run whose process was killed stays `running` until it is continued.

    running: being measured; finished: every workload is done, or was given up; stopped: the budget
    ended first; failed: an error or Ctrl-C ended it.
    """

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Failure:
    """Why a trial has no samples; the fields are those of `latbench.errors.RunnerFailed`."""

    stage: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.stage}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Trial:
    """One timed visit to one workload, as the journal holds it.

    Args:
        id: its row in the journal.
        run: the run it belongs to.
        workload, role, round: what was visited why, and in which round.
        unit, place: the physical device it ran on, and at which of its runners; None where an older
            journal does not tell.
        samples_ns: every sample in the order taken, nanoseconds; empty if it failed.
        clocks_khz: the core's clock at each sample, where the runner could read it.
        warmups: untimed inferences before the first sample.
        started: Unix time.
        duration_s: seconds from asking the runner to its answer, loading excluded.
        before, after: ids of the conditions read last before and first after it.
        taint: why it is distrusted ('kind: detail', several joined by '; '), or None.
        failure: why it has no samples, or None.
    """

    id: int
    run: int
    workload: str
    role: Role
    round: int
    unit: str
    place: int | None
    samples_ns: Samples
    clocks_khz: Samples | None
    warmups: int
    started: float
    duration_s: float
    before: int | None = None
    after: int | None = None
    taint: str | None = None
    failure: Failure | None = None

    @property
    def trusted(self) -> bool:
        """Whether it has samples that nothing speaks against."""
        return self.failure is None and self.taint is None

    @cached_property
    def median_ms(self) -> float:
        """The median of its samples, milliseconds."""
        return float(np.median(self.samples_ns)) / 1e6

    @property
    def timed_s(self) -> float:
        """Seconds that its samples add up to."""
        return float(self.samples_ns.sum()) / 1e9


@dataclass(frozen=True)
class Run:
    """One run of one plan, on one unit or on several of one device.

    Args:
        id: its row in the journal.
        identity: that of its plan.
        target: what was measured on.
        workloads: every workload by key, the sentinel included.
        settings: those of its plan, as JSON data.
        about: what the caller had to say of it, as JSON data.
        device: name, unit, description, and whether it is emulated; `units` says of each unit its
            description and how often it dropped out.
        hello: what the runner said of itself, as JSON data; None until one was started.
        tool: the version of latbench that started it.
        created, updated: Unix times.
        state: how far it is.
        wall_s: seconds that measuring it took so far, in all its sessions.
    """

    id: int
    identity: str
    target: Target
    workloads: Mapping[str, Workload]
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    device: Mapping[str, Any]
    hello: Mapping[str, Any] | None
    tool: str
    created: float
    updated: float
    state: RunState
    wall_s: float

    @property
    def unit(self) -> str:
        """The physical device it was measured on; of several, all names, sorted."""
        return ", ".join(self.units)

    @property
    def units(self) -> tuple[str, ...]:
        """The physical devices that take part in it, sorted."""
        return tuple(sorted(self.device.get("units", (str(self.device["unit"]),))))

    @property
    def sentinel(self) -> Workload | None:
        """The sentinel of its plan."""
        return self._one(Role.SENTINEL)

    @property
    def reference(self) -> Workload | None:
        """The reference of its plan."""
        return self._one(Role.REFERENCE)

    def _one(self, role: Role) -> Workload | None:
        return next((one for one in self.workloads.values() if one.role is role), None)


def workload_of(key: str, role: str, sha256: str, path: str) -> Workload:
    """A workload from a journal's row."""
    return Workload(key, Role(role), Path(path) if path else None, sha256)
