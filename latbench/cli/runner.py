"""latbench runner: build the native runner, install engines or the companion app, and pair iPhones."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import address_option, json_option, unit_option
from latbench.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from latbench.device.native.files import InstalledFile

# As `latbench.device.native.build.PRESETS`, which is not imported for `--help`; a test compares them.
PRESETS = ("host", "arm64-linux", "android-arm64-v8a", "android-armeabi-v7a", "android-x86_64")


@click.group(name="runner")
def command() -> None:
    """Build the native runner, install engines for it or the iPhone app, and pair iPhones."""


@command.command()
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="android-arm64-v8a",
    show_default=True,
    help="Platform to build for.",
)
@click.option(
    "--torchscript",
    is_flag=True,
    help="Build this machine's TorchScript engine instead, from the installed torch.",
)
@json_option
def build(preset: str, torchscript: bool, as_json: bool) -> None:
    """Build the native runner with the installed tools. Nothing is downloaded."""
    from latbench.device.native.build import build as build_runner
    from latbench.device.native.build import build_torchscript

    _print_files([build_torchscript() if torchscript else build_runner(preset)], as_json)


@command.command()
@click.option(
    "--engine",
    "engines",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="An .aar, .whl or .so of ONNX Runtime or LiteRT; can be repeated.",
)
@click.option("--replace", is_flag=True, help="Replace an installed library of the same engine.")
@click.option(
    "--device", metavar="NAME", help="iPhone of the catalogue to install the companion app on."
)
@click.option(
    "--app",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --device: the companion app that Xcode built, .ipa or .app.",
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
    """Install engines, or the iPhone's companion app.

    Engines are libraries that the native runner loads; the app is the one that Xcode built.

    Nothing is downloaded.
    """
    if device is not None and app is not None and not engines:
        _install_app(device, app, unit, as_json)
        return
    if not engines or device is not None or app is not None or unit is not None:
        raise click.UsageError("give --engine FILE, or --device NAME and --app PATH")
    from latbench.device.native.engines import install as install_engine

    _print_files(
        [file for one in engines for file in install_engine(one, replace=replace)], as_json
    )


@command.command()
@click.option("--device", required=True, metavar="NAME", help="An iPhone of the catalogue.")
@click.option(
    "--token",
    prompt="The pairing token that the companion app shows",
    metavar="TEXT",
    help="The pairing token that the companion app shows.  [default: prompt for it]",
)
@unit_option
@address_option
@json_option
def pair(device: str, token: str, unit: str | None, address: str | None, as_json: bool) -> None:
    """Pair with an iPhone by its app's token.

    The token is checked, and stored on this machine.
    """
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
    click.echo("the app is running" if done.started else str(done.advice))


@command.command(name="list")
@json_option
def list_files(as_json: bool) -> None:
    """List the built runners and installed engines."""
    from latbench.device.native.files import installed

    _print_files(installed(), as_json)


def _print_files(files: "Sequence[InstalledFile]", as_json: bool) -> None:
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
