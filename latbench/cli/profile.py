"""latbench profile: time every op of a search space on a device."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.group import interruptible
from latbench.cli.options import (
    budget_option,
    interval_option,
    json_option,
    output_path,
    read_space,
    space_options,
)
from latbench.cli.output import emit_facts, emit_json, tell_fallbacks
from latbench.cli.progress import reporter
from latbench.cli.target import target_request_options

if TYPE_CHECKING:
    from latbench.measure.report import UnitPart
    from latbench.target import Target
    from latbench.workflows.numerics import Verification
    from latbench.workflows.profile import Profile
    from latbench.workflows.target import TargetRequest


@click.command(name="profile")
@target_request_options(several_units=True)
@space_options
@click.option(
    "--calibrate",
    type=click.IntRange(0, 200),
    default=12,
    show_default=True,
    metavar="N",
    help="Whole networks to learn from how ops add up; 0 times ops alone.",
)
@interval_option("an op")
@budget_option("10m")
@click.option(
    "--journal",
    type=output_path,
    metavar="PATH",
    help="Where trials are kept.  [default: one file a target, in latbench's home]",
)
@click.option("--fresh", is_flag=True, help="Measure anew what was measured already.")
@click.option("--verify", is_flag=True, help="First compare what ops compute there with PyTorch.")
@json_option
def command(
    target: "TargetRequest",
    calibrate: int,
    ci: float,
    budget: float,
    journal: Path | None,
    fresh: bool,
    verify: bool,
    allow_partial: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Time every op of a search space on a device.

    Every trial is journalled before it is used: a run that is cut short continues with the same
    command, and a run that is complete costs nothing. Several units of one device share the work: each
    visit goes to the next one that is free.
    """
    from latbench.workflows import profile as flow

    space = read_space(**chosen)
    kept = "every trial so far is kept; the same command goes on from there"
    with interruptible(kept), reporter() as progress:
        profile = flow.profile(
            target,
            space,
            calibrate=calibrate,
            ci=ci,
            budget_s=budget,
            journal=journal,
            fresh=fresh,
            verify=verify,
            allow_partial=allow_partial,
            progress=progress,
        )
    if as_json:
        emit_json(_facts_for_machines(profile))
    else:
        _print(profile)


def _facts_for_machines(profile: "Profile") -> dict[str, Any]:
    report = profile.report
    return {
        "target": profile.target.model_dump(mode="json"),
        "space": profile.space.to_dict(),
        "journal": str(profile.journal),
        "complete": report.complete,
        "subjects": len(report.statuses),
        "unconverged": list(report.unconverged),
        "given_up": list(report.given_up),
        "trials": report.trials,
        "taken": report.taken,
        "tainted": report.tainted,
        "tainted_by": dict(report.taints),
        "distrusted": list(report.distrusted),
        "failed": report.failed,
        "drift": report.drift,
        "units": {unit: asdict(part) for unit, part in report.units.items()},
        "delegated": [asdict(one) for one in profile.delegated],
        "verified": [asdict(one) for one in profile.verified],
        "wall_seconds": report.session_wall_s,
        "timed_seconds": report.session_timed_s,
    }


def _print(profile: "Profile") -> None:
    report = profile.report
    converged = len(report.statuses) - len(report.unconverged)
    facts = [
        ("target", profile.target),
        ("space", profile.space),
        *(("verified", _verified(one, profile.target)) for one in profile.verified),
        ("workloads", f"{converged} of {len(report.statuses)} within their interval"),
        ("trials", f"{report.trials}, {report.tainted} tainted, {report.failed} failed"),
    ]
    if report.taken:
        share = report.session_wall_s / max(report.session_timed_s, 1e-9)
        facts.append(
            ("time", f"{report.session_wall_s:.1f} s, {share:.2f} times the timed inference itself")
        )
    else:
        facts.append(("time", "nothing was left to measure; --fresh measures anew"))
    if report.taints:
        reasons = ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
        facts.append(("tainted by", reasons))
    if report.drift is not None:
        facts.append(("drift", f"{report.drift:.1%} between the sentinel's levels"))
    if len(report.units) > 1:
        facts += [(f"unit {unit}", _told(part)) for unit, part in report.units.items()]
    facts.append(("journal", profile.journal))
    emit_facts(facts)
    tell_fallbacks(profile.delegated)
    for key in report.given_up:
        click.echo(f"given up: {key}: {report.failures[key]}")
    if report.distrusted:
        click.echo(
            f"distrusted: {len(report.distrusted)} workloads have tainted trials only; "
            "their entries say so.\nWhen the device is quiet: latbench profile --fresh"
        )
    if report.complete:
        click.echo("next: latbench build-lut")
    else:
        click.echo(
            f"not complete: {len(report.unconverged)} workloads are wider than asked for; "
            f"the same command goes on: {_same_command()}"
        )


def _verified(one: "Verification", target: "Target") -> str:
    """How far a unit was from PyTorch, on one line."""
    from latbench.target import Precision

    worst = one.errors[one.worst]
    far = f"{worst:.1f} dB" if target.precision is Precision.INT8 else f"{worst:.1e}"
    return (
        f"{len(one.errors)} ops compute on {one.unit} what PyTorch does; worst {far} ({one.worst})"
    )


def _told(part: "UnitPart") -> str:
    """What one of several units did, on one line."""
    said = f"{part.trials} trials, {part.tainted} tainted, {part.failed} failed"
    if part.factor is not None:
        said += f", {part.factor:.3f} times as slow as their middle"
    if part.dropped_out:
        said += f", dropped out {part.dropped_out} times"
    return said


def _same_command() -> str:
    import sys

    return shlex.join(["latbench", *sys.argv[1:]])
