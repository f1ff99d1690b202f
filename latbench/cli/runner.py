"""latbench runner: build the runner for phones, and install the engines that it opens."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import json_option
from latbench.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from latbench.device.android.runner_files import InstalledFile

# As `latbench.device.android.runner_files.PRESETS`, which is not imported for `--help`.
PRESETS = ("host", "arm64-linux", "android-arm64-v8a", "android-armeabi-v7a", "android-x86_64")


@click.group(name="runner")
def command() -> None:
    """Build the runner for phones, and install its engines."""


@command.command()
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="android-arm64-v8a",
    show_default=True,
    help="What to build for.",
)
@json_option
def build(preset: str, as_json: bool) -> None:
    """Build the runner with the tools that are here; nothing is downloaded."""
    from latbench.device.android.runner_files import build as build_runner

    _tell([build_runner(preset)], as_json)


@command.command()
@click.option(
    "--engine",
    "engines",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    required=True,
    metavar="FILE",
    help="An .aar, .whl or .so of ONNX Runtime or LiteRT; may be given again.",
)
@click.option("--replace", is_flag=True, help="Also where another library of that name is there.")
@json_option
def install(engines: tuple[Path, ...], replace: bool, as_json: bool) -> None:
    """Keep the libraries of inference engines for phones; nothing is downloaded."""
    from latbench.device.android.runner_files import install as install_engine

    _tell([file for one in engines for file in install_engine(one, replace=replace)], as_json)


@command.command(name="list")
@json_option
def list_files(as_json: bool) -> None:
    """List what was built and installed."""
    from latbench.device.android.runner_files import installed

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
