"""Commands that are imported when they are called, and that print errors instead of raising them."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from latbench._version import __version__
from latbench.errors import BadRequest, ExitCode, LatbenchError

#: Subcommands inherit it from their group.
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def report(error: LatbenchError) -> None:
    """Print what was wrong, where, and what to type next, to stderr."""
    click.echo(f"error: {error.message}", err=True)
    for line in error.details:
        click.echo(f"         {line}", err=True)
    if error.hint:
        click.echo(f"       {error.hint}", err=True)


@contextlib.contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Turn Ctrl-C into an error that says what was kept and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise LatbenchError("interrupted", hint=hint) from None


class _Reporting(click.Command):
    """Prints every error as `error: …` and exits with one of `ExitCode`; `-h` is `--help`."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        settings["context_settings"] = _SETTINGS | (settings.get("context_settings") or {})
        super().__init__(*words, **settings)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; in standalone mode, exit with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        typed = tuple(sys.argv[1:] if args is None else args)
        try:
            result = super().main(args, prog_name, complete_var, False, **extra)
            sys.stdout.flush()
        except LatbenchError as error:
            report(error)
            sys.exit(error.exit_code)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(ExitCode.BAD_REQUEST)
        except click.UsageError as error:
            report(_usage_error(error, typed))
            sys.exit(ExitCode.BAD_REQUEST)
        except click.ClickException as error:
            report(LatbenchError(error.format_message()))
            sys.exit(ExitCode.FAILED)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(ExitCode.FAILED)
        except BrokenPipeError:  # `latbench show … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.FAILED)
        sys.exit(result if isinstance(result, int) else ExitCode.OK)


class ReportingCommand(_Reporting):
    """A program of one command; use as `@click.command(cls=ReportingCommand)`."""


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


def _usage_error(error: click.UsageError, typed: Sequence[str]) -> BadRequest:
    """What click refuses, in the form of our own errors, with a complete command to type next."""
    wrong, known = _misspelt(error)
    message = error.message if known else error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    context = error.ctx
    if context is None:
        return BadRequest(message)
    words = [word.partition("=") for word in typed]
    if known and wrong in [name for name, _, _ in words]:
        program = context.find_root().info_name or ""
        meant = [
            f"{known[0] if name == wrong else name}{sign}{value}" for name, sign, value in words
        ]
        return BadRequest(message, hint=f"did you mean: {shlex.join([program, *meant])}")
    usage = context.command.collect_usage_pieces(context)
    return BadRequest(
        message,
        details=[f"usage: {' '.join([context.command_path, *usage])}"],
        hint=f"all options: {context.command_path} --help",
    )


def _misspelt(error: click.UsageError) -> tuple[str, Sequence[str]]:
    """An unknown option or command, and the known ones that are similar, the most similar first."""
    name = getattr(error, "option_name", None) or getattr(error, "command_name", None) or ""
    return name, getattr(error, "possibilities", None) or ()


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"latbench {__version__}")
        ctx.exit()
