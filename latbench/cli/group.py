"""Commands that import themselves when they are called, and that report errors instead of raising them."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from latbench._version import __version__
from latbench.errors import LatbenchError


def report(error: LatbenchError) -> None:
    """Print what was wrong, where, and what to type next, to stderr."""
    click.echo(f"error: {error.message}", err=True)
    for line in error.details:
        click.echo(f"         {line}", err=True)
    if error.hint:
        click.echo(f"       {error.hint}", err=True)


@contextlib.contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Turn Ctrl-C into an error that says what is left and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise LatbenchError("interrupted", hint=hint) from None


class _Reporting(click.Command):
    """Turns errors into messages and exit codes: 1 it failed, 2 the request makes no sense."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; in standalone mode exit with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            result = super().main(args, prog_name, complete_var, False, **extra)
            sys.stdout.flush()
        except LatbenchError as error:
            report(error)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(1)
        except BrokenPipeError:  # `latbench show … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)


class ReportingCommand(_Reporting):
    """A command on its own; use as `@click.command(cls=ReportingCommand)`."""


class LazyGroup(_Reporting, click.Group):
    """A group whose commands are imported when they are called.

    Args:
        commands_at: command name -> (module that holds it as `command`, its line of help).
    """

    def __init__(self, *, commands_at: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self.commands_at = commands_at
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                help="Print the version and exit.",
                callback=_print_version,
            )
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order a newcomer meets them."""
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.commands_at:
            return None
        command = import_module(self.commands_at[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown command is answered with the nearest known ones."""
        name = args[0]
        if name not in self.commands_at and not name.startswith("-"):
            from latbench.errors import UnknownName

            raise UnknownName("command", name, tuple(self.commands_at))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.commands_at.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"latbench {__version__}")
        ctx.exit()
