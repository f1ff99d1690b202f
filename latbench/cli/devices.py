"""latbench devices: the catalogue, and what is attached."""

from dataclasses import asdict

import click

from latbench.cli.options import json_option
from latbench.cli.output import emit_json, emit_table


@click.command(name="devices")
@json_option
def command(as_json: bool) -> None:
    """List the device catalogue and what is attached."""
    from latbench.device.attached import attached_units
    from latbench.device.catalogue import load_catalogue

    catalogue, units = load_catalogue(), attached_units()
    if as_json:
        emit_json(
            {
                "catalogue": [
                    entry.model_dump(mode="json", exclude_none=True) for entry in catalogue.values()
                ],
                "attached": [asdict(unit) for unit in units],
            }
        )
        return
    emit_table(
        ("device", "what it is", "cores"),
        [(entry.name, entry.title, entry.core_summary) for entry in catalogue.values()],
    )
    emit_table(
        ("attached", "unit", "state", "what it says it is"),
        [(u.device or "not in the catalogue", u.unit, u.state, u.description) for u in units],
    )
    for unit in units:
        if unit.advice:
            click.echo(f"{unit.unit}: {unit.advice}")
