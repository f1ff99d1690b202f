"""latbench drift: compare two LUTs of one target."""

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.again import RepeatableCommand, command_again
from latbench.cli.completion import complete_files
from latbench.cli.options import (
    budget_option,
    json_option,
    lut_file,
    output_path,
    percentage,
    where_options,
)
from latbench.cli.progress import reporter
from latbench.errors import CannotCompare, ExitCode, LatbenchError

if TYPE_CHECKING:
    from latbench.device.registry import UnitSelector
    from latbench.lut import Lut

# As `latbench.report.drift.FORMATS`, which is not imported for `--help`.
FORMATS = ("text", "json", "junit", "markdown", "github")


@contextlib.contextmanager
def _comparing(again: Callable[[], str]) -> Iterator[None]:
    """Whatever goes wrong inside, the exit code is that of a comparison that was not made.

    Args:
        again: the command as it was typed.
    """
    try:
        yield
    except (click.UsageError, click.exceptions.Exit):
        raise
    except LatbenchError as error:
        raise CannotCompare.because(error) from None
    except click.ClickException as error:
        raise CannotCompare(error.format_message()) from None
    except (click.Abort, KeyboardInterrupt):
        raise CannotCompare("interrupted", hint=f"to start again: {again()}") from None
    except Exception:  # noqa: BLE001  a mistake of latbench: to be seen, but no drift
        traceback.print_exc()
        raise click.exceptions.Exit(ExitCode.BAD_REQUEST) from None


class ComparingCommand(RepeatableCommand):
    """A command whose exit code 1 means drift and nothing else."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments, and read the LUTs."""
        words = [*(parent.command_path.split() if parent else ()), info_name or "", *args]
        with _comparing(lambda: shlex.join(words)):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Compare."""
        with _comparing(command_again):
            return super().invoke(ctx)


@click.command(name="drift", cls=ComparingCommand)
@click.argument("baseline", type=lut_file, shell_complete=complete_files)
@click.argument("current", type=lut_file, required=False, shell_complete=complete_files)
@click.option(
    "--remeasure",
    is_flag=True,
    help="Time a part of BASELINE again instead of reading CURRENT, in less than a minute.",
)
@click.option(
    "--out",
    type=output_path,
    shell_complete=complete_files,
    metavar="FILE",
    help="With --remeasure: write the new measurements as a LUT.",
)
@budget_option("50s")
@click.option(
    "--tolerance",
    type=percentage,
    default="5%",
    show_default=True,
    help="Smallest change of one op to report.",
)
@click.option(
    "--level-tolerance",
    type=percentage,
    default="3%",
    show_default=True,
    help="Smallest change of the whole device, or of a network, to report.",
)
@click.option(
    "--strict-level",
    is_flag=True,
    help="Let a change of everything count even if the reference shows that it is the machine's.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Output format; github prints annotations.",
)
@where_options
@json_option
@click.pass_context
def command(
    context: click.Context,
    baseline: "Lut",
    current: "Lut | None",
    where: "UnitSelector",
    remeasure: bool,
    out: Path | None,
    budget: float,
    tolerance: float,
    level_tolerance: float,
    strict_level: bool,
    form: str,
    as_json: bool,
) -> None:
    """Compare two LUTs of one target: what became slower or faster?

    A change of everything that the reference shows too is that of the machine: it is reported, and is no
    drift. Whoever pins clocks can let it count with --strict-level.

    Exit codes: 0 no drift, 1 drift in either direction, 2 no verdict.
    """
    if out is not None and not remeasure:
        raise CannotCompare(
            "--out is for --remeasure only",
            hint=f"latbench drift BASELINE --remeasure --out {shlex.quote(str(out))}",
        )
    if as_json and form not in ("text", "json"):
        raise CannotCompare(
            f"--json and --format {form} exclude each other", hint="leave out one of them"
        )
    if remeasure == (current is not None):
        raise CannotCompare(
            "BASELINE must be compared either with CURRENT or with --remeasure",
            hint="latbench drift BASELINE CURRENT, or: latbench drift BASELINE --remeasure",
        )
    from latbench.lut.drift import compare_luts
    from latbench.report.drift import render

    if current is None:
        current = _remeasured(baseline, out, where, budget)
    report = compare_luts(
        baseline,
        current,
        tolerance=tolerance,
        level_tolerance=level_tolerance,
        require_all=not remeasure,
        strict_level=strict_level,
    )
    _print(render(report, "json" if as_json else form))
    context.exit(int(report.drifted) if report.comparable else 2)


def _print(report: str) -> None:
    """Print the report; a verdict that nobody got is none."""
    try:
        click.echo(report)
    except OSError as error:  # the reader of a pipe went away, or the disk is full
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # for what is not written yet
        raise CannotCompare(f"cannot write the report: {error.strerror}") from None


def _remeasured(baseline: "Lut", out: Path | None, where: "UnitSelector", budget_s: float) -> "Lut":
    """A LUT of a part of `baseline`, measured now, and written to `out` if given."""
    from latbench.workflows.remeasure import remeasure

    with reporter() as progress:
        current = remeasure(baseline, unit=where, budget_s=budget_s, progress=progress)
    if out is not None:
        current.save(out)
    return current
