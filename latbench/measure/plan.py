"""What a run measures, and in which order.

Workloads are visited in rounds. Every round visits each unfinished workload once in its own random order,
seeded by the plan, so that a drift of the machine affects all workloads alike. The sentinel, a whole
network, is visited throughout the run, and so is the reference, a workload that uses no runtime.
"""

import json
import random
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest
from latbench.files import sha256_of
from latbench.runtime.registry import descriptor
from latbench.statistics import MIN_ROUNDS
from latbench.target import Target


class Role(StrEnum):
    """Why a workload is measured.

    op: for its entry. frame: to be subtracted from the ops in its sandwich. network: for calibration,
    validation, or its own latency. sentinel: to detect drift during the run. reference: to tell a changed
    machine from a changed runtime.
    """

    OP = "op"
    FRAME = "frame"
    SENTINEL = "sentinel"
    NETWORK = "network"
    REFERENCE = "reference"

    @property
    def watches(self) -> bool:
        """Whether it is visited throughout the run, more than once a round."""
        return self in (Role.SENTINEL, Role.REFERENCE)


def loads_cheaply(target: Target) -> bool:
    """Whether loading a model of `target` is cheap enough to repeat it for every visit.

    TorchScript compiles in its first runs; Core ML and accelerators compile when they load.
    """
    return descriptor(target.runtime).loads_cheaply and target.accelerator == "cpu"


_WHOLE = frozenset({Role.NETWORK, Role.SENTINEL, Role.REFERENCE})


@dataclass(frozen=True)
class Workload:
    """What a plan times: its key in the journal, its role, its file and that file's hash.

    `input_shapes` are given for files that do not state theirs. The reference has no file.
    """

    key: str
    role: Role
    path: Path | None
    sha256: str
    input_shapes: tuple[tuple[int, ...], ...] | None = None


def reference_workload(workload: str) -> Workload:
    """The reference: a runner's own `workload` (`latbench.device.base.Device.reference`)."""
    return Workload(f"reference:{workload}", Role.REFERENCE, None, sha256_of(workload.encode()))


@dataclass(frozen=True)
class Settings:
    """How a plan measures.

    Attributes:
        ci: target half-width of the 95 % interval of a workload's median, relative (0.01 is 1 %).
        min_rounds: trusted rounds that a workload needs at least.
        max_rounds: the most visits to a workload.
        max_retakes: a workload gets no more visits once this many of its trials are tainted and they
            outnumber the trusted ones (on a machine that is never quiet the run must end).
        budget_s: time limit of one call of `measure`, seconds; None for no limit.
        seconds: a visit takes samples for at least this long.
        min_samples, max_samples: limits of the number of samples of a visit.
        warmups: untimed inferences at the start of a visit.
        sentinel_every: visits between two visits to the sentinel.
        network_min_samples: minimum number of samples of a visit to a whole network, which is slow.
        runners: runner processes that take turns. The speed of a model depends on its placement in memory,
            which is fixed while it is loaded.
        reload: load a model again for every visit if it is cheap (`Plan.reloads`). The rounds of a
            workload are then rounds over placements, and its interval includes their spread.
        cool_down_s: the longest wait of one call of `measure` for a deviating sentinel, seconds; after
            that, trials are tainted.
        seed: of the orders of the rounds.
        timeout_s: time limit of a load or a visit, seconds.

    Raises:
        BadRequest: a value is out of range.
    """

    ci: float = 0.01
    min_rounds: int = MIN_ROUNDS
    max_rounds: int = 40
    max_retakes: int = 6
    budget_s: float | None = None
    seconds: float = 0.010
    min_samples: int = 8
    max_samples: int = 200
    warmups: int = 2
    sentinel_every: int = 24
    network_min_samples: int = 5
    runners: int = 3
    reload: bool = True
    cool_down_s: float = 30.0
    seed: int = 0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.ci < 1:
            raise BadRequest(
                f"ci must be between 0 and 1, got {self.ci:g}", hint="0.01 is 1 % of the median"
            )
        if self.min_rounds < MIN_ROUNDS:
            raise BadRequest(
                f"min_rounds must be at least {MIN_ROUNDS}, which a 95 % interval of the median needs, "
                f"got {self.min_rounds}"
            )
        if self.max_rounds < self.min_rounds:
            raise BadRequest(
                f"max_rounds must be at least min_rounds ({self.min_rounds}), got {self.max_rounds}"
            )
        if self.budget_s is not None and self.budget_s <= 0:
            raise BadRequest(f"budget_s must be more than 0 seconds, got {self.budget_s:g}")
        if not 1 <= self.min_samples <= self.max_samples:
            raise BadRequest(
                f"min_samples must be between 1 and max_samples ({self.max_samples}), "
                f"got {self.min_samples}"
            )
        if not 1 <= self.runners <= 16:
            raise BadRequest(
                f"runners must be between 1 and 16, got {self.runners}", hint="3 is usual"
            )
        for name in ("network_min_samples", "sentinel_every", "max_retakes"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmups", "seconds", "cool_down_s"):
            if getattr(self, name) < 0:
                raise BadRequest(f"{name} must be at least 0, got {getattr(self, name):g}")
        if self.timeout_s <= 0:
            raise BadRequest(f"timeout_s must be more than 0 seconds, got {self.timeout_s:g}")

    def warmups_of(self, role: Role) -> int:
        """Untimed inferences at the start of a visit; a whole network needs one."""
        return min(1, self.warmups) if role in _WHOLE else self.warmups

    def min_samples_of(self, role: Role) -> int:
        """The minimum number of samples of a visit."""
        return self.network_min_samples if role in _WHOLE else self.min_samples

    @property
    def determining(self) -> dict[str, Any]:
        """The settings that results depend on: all but time limits and waiting times."""
        settings = asdict(self)
        del settings["budget_s"], settings["cool_down_s"], settings["timeout_s"]
        return settings


@dataclass(frozen=True)
class Plan:
    """A target, the workloads to measure on it, the sentinel and reference of the run, and settings.

    Raises:
        BadRequest: there are no workloads, two share a key, or a role is wrong.
    """

    target: Target
    workloads: tuple[Workload, ...]
    sentinel: Workload | None = None
    settings: Settings = field(default_factory=Settings)
    reference: Workload | None = None

    def __post_init__(self) -> None:
        if not self.workloads:
            raise BadRequest("a plan must have at least 1 workload, got 0")
        keys = [workload.key for workload in self.all_workloads]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise BadRequest(f"keys of workloads must differ, but two are {twice[0]!r}")
        for role, watching in ((Role.SENTINEL, self.sentinel), (Role.REFERENCE, self.reference)):
            if any(workload.role is role for workload in self.workloads) or (
                watching is not None and watching.role is not role
            ):
                raise BadRequest(
                    f"the {role} of a plan, and no other workload, must have the role of a {role}"
                )
        if any(
            workload.path is None for workload in self.all_workloads if workload != self.reference
        ):
            raise BadRequest("every workload but the reference must have a file")

    @property
    def all_workloads(self) -> tuple[Workload, ...]:
        """The workloads, followed by the sentinel and the reference if there are any."""
        watching = (self.sentinel, self.reference)
        return (*self.workloads, *(workload for workload in watching if workload is not None))

    @property
    def reloads(self) -> bool:
        """Whether models are loaded again for every visit."""
        return self.settings.reload and loads_cheaply(self.target)

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of everything that results depend on, 64 hexadecimal digits.

        The order of the workloads, the paths of their files, and time limits are not part of it.
        """
        content = {
            "target": self.target.model_dump(mode="json"),
            "subjects": sorted(
                (
                    workload.role.value,
                    workload.key,
                    workload.sha256,
                    list(workload.input_shapes or ()),
                )
                for workload in self.all_workloads
            ),
            "settings": self.settings.determining,
        }
        return sha256_of(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())

    def order(self, round_number: int) -> tuple[Workload, ...]:
        """The workloads in the order of a round, which depends on the seed and the number only."""
        ordered = sorted(self.workloads, key=lambda workload: workload.key)
        random.Random(f"{self.settings.seed}:{round_number}").shuffle(ordered)
        return tuple(ordered)
