"""latbench profile: time every op of a search space on a target."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.again import RepeatableCommand, command_again
from latbench.cli.group import interruptible
from latbench.cli.options import (
    budget_option,
    interval_option,
    json_option,
    output_path,
    read_space,
    space_options,
)
from latbench.cli.output import (
    arithmetic_facts,
    count_of,
    emit_facts,
    emit_json,
    faster_run_for_machines,
    percent,
    tell_fallbacks,
)
from latbench.cli.progress import reporter
from latbench.cli.target import target_request_options

if TYPE_CHECKING:
    from latbench.measure.report import RunReport, UnitPart
    from latbench.target import Target
    from latbench.workflows.numerics import Verification
    from latbench.workflows.profile import Profile
    from latbench.workflows.target import TargetRequest


#: A run is continued without it.
_FRESH = ("--fresh",)


@click.command(name="profile", cls=RepeatableCommand)
@target_request_options(several_units=True)
@space_options
@click.option(
    "--calibrate",
    type=click.IntRange(0, 200),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of whole networks to time for calibration; with 0, ops are timed alone.",
)
@interval_option("an op")
@budget_option("10m")
@click.option(
    "--journal",
    type=output_path,
    metavar="PATH",
    help="File for all trials.  [default: one per target and space, in latbench's home]",
)
@click.option("--fresh", is_flag=True, help="Start a new run instead of continuing the last one.")
@click.option(
    "--verify",
    is_flag=True,
    help="First check the numerics of every op on the device against PyTorch.",
)
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

    Every trial is kept in a journal: the same command continues an interrupted run, and does nothing if the
    run is complete. Several units of one device share the work.
    """
    from latbench.workflows import profile as flow

    space = read_space(**chosen)
    kept = f"all trials so far are kept; to continue: {command_again(without=_FRESH)}"
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
        _print(profile, journal)


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
        "faster_run": faster_run_for_machines(profile.faster_run),
        "wall_seconds": report.session_wall_s,
        "timed_seconds": report.session_timed_s,
    }


def _print(profile: "Profile", journal: Path | None) -> None:
    report = profile.report
    emit_facts(_facts(profile))
    tell_fallbacks(profile.delegated)
    for key in report.given_up:
        click.echo(f"given up: {key}: {report.failures[key]}")
    if report.distrusted:
        workloads = count_of(len(report.distrusted), "workload")
        verb = "has" if len(report.distrusted) == 1 else "have"
        click.echo(
            f"distrusted: {workloads} {verb} tainted trials only, and the LUT will mark their entries. "
            f"When the device is quiet:\n  {command_again('--fresh')}"
        )
    if profile.faster_run is not None:
        click.echo(f"faster run: {profile.faster_run}. Later:\n  {command_again('--fresh')}")
    if report.complete:
        named = "" if journal is None else f" {shlex.quote(str(journal))}"
        click.echo(f"next: latbench build-lut{named}")
    else:
        workloads = count_of(len(report.unconverged), "workload")
        click.echo(
            f"not complete: {workloads} did not converge within the time limit. To continue:\n"
            f"  {command_again(without=_FRESH)}"
        )


def _facts(profile: "Profile") -> Iterator[tuple[str, Any]]:
    report = profile.report
    converged = len(report.statuses) - len(report.unconverged)
    yield "target", profile.target
    yield from arithmetic_facts(profile.target)
    yield "space", profile.space
    for one in profile.verified:
        yield "verified", _verified(one, profile.target)
    yield "workloads", f"{converged} of {len(report.statuses)} converged"
    yield "trials", f"{report.trials}, {report.tainted} tainted, {report.failed} failed"
    yield "time", _time(report)
    if report.taints:
        yield "tainted by", ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
    if report.drift is not None:
        yield "drift", f"{percent(report.drift)} between the sentinel's visits"
    if len(report.units) > 1:
        for unit, part in report.units.items():
            yield f"unit {unit}", _part(part)
    yield "journal", profile.journal


def _time(report: "RunReport") -> str:
    """The wall time of this session, and the share of it that was timed inference, over all units."""
    if not report.taken:
        return "nothing left to measure; --fresh starts a new run"
    available = max(report.session_wall_s * len(report.units), 1e-9)
    share = percent(report.session_timed_s / available, 0)
    return f"{report.session_wall_s:.1f} s; {share} of the wall time was timed inference"


def _verified(one: "Verification", target: "Target") -> str:
    """The numerics of a unit, on one line."""
    from latbench.target import Precision

    worst = one.errors[one.worst]
    error = f"{worst:.1f} dB" if target.precision is Precision.INT8 else f"{worst:.1e}"
    ops = count_of(len(one.errors), "op")
    return f"{ops} agree with PyTorch on {one.unit}; worst {error} ({one.worst})"


def _part(part: "UnitPart") -> str:
    """The part of one of several units, on one line."""
    text = f"{count_of(part.trials, 'trial')}, {part.tainted} tainted, {part.failed} failed"
    if part.factor is not None:
        text += f", slowdown {part.factor:.3f}"
    if part.dropped_out:
        text += f", dropped out {count_of(part.dropped_out, 'time')}"
    return text
