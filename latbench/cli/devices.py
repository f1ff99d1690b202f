"""latbench devices: list the catalogue and attached units; devices clean: remove latbench from a phone."""

from dataclasses import asdict

import click

from latbench.cli.options import adb_server_option, json_option, unit_option
from latbench.cli.output import emit_json, emit_table


@click.group(name="devices", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the device catalogue and the attached units."""
    if context.invoked_subcommand is not None:
        return
    from latbench.device.catalogue import load_catalogue
    from latbench.device.registry import attached_units

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
        ("device", "name", "cores"),
        [(entry.name, entry.title, entry.core_summary) for entry in catalogue.values()],
    )
    emit_table(
        ("attached", "unit", "state", "description"),
        [(u.device or "not in the catalogue", u.unit, u.state, u.description) for u in units],
    )
    for unit in units:
        if unit.advice:
            click.echo(f"{unit.unit}: {unit.advice}")


@command.command()
@unit_option
@adb_server_option
@json_option
def clean(unit: str | None, adb_server: str | None, as_json: bool) -> None:
    """Restore a phone's settings and remove the files that latbench left on it."""
    from latbench.device.registry import UnitSelector, clean_unit

    cleaned = clean_unit(UnitSelector(unit=unit, adb_server=adb_server))
    if as_json:
        emit_json(cleaned._asdict())
    else:
        click.echo(f"{cleaned.unit}: {cleaned.freed_bytes / 2**20:.1f} MiB removed")
