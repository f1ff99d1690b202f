"""What is to be measured, and in which order.

Workloads are visited in rounds. Every round visits each workload that is not done once, in an order
of its own, shuffled by the plan's seed, so that whatever drifts while a run lasts spreads over all
workloads instead of settling on some. The sentinel, one whole network, is visited between them, and so
is the reference, a workload of the runner that no engine takes part in.
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

    op: for its own entry; frame: to be taken off the ops it stood beside; network: to calibrate or
    validate sums, or for its own sake; sentinel: to watch the run; reference: to tell a changed machine
    from a changed engine.
    """

    OP = "op"
    FRAME = "frame"
    SENTINEL = "sentinel"
    NETWORK = "network"
    REFERENCE = "reference"

    @property
    def watches(self) -> bool:
        """Whether it is visited again and again, for the sake of the others."""
        return self in (Role.SENTINEL, Role.REFERENCE)


def loads_cheaply(target: Target) -> bool:
    """Whether a model of `target` can be loaded anew for every visit.

    TorchScript's first runs compile, and so do Core ML's loads and bringing a model to an accelerator:
    what is loaded there stays loaded.
    """
    return descriptor(target.runtime).loads_cheaply and target.accelerator == "cpu"


_WHOLE = frozenset({Role.NETWORK, Role.SENTINEL, Role.REFERENCE})


@dataclass(frozen=True)
class Workload:
    """One artifact that a plan measures: its key in the journal, its role, its file, its hash.

    `input_shapes` are for files that do not say theirs. The reference has no file.
    """

    key: str
    role: Role
    path: Path | None
    sha256: str
    input_shapes: tuple[tuple[int, ...], ...] | None = None


def reference_workload(workload: str) -> Workload:
    """The workload that a runner's own `workload` is; see `latbench.device.base.Device.reference`."""
    return Workload(f"reference:{workload}", Role.REFERENCE, None, sha256_of(workload.encode()))


@dataclass(frozen=True)
class Settings:
    """How a plan measures.

    Args:
        ci: a workload is done once the 95 % interval of its median is this narrow: half its width
            relative to the median (0.01 is 1 %).
        min_rounds: and it has this many trusted rounds.
        max_rounds: it is visited at most this often.
        max_retakes: it is given no more rounds once this many of its trials are tainted and they
            outnumber the trusted ones (a machine that is never quiet must not measure for ever).
        budget_s: seconds one call of `measure` may take; None sets no limit.
        seconds: a visit takes samples for at least this long,
        min_samples, max_samples: and no fewer and no more samples than these.
        warmups: untimed inferences that open a visit.
        sentinel_every: visits between two visits to the sentinel.
        network_min_samples: samples a visit to a whole network takes at least; it is slow, and a
            level needs few.
        runners: runner processes that share the rounds, each in its turn. How fast a model is
            depends on where its memory happens to lie, and stays so while it is loaded.
        reload: so it is loaded anew for every visit, where that is cheap (`Plan.reloads`): then the
            rounds of a workload are rounds over placements, and its interval holds their spread.
        cool_down_s: seconds a call of `measure` may wait, all in all, for a sentinel that stays off
            its level; after them it goes on, and what it takes is tainted.
        seed: of the orders of the rounds.
        timeout_s: seconds after which a load or a visit counts as hung.

    Raises:
        BadRequest: a value makes no sense.
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
                f"a relative confidence interval of {self.ci:g} makes no sense",
                hint="give a share between 0 and 1; 0.01 is 1 %",
            )
        if self.min_rounds < MIN_ROUNDS:
            raise BadRequest(
                f"{self.min_rounds} rounds have no 95 % interval of the median; "
                f"{MIN_ROUNDS} is the least"
            )
        if self.max_rounds < self.min_rounds:
            raise BadRequest(
                f"max_rounds ({self.max_rounds}) is less than min_rounds ({self.min_rounds})"
            )
        if self.budget_s is not None and self.budget_s <= 0:
            raise BadRequest(f"a budget of {self.budget_s:g} s makes no sense")
        if not 1 <= self.min_samples <= self.max_samples or self.network_min_samples < 1:
            raise BadRequest(
                f"{self.min_samples} to {self.max_samples} samples a visit make no sense"
            )
        if not 1 <= self.runners <= 16:
            raise BadRequest(f"{self.runners} runners make no sense", hint="3 is a good number")
        if self.sentinel_every < 1 or self.max_retakes < 1 or self.warmups < 0:
            raise BadRequest("sentinel_every, max_retakes and warmups must be positive")
        if self.seconds < 0 or self.cool_down_s < 0 or self.timeout_s <= 0:
            raise BadRequest("seconds, cool_down_s and timeout_s must be positive")

    def warmups_of(self, role: Role) -> int:
        """Untimed inferences that open a visit; a whole network is warm after one."""
        return min(1, self.warmups) if role in _WHOLE else self.warmups

    def min_samples_of(self, role: Role) -> int:
        """Samples a visit takes at least."""
        return self.network_min_samples if role in _WHOLE else self.min_samples

    @property
    def determining(self) -> dict[str, Any]:
        """The settings that a measurement depends on: neither budget, waiting nor timeout."""
        settings = asdict(self)
        del settings["budget_s"], settings["cool_down_s"], settings["timeout_s"]
        return settings


@dataclass(frozen=True)
class Plan:
    """A target, the workloads to measure on it, and how; `sentinel` and `reference` are two more.

    Raises:
        BadRequest: there is nothing to measure, two workloads share a key, or a role is wrong.
    """

    target: Target
    workloads: tuple[Workload, ...]
    sentinel: Workload | None = None
    settings: Settings = field(default_factory=Settings)
    reference: Workload | None = None

    def __post_init__(self) -> None:
        if not self.workloads:
            raise BadRequest("there is nothing to measure")
        keys = [workload.key for workload in self.all_workloads]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise BadRequest(f"two workloads share the key {twice[0]!r}")
        for role, watching in ((Role.SENTINEL, self.sentinel), (Role.REFERENCE, self.reference)):
            if any(workload.role is role for workload in self.workloads) or (
                watching is not None and watching.role is not role
            ):
                raise BadRequest(f"the {role}, and no other workload, has the role of a {role}")
        if any(
            workload.path is None for workload in self.all_workloads if workload != self.reference
        ):
            raise BadRequest("only the reference has no file")

    @property
    def all_workloads(self) -> tuple[Workload, ...]:
        """The workloads, and the sentinel and the reference last if there are any."""
        watching = (self.sentinel, self.reference)
        return (*self.workloads, *(workload for workload in watching if workload is not None))

    @property
    def reloads(self) -> bool:
        """Whether models are loaded anew for every visit."""
        return self.settings.reload and loads_cheaply(self.target)

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of everything that determines what is measured, as 64 hexadecimal digits.

        Neither the order of the workloads, nor where their files lie, nor the budget is part of it.
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
        """The workloads in the order of round `round_number`: the same whenever it is asked for."""
        ordered = sorted(self.workloads, key=lambda workload: workload.key)
        random.Random(f"{self.settings.seed}:{round_number}").shuffle(ordered)
        return tuple(ordered)
