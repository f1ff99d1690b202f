"""Hints that repeat the command that was typed, with every option of it."""

import shlex
from typing import Any

import click

_KEY = "latbench.typed"


class RepeatableCommand(click.Command):
    """A command that remembers its arguments as typed; use as `@click.command(cls=RepeatableCommand)`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`, and keep a copy for `command_again`."""
        ctx.meta[_KEY] = tuple(args)
        return super().parse_args(ctx, args)


def command_again(*added: str, without: tuple[str, ...] = ()) -> str:
    """The running command as a line to type, with flags `added` and flags left out."""
    context = click.get_current_context()
    typed: tuple[Any, ...] = context.meta.get(_KEY, ())
    words = [word for word in typed if word not in {*without, *added}]
    return shlex.join([*context.command_path.split(), *words, *added])
