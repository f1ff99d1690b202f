"""Options that both programs share, and the command to type next."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from latbench.cli.options import output_path

F = TypeVar("F", bound=Callable[..., Any])

_DATA = (
    "digits (part of scikit-learn), imagefolder:PATH with one subfolder for each class, or webdataset:PATH "
    "with train*.tar and val*.tar."
)


def data_option(default: str) -> Callable[[F], F]:
    """`--data`; `default` describes the default in the help."""
    return click.option("--data", metavar="DATA", help=f"{_DATA}  [default: {default}]")


def out_option(default: str) -> Callable[[F], F]:
    """`--out`; `default` describes the default in the help."""
    return click.option(
        "--out",
        type=output_path,
        metavar="DIR",
        help=f"Output folder, created if missing.  [default: {default}]",
    )


def image_size_option(default: str) -> Callable[[F], F]:
    """`--image-size`; `default` describes the default in the help."""
    return click.option(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="Height and width of the training images, at most the space's input. Latencies are always "
        f"for the space's input.  [default: {default}]",
    )


seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of all random numbers. Results repeat on one machine with as many processes and threads.",
)
recipe_option = click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="All settings of the training: paper, budget, digits, or a file like those.  "
    "[default: digits for digits, else paper]",
)
epochs_option = click.option(
    "--epochs", type=int, metavar="N", help="Replace the recipe's epochs; its schedules stretch."
)
resume_option = click.option(
    "--resume", is_flag=True, help="Continue from the checkpoint in the output folder."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def same_command(*more: str) -> str:
    """The running command as it was typed, with `more` words that it does not have yet."""
    context = click.get_current_context()
    words = [context.command_path]
    for parameter in context.command.get_params(context):
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0])
        elif parameter.opts[0] not in more:
            values = value if isinstance(value, tuple) else (value,)
            words += [word for one in values for word in (parameter.opts[0], str(one))]
    words += [word for word in more if word == "--resume" and word not in words]
    words += [word for word in more if word != "--resume"]
    return f"{words[0]} {shlex.join(words[1:])}"


def train_command(
    out: Path, data: str, *, recipe: str | None, image_size: int | None, seed: int
) -> str:
    """The command that trains what was found in `out`, with every option that matters."""
    words = ["fbnet-train", str(out), "--data", data, "--out", str(out)]
    if recipe is not None:
        words += ["--recipe", recipe]
    if image_size is not None:
        words += ["--image-size", str(image_size)]
    if seed:
        words += ["--seed", str(seed)]
    return shlex.join(words)
