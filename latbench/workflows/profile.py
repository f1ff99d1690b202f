"""Time every op of a search space on a target: `latbench profile`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.device.base import Device
from latbench.export import require_writer
from latbench.files import write_atomically
from latbench.lut.faster_run import FasterRun
from latbench.measure import Plan, Role, RunNote, RunReport, Settings
from latbench.measure.records import DelegationNote, NumericsNote
from latbench.space import SearchSpace
from latbench.space.design import calibration_architectures
from latbench.target import Target
from latbench.workflows import history
from latbench.workflows.delegation import Delegation, require_delegations
from latbench.workflows.numerics import Verification, Verified, require_verifiable
from latbench.workflows.numerics import verify as verify_ops
from latbench.workflows.runs import (
    Progress,
    Selection,
    journals,
    measured,
    planned,
    profile_pointer,
    silent,
    space_stem,
    target_stem,
)
from latbench.workflows.target import OpenedTarget, TargetRequest, open_target

#: Default number of whole networks that a run times for calibration.
CALIBRATE = 20


@dataclass(frozen=True)
class Profile:
    """The outcome of `profile`.

    Attributes:
        target, space: what was measured.
        journal: the file with all trials.
        report: the outcome of the run.
        verified: the numerics of each unit; empty unless requested.
        delegated: what each unit's accelerator runs; empty if the target is the CPU.
        faster_run: the run in which a unit was faster beyond noise, if there was one.
    """

    target: Target
    space: SearchSpace
    journal: Path
    report: RunReport
    verified: tuple[Verification, ...] = ()
    delegated: tuple[Delegation, ...] = ()
    faster_run: FasterRun | None = None


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
        space: the search space; the default one at its own input size, if None.
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
    networks = tuple(calibration_architectures(space, calibrate)) if calibrate else ()
    selection = Selection(space, space.unique_ops, networks, sandwiched=bool(networks))
    settings = Settings(ci=ci, budget_s=budget_s)
    with open_target(target) as opened:
        require_writer(opened.target.runtime, opened.target.precision)
        if verify:
            require_verifiable(opened.target)
        plan, note = planned(opened.units[0], opened.target, selection, settings, progress)
        delegated = require_delegations(
            opened.units,
            opened.target,
            plan.all_workloads,
            allow_partial=allow_partial,
            progress=progress,
        )
        verified = _verified(opened.units, plan, selection, progress) if verify else ()
        note = _completed(note, delegated, verified)
        path = journal or _default_journal(opened, space)
        _point_to(path)
        report = measured(plan, opened.units, path, progress, note, fresh=fresh)
    found = report.run, report.results, report.units
    history.remember(*found)
    return Profile(
        opened.target, space, path, report, verified, delegated, history.faster_run(*found)
    )


def _completed(
    note: RunNote, delegated: Sequence[Delegation], verified: Sequence[Verification]
) -> RunNote:
    """`note` with the results of the checks that were made."""
    checks: dict[str, Any] = {}
    if delegated:
        checks["delegated"] = tuple(
            DelegationNote(unit=one.unit, workloads=one.subjects, fell_back=dict(one.fell_back))
            for one in delegated
        )
    if verified:
        checks["verified"] = tuple(
            NumericsNote(unit=one.unit, errors=dict(one.errors), worst=one.worst)
            for one in verified
        )
    return note.model_copy(update=checks)


def _default_journal(opened: OpenedTarget, space: SearchSpace) -> Path:
    return journals() / f"{target_stem(opened.entry, opened.target)}-{space_stem(space)}.sqlite"


def _point_to(journal: Path) -> None:
    """Make `journal` the one that `build_lut` reads by default."""
    text = json.dumps({"journal": str(journal.absolute())})
    write_atomically(profile_pointer(), text + "\n")


def _verified(
    units: Sequence[Device], plan: Plan, selection: Selection, progress: Progress
) -> tuple[Verification, ...]:
    """Check the numerics of every op on every unit."""
    chains = {key: ops for key, _, ops in selection.chains}
    ops = [
        Verified(workload.key, chains[workload.key], workload.path)
        for workload in plan.workloads
        if workload.role is Role.OP and workload.path is not None
    ]

    def report(done: int, total: int) -> None:
        progress("verifying", done, total)

    return tuple(verify_ops(unit, plan.target, ops, report) for unit in units)
