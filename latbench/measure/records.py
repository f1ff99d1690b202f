"""The records of a journal: runs, the notes on them, and trials."""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from latbench.errors import RunnerFailed
from latbench.measure.plan import Role, Workload
from latbench.statistics import median_of
from latbench.target import Target

Samples = NDArray[np.int64]


class RunState(enum.StrEnum):
    """The state of a run. A run whose process was killed stays `running` until it is continued.

    running: being measured. finished: no workload needs more visits. stopped: the budget ended first.
    failed: an error or Ctrl-C ended it.
    """

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Failure:
    """Why a trial has no samples, with the fields of `latbench.errors.RunnerFailed`."""

    stage: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return RunnerFailed(self.stage, self.kind, self.reason).message


@dataclass(frozen=True, eq=False)
class Trial:
    """One timed visit to one workload.

    Attributes:
        id: its row in the journal.
        run: the id of its run.
        workload, role, round: what was visited, as what, and in which round.
        unit, slot: the unit and the runner slot; the slot is None if an older journal lacks it.
        samples_ns: all samples in the order taken, nanoseconds; empty if it failed.
        clocks_khz: the core's clock at each sample, if the runner could read it.
        warmups: untimed inferences before the first sample.
        started: Unix time, seconds.
        duration_s: seconds from the request to the reply, loading excluded.
        before, after: ids of the last conditions read before it, and of the first read after it.
        taint: the evidence against it ('kind: detail', several joined by '; '), or None.
        failure: why it has no samples, or None.
    """

    id: int
    run: int
    workload: str
    role: Role
    round: int
    unit: str
    slot: int | None
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
        """Whether it has samples and is not tainted."""
        return self.failure is None and self.taint is None

    @cached_property
    def median_ms(self) -> float:
        """The median of its samples, milliseconds."""
        return median_of(self.samples_ns) / 1e6

    @property
    def timed_s(self) -> float:
        """The sum of its samples, seconds."""
        return float(self.samples_ns.sum()) / 1e9


class NetworkNote(BaseModel):
    """A whole network of a run: the key of its workload, its notation, and the width of its head."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    workload: str = Field(default="", alias="subject")  # early journals lack that of the sentinel
    layers: str
    head: StrictInt


class DelegationNote(BaseModel):
    """What the accelerator of a unit leaves to the CPU in part, by workload, of so many workloads."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    unit: str
    workloads: StrictInt = Field(alias="subjects")
    fell_back: dict[str, str]


class NumericsNote(BaseModel):
    """The errors of a unit's outputs against PyTorch's, by op, and the op with the largest error.

    In floats an error is the largest deviation over the largest value; in int8 a signal-to-noise ratio, dB.
    """

    model_config = ConfigDict(frozen=True)

    unit: str
    errors: dict[str, StrictFloat]
    worst: str


class RunNote(BaseModel):
    """What a run was for, as its journal holds it. A LUT can be built from a run with a space.

    Attributes:
        space: the search space of its ops, as `SearchSpace.to_dict` writes it; None if there is none.
        context: how its ops are timed.
        sentinel: the network that is its sentinel.
        calibration: the networks timed in its rounds.
        delegated: what accelerators leave to the CPU.
        verified: the numerics checks that preceded it.
    """

    # Other versions of latbench, and callers of `measure`, may note more.
    model_config = ConfigDict(frozen=True, extra="allow")

    space: dict[str, Any] | None = None
    context: Literal["alone", "sandwich"] = "alone"
    sentinel: NetworkNote | None = None
    calibration: tuple[NetworkNote, ...] = ()
    delegated: tuple[DelegationNote, ...] = ()
    verified: tuple[NumericsNote, ...] = ()

    def to_json(self) -> str:
        """The text that a journal holds: what was set, and nothing else."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_unset=True))


@dataclass(frozen=True)
class Run:
    """One run of one plan, on one unit or on several of one device.

    Attributes:
        id: its row in the journal.
        identity: that of its plan.
        target: what was measured on.
        workloads: all workloads by key, sentinel and reference included.
        settings: those of its plan, as JSON data.
        note: what the run was for.
        device: name, unit, description, and whether it is emulated; `units` holds the description of each
            unit and how often it dropped out.
        hello: how the first runner introduced itself, as JSON data; None until one was started.
        tool: the version of latbench that started it.
        created, updated: Unix times, seconds.
        state: see `RunState`.
        wall_s: seconds that all its sessions took.
    """

    id: int
    identity: str
    target: Target
    workloads: Mapping[str, Workload]
    settings: Mapping[str, Any]
    note: RunNote
    device: Mapping[str, Any]
    hello: Mapping[str, Any] | None
    tool: str
    created: float
    updated: float
    state: RunState
    wall_s: float

    @property
    def unit(self) -> str:
        """The name of its unit; the sorted names of several, joined by commas."""
        return ", ".join(self.units)

    @property
    def units(self) -> tuple[str, ...]:
        """The names of its units, sorted."""
        return tuple(sorted(self.device.get("units", (str(self.device["unit"]),))))

    @property
    def sentinel(self) -> Workload | None:
        """The sentinel of its plan, or None."""
        return self._one(Role.SENTINEL)

    @property
    def reference(self) -> Workload | None:
        """The reference of its plan, or None."""
        return self._one(Role.REFERENCE)

    def _one(self, role: Role) -> Workload | None:
        return next((one for one in self.workloads.values() if one.role is role), None)


def workload_of(key: str, role: str, sha256: str, path: str) -> Workload:
    """The workload in a row of a journal."""
    return Workload(key, Role(role), Path(path) if path else None, sha256)
