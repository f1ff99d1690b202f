"""Progress on the terminal, notes on assumed options, and Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from fbnet_search.cli.options import same_command
from fbnet_search.run.recipe import OnProgress
from latbench.cli.progress import reporter
from latbench.errors import LatbenchError


@contextmanager
def progress_bar(what: str) -> Iterator[OnProgress]:
    """A bar with the time left on stderr; nothing if stderr is not a terminal."""
    with reporter() as report:
        yield lambda progress: report(
            what if progress.total else progress.doing,
            progress.done,
            progress.total,
            progress.doing,
        )


def note(text: str) -> None:
    """Print a note to stderr."""
    click.echo(f"note: {text}", err=True)


@contextmanager
def interruptible(folder: Path, resume: bool) -> Iterator[None]:
    """Turn Ctrl-C into an error that says whether `folder` has a checkpoint of this run.

    Args:
        resume: whether the run was resumed, so that an unchanged checkpoint is its own.
    """
    before = _checkpoints(folder)
    try:
        yield
    except KeyboardInterrupt:
        now = _checkpoints(folder)
        if now and (resume or now != before):
            hint = f"{folder} has a checkpoint; continue with: {same_command('--resume')}"
        elif resume:
            hint = f"{folder} has no checkpoint to resume from: run the command without --resume"
        else:
            hint = "there is no checkpoint of this run yet: run the same command again"
        raise LatbenchError("interrupted", hint=hint) from None


def _checkpoints(folder: Path) -> set[tuple[str, int, int]]:
    """Name, inode and time of each checkpoint; a rewritten one has another inode."""
    found = set()
    for path in folder.glob("checkpoint*.pt"):
        with suppress(OSError):
            facts = path.stat()
            found.add((path.name, facts.st_ino, facts.st_mtime_ns))
    return found
