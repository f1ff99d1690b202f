"""latbench validate: compare a LUT's predictions with measured networks."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.again import RepeatableCommand, command_again
from latbench.cli.completion import complete_files
from latbench.cli.options import (
    budget_option,
    interval_option,
    json_option,
    lut_file,
    where_options,
)
from latbench.cli.output import (
    count_of,
    emit_facts,
    emit_json,
    emit_table,
    interval,
    milliseconds,
    percent,
    slowdown_line,
)
from latbench.cli.progress import reporter

if TYPE_CHECKING:
    from latbench.device.registry import UnitSelector
    from latbench.lut import Lut
    from latbench.workflows.validate import Validation


@click.command(name="validate", cls=RepeatableCommand)
@click.argument("lut", type=lut_file, shell_complete=complete_files)
@click.option(
    "--networks",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    metavar="M",
    help="Number of networks to time.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the random choice of networks."
)
@interval_option("a network")
@budget_option("5m")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the LUT with these figures in it, and with intervals that follow them; can be LUT itself.",
)
@where_options
@json_option
def command(
    lut: "Lut",
    where: "UnitSelector",
    networks: int,
    seed: int,
    ci: float,
    budget: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Time networks that LUT was not built from, and compare them with its predictions.

    Networks that LUT was built from are timed in the same rounds; measurements are divided by the slowdown
    of the device since the LUT's run.
    """
    from latbench.workflows.validate import validate

    with reporter() as progress:
        validation = validate(
            lut,
            unit=where,
            networks=networks,
            seed=seed,
            ci=ci,
            budget_s=budget,
            progress=progress,
        )
    if out is not None:
        validation.validated_lut.save(out)
    if as_json:
        emit_json(_facts_for_machines(validation))
    else:
        _print(validation, out)


def _facts_for_machines(validation: "Validation") -> dict[str, Any]:
    return validation.figures.to_dict() | {
        "target": validation.lut.target.model_dump(mode="json"),
        "tainted": validation.report.tainted,
        "warnings": list(validation.warnings),
        "each": [
            {
                "layers": network.name,
                "predicted": network.predicted.ms,
                "low": network.predicted.low,
                "high": network.predicted.high,
                "measured": network.measured_ms,
            }
            for network in validation.networks
        ],
    }


def _print(validation: "Validation", out: Path | None) -> None:
    figures = validation.figures
    emit_table(
        ("network>", "predicted ms>", "95 % interval>", "measured ms>", "error>"),
        [
            (
                number,
                milliseconds(network.predicted.ms),
                interval(network.predicted.bounds),
                milliseconds(network.measured_ms),
                percent(network.error, signed=True)
                + (" outside" if network.covered is False else ""),
            )
            for number, network in enumerate(validation.networks)
        ],
    )
    ranks = f"Spearman {figures.spearman:.4f}, Kendall {figures.kendall:.4f}"
    facts: list[tuple[str, Any]] = [
        ("target", validation.lut.target),
        ("networks", f"{figures.networks}, none of which the LUT was built from"),
        ("error", f"{figures.mape:.2f} % mean, {_signed(figures.bias)} % bias, "
                  f"{figures.worst:.2f} % worst"),
        ("within", f"2 %: {figures.within_2:.0f} %, 5 %: {figures.within_5:.0f} %, "
                   f"10 %: {figures.within_10:.0f} % of the networks"),
        ("coverage", "unknown: the predictions have no intervals" if math.isnan(figures.coverage)
                     else f"{figures.coverage:.0f} % are in their 95 % interval"),
        ("ranks", ranks if figures.networks > 2 else "too few networks"),
        ("slowdown", slowdown_line(1 + figures.level / 100)),
        ("measured", f"to ±{figures.half_width:.1f} % (median of their own 95 % intervals)"),
        ("drift", f"{figures.drift:.1f} % between the sentinel's visits in this run"),
    ]  # fmt: skip
    if validation.report.tainted:
        facts.append(("tainted", f"{count_of(validation.report.tainted, 'trial')}, repeated"))
    if out is not None:
        facts.append(("lut", f"{out}, with these figures in it; intervals {_change(validation)}"))
    emit_facts(facts)
    for warning in validation.warnings:
        click.echo(f"warning: {warning}. When the device is quiet: {command_again()}", err=True)


def _change(validation: "Validation") -> str:
    """How much wider the intervals of the validated LUT are."""
    before, after = validation.lut.correction, validation.validated_lut.correction
    if before is None or after is None:
        return "as before"
    ratio = after.interval_factor / before.interval_factor
    if percent(ratio - 1, 0) == "0%":
        return "as before"
    return f"{percent(abs(ratio - 1), 0)} {'wider' if ratio > 1 else 'narrower'}"


def _signed(value: float) -> str:
    """Two decimals with a sign; no sign at 0."""
    rounded = round(value, 2) + 0.0
    return f"{rounded:+.2f}" if rounded else "0.00"
