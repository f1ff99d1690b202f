"""Time every op of a search space on a device; `latbench profile` is `profile`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from latbench.device.base import Device
from latbench.device.registry import ANY_UNIT, UnitSelector
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
from latbench.target import Precision, Runtime, Target
from latbench.workflows.delegation import CPU, Delegation, require_delegations
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
from latbench.workflows.target import opened_target

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
    device: str = "host",
    space: SearchSpace | None = None,
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    where: UnitSelector | Sequence[UnitSelector] = ANY_UNIT,
    calibrate: int = CALIBRATE,
    ci: float = 0.01,
    budget_s: float = 600.0,
    journal: Path | None = None,
    fresh: bool = False,
    verify: bool = False,
    accelerator: str | None = None,
    allow_partial: bool = False,
    progress: Progress = silent,
) -> Profile:
    """Time every op of `space` on a device, and journal every trial.

    A run that was cut short is continued, and one that is complete costs nothing.

    Args:
        device: a name of the catalogue.
        space: by default FBNet's at 224.
        runtime, precision, threads, cores: by default the device's own.
        where: which unit of the device, and how to reach it. Several share the work.
        calibrate: whole networks to time in the same rounds, from which the LUT learns how ops add
            up; ops then stand between frames (`latbench.space.sandwich`). With 0 they are timed
            alone, and the sentinel's latency gives the one scale that sums are corrected by.
        ci: relative half width of the 95 % interval at which an op is done.
        budget_s: seconds after which the run stops, whatever is left.
        journal: where the trials go; by default a file of this target in latbench's home.
        fresh: measure anew even if the journal has a run of the same plan.
        verify: first make sure that every op computes on each unit what PyTorch computes.
        accelerator: what to run on, as the runner calls it (docs/runner-protocol.md).
        allow_partial: measure ops too that the accelerator leaves to the CPU in part.

    Raises:
        UnknownName: there is no such device.
        DeviceUnavailable: no unit of it can be measured on.
        ExportFailed, RunnerFailed, JournalRefused, OutputFailed: see there.
    """
    space = space or SearchSpace.named()
    networks = calibration_architectures(space, calibrate) if calibrate else []
    several = (where,) if isinstance(where, UnitSelector) else tuple(where)
    asked = (runtime, precision, threads, cores, several, accelerator or CPU)
    with opened_target(device, *asked) as (
        entry,
        units,
        target,
    ):
        require_writer(target.runtime, target.precision)
        if verify:
            require_verifiable(target)
        plan, about = planned(
            units[0],
            target,
            space,
            space.unique_ops,
            networks,
            Settings(ci=ci, budget_s=budget_s),
            progress,
            sandwiched=bool(networks),
        )
        delegated = require_delegations(
            units, target, plan.all_workloads, allow_partial=allow_partial, progress=progress
        )
        if delegated:
            about |= {"delegated": [asdict(one) for one in delegated]}
        verified: tuple[Verification, ...] = ()
        if verify:
            verified = tuple(
                _verified(unit, plan, space, bool(networks), progress) for unit in units
            )
            about |= {"verified": [asdict(one) for one in verified]}
        path = journal or journals() / f"{target_stem(entry, target)}-{space_stem(space)}.sqlite"
        with Journal(path) as opened:
            note = json.dumps({"journal": str(path.absolute())})
            write_atomically(profile_pointer(), note + "\n")
            report = measured_together(plan, units, opened, progress, about, fresh=fresh)
    return Profile(target, space, path, report, verified, delegated)


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
