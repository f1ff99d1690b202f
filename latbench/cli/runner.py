"""latbench runner: build the runner for phones, install it and its engines, and pair with iPhones."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import address_option, json_option, unit_option
from latbench.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from latbench.device.runner_files import InstalledFile

# As `latbench.device.runner_files.PRESETS`, which is not imported for `--help`.
PRESETS = ("host", "arm64-linux", "android-arm64-v8a", "android-armeabi-v7a", "android-x86_64")


@click.group(name="runner")
def command() -> None:
    """Build the runner for phones, install its engines or the companion app, and pair iPhones."""


@command.command()
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="android-arm64-v8a",
    show_default=True,
    help="What to build for.",
)
@click.option(
    "--torchscript",
    is_flag=True,
    help="Build this machine's engine for TorchScript instead, with the installed torch.",
)
@json_option
def build(preset: str, torchscript: bool, as_json: bool) -> None:
    """Build the runner with the tools that are here; nothing is downloaded."""
    from latbench.device import runner_files

    _tell(
        [runner_files.build_torchscript() if torchscript else runner_files.build(preset)], as_json
    )


@command.command()
@click.option(
    "--engine",
    "engines",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="An .aar, .whl or .so of ONNX Runtime or LiteRT; may be given again.",
)
@click.option("--replace", is_flag=True, help="Also where another library of that name is there.")
@click.option("--device", metavar="NAME", help="An iPhone, to put the companion app on.")
@click.option(
    "--app",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --device: the companion app as Xcode built it, .ipa or .app.",
)
@unit_option
@json_option
def install(
    engines: tuple[Path, ...],
    replace: bool,
    device: str | None,
    app: Path | None,
    unit: str | None,
    as_json: bool,
) -> None:
    """Keep the libraries of engines for Android phones, or put the companion app on an iPhone.

    Nothing is downloaded.
    """
    if device is not None and app is not None and not engines:
        _install_app(device, app, unit, as_json)
        return
    if not engines or device is not None or app is not None or unit is not None:
        raise click.UsageError("give --engine FILE, or --device NAME and --app PATH")
    from latbench.device.runner_files import install as install_engine

    _tell([file for one in engines for file in install_engine(one, replace=replace)], as_json)


@command.command()
@click.option("--device", required=True, metavar="NAME", help="An iPhone of the catalogue.")
@click.option(
    "--token",
    prompt="The token that the companion app shows",
    metavar="TEXT",
    help="The token that the companion app shows.  [default: asked for]",
)
@unit_option
@address_option
@json_option
def pair(device: str, token: str, unit: str | None, address: str | None, as_json: bool) -> None:
    """Learn the pairing token of an iPhone, and keep it here."""
    from latbench.device.catalogue import find_device
    from latbench.device.ios.device import pair_phone

    phone = pair_phone(find_device(device), token, unit, address)
    if as_json:
        emit_json({"unit": phone})
    else:
        click.echo(f"{phone}: paired")


def _install_app(device: str, app: Path, unit: str | None, as_json: bool) -> None:
    from latbench.device.catalogue import find_device
    from latbench.device.ios.install import install_app

    done = install_app(find_device(device), app, unit)
    if as_json:
        emit_json(asdict(done))
        return
    click.echo(f"{done.udid}: installed by {done.tool} (iOS {done.version})")
    click.echo("the app runs" if done.started else str(done.advice))


@command.command(name="list")
@json_option
def list_files(as_json: bool) -> None:
    """List what was built and installed."""
    from latbench.device.runner_files import installed

    _tell(installed(), as_json)


def _tell(files: "Sequence[InstalledFile]", as_json: bool) -> None:
    if as_json:
        emit_json(
            [
                {
                    "abi": file.abi,
                    "file": str(file.path),
                    "sha256": file.sha256,
                    "source": file.source,
                    "version": file.version,
                    "libc": file.libc,
                }
                for file in files
            ]
        )
        return
    emit_table(
        ("file", "abi", "for", "from", "version", "sha256"),
        [
            (
                file.name,
                file.abi,
                "Android" if file.libc == "android" else "Linux",
                file.source,
                file.version or "",
                file.sha256[:12],
            )
            for file in files
        ],
    )
