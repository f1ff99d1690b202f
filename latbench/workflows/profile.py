"""Time every op of a search space on a device; `latbench profile` is `profile`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latbench.device.base import Device
from latbench.export import require_writer
from latbench.files import write_atomically
from latbench.measure import (
    Journal,
    Plan,
    Role,
    RunReport,
    Settings,
)
from latbench.space import SearchSpace
from latbench.space.design import calibration_architectures
from latbench.target import Target
from latbench.workflows.delegation import Delegation, require_delegations
from latbench.workflows.numerics import Verification, Verified, require_verifiable
from latbench.workflows.numerics import verify as verify_ops
from latbench.workflows.runs import (
    Progress,
    chains_of,
    journals,
    measured_together,
    planned,
    profile_pointer,
    silent,
    space_stem,
    target_stem,
)
from latbench.workflows.target import OpenedTarget, TargetRequest, open_target

#: Whole networks that a run times to learn how its ops add up.
CALIBRATE = 12


@dataclass(frozen=True)
class Profile:
    """What `profile` did: the report of the run, and the journal that holds its trials.

    `verified` says of each unit how far it was from PyTorch; it is empty if that was not asked for.
    `delegated` says of each unit what its accelerator takes; it is empty if the target is the CPU.
    """

    target: Target
    space: SearchSpace
    journal: Path
    report: RunReport
    verified: tuple[Verification, ...] = ()
    delegated: tuple[Delegation, ...] = ()


def profile(
    target: TargetRequest | str = "host",
    space: SearchSpace | None = None,
    *,
    calibrate: int = CALIBRATE,
    ci: float = 0.01,
    budget_s: float = 600.0,
    journal: Path | None = None,
    fresh: bool = False,
    verify: bool = False,
    allow_partial: bool = False,
    progress: Progress = silent,
) -> Profile:
    """Time every op of `space` on a target, and journal every trial.

    An interrupted run continues where it stopped; a complete run is not repeated.

    Args:
        target: a request, or the name of a device.
        space: the search space; FBNet's at 224 x 224 pixels by default.
        calibrate: number of whole networks to time in the same rounds. The LUT learns from them how
            entries add up; ops are then timed in a sandwich (`latbench.space.sandwich`). With 0, ops are
            timed alone and the sentinel alone scales the sums.
        ci: target half-width of the 95 % interval of an op, relative.
        budget_s: time limit, seconds.
        journal: the journal file; by default one per target and space, in latbench's home.
        fresh: start a new run even if the journal holds one of the same plan.
        verify: first check the numerics of every op on every unit.
        allow_partial: also time ops that the accelerator leaves to the CPU in part.

    Raises:
        UnknownName: the catalogue has no such device.
        DeviceUnavailable: a unit cannot be measured on.
        BadRequest: the device does not support the target, or a setting is out of range.
        LatbenchError: ops run partly on the CPU, or fail the numerics check.
        ExportFailed, RunnerFailed, JournalRefused, OutputFailed: see `latbench.errors`.
    """
    space = space or SearchSpace.named()
    networks = calibration_architectures(space, calibrate) if calibrate else []
    settings = Settings(ci=ci, budget_s=budget_s)
    with open_target(target) as opened:
        require_writer(opened.target.runtime, opened.target.precision)
        if verify:
            require_verifiable(opened.target)
        plan, about = planned(
            opened.units[0],
            opened.target,
            space,
            space.unique_ops,
            networks,
            settings,
            progress,
            sandwiched=bool(networks),
        )
        delegated = require_delegations(
            opened.units,
            opened.target,
            plan.all_workloads,
            allow_partial=allow_partial,
            progress=progress,
        )
        if delegated:
            about |= {"delegated": [asdict(one) for one in delegated]}
        verified: tuple[Verification, ...] = ()
        if verify:
            verified = tuple(
                _verified(unit, plan, space, bool(networks), progress) for unit in opened.units
            )
            about |= {"verified": [asdict(one) for one in verified]}
        path = journal or _default_journal(opened, space)
        report = _run(opened, plan, path, about, fresh, progress)
    return Profile(opened.target, space, path, report, verified, delegated)


def _default_journal(opened: OpenedTarget, space: SearchSpace) -> Path:
    return journals() / f"{target_stem(opened.entry, opened.target)}-{space_stem(space)}.sqlite"


def _run(
    opened: OpenedTarget,
    plan: Plan,
    path: Path,
    about: dict[str, Any],
    fresh: bool,
    progress: Progress,
) -> RunReport:
    """Measure `plan` into the journal at `path`, which `build_lut` reads by default."""
    with Journal(path) as journal:
        note = json.dumps({"journal": str(path.absolute())})
        write_atomically(profile_pointer(), note + "\n")
        return measured_together(plan, opened.units, journal, progress, about, fresh=fresh)


def _verified(
    unit: Device, plan: Plan, space: SearchSpace, sandwiched: bool, progress: Progress
) -> Verification:
    """Make sure that a unit computes what PyTorch computes, at every op of `space`."""
    chains = {key: ops for key, _, ops in chains_of(space.unique_ops, (), sandwiched)}
    ops = [
        Verified(workload.key, chains[workload.key], workload.path)
        for workload in plan.workloads
        if workload.role is Role.OP and workload.path is not None
    ]
    return verify_ops(
        unit, plan.target, ops, lambda done, total: progress("verifying", done, total)
    )
