"""latbench validate: how well a LUT predicts networks that it was not made from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.completion import complete_files
from latbench.cli.options import (
    budget_option,
    interval_option,
    json_option,
    lut_file,
    where_options,
)
from latbench.cli.output import emit_facts, emit_json, emit_table, interval, milliseconds
from latbench.cli.progress import reporter

if TYPE_CHECKING:
    from latbench.device.registry import UnitSelector
    from latbench.lut import Lut
    from latbench.workflows.validate import Validation


@click.command(name="validate")
@click.argument("lut", type=lut_file, shell_complete=complete_files)
@click.option(
    "--networks",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    metavar="M",
    help="How many networks to time.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which networks: drawn by this seed."
)
@interval_option("a network")
@budget_option("5m")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the LUT with these figures in it; may be LUT itself.",
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
    """Time networks that LUT was not made from, and compare with what it predicts.

    Networks that LUT was made from are timed beside them, and measurements are brought to the level
    that those had then.
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
                interval((network.predicted.low, network.predicted.high)),
                milliseconds(network.measured_ms),
                f"{network.error:+.1%}" + ("" if network.covered else " outside"),
            )
            for number, network in enumerate(validation.networks)
        ],
    )
    ranks = f"Spearman {figures.spearman:.4f}, Kendall {figures.kendall:.4f}"
    facts: list[tuple[str, Any]] = [
        ("target", validation.lut.target),
        ("networks", f"{figures.networks}, none of which the LUT was made from"),
        ("error", f"{figures.mape:.2f} % mean, {figures.bias:+.2f} % bias, "
                  f"{figures.worst:.2f} % worst"),
        ("within", f"2 %: {figures.within_2:.0f} %, 5 %: {figures.within_5:.0f} %, "
                   f"10 %: {figures.within_10:.0f} % of the networks"),
        ("coverage", f"{figures.coverage:.0f} % lie in their 95 % interval"),
        ("ranks", ranks if figures.networks > 2 else "too few networks"),
        ("level", f"the LUT's networks now take {1 + figures.level / 100:.3f} times what "
                  "they took"),
        ("drift", f"{figures.drift:.1f} % between the sentinel's levels in this run"),
    ]  # fmt: skip
    if validation.report.tainted:
        facts.append(("tainted", f"{validation.report.tainted} trials, taken again"))
    if out is not None:
        facts.append(("lut", f"{out}, with these figures in it"))
    emit_facts(facts)
    for warning in validation.warnings:
        click.echo(f"warning: {warning}; let it come to rest, and type the same again", err=True)
