"""Progress bars on stderr: what is going on, and how long is left. Silent where stderr is no terminal."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from latbench.cli.interrupt import work_begins

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")


class Report(Protocol):
    """Shows `done` of `total` of what is going on; the time begins anew when `what` changes.

    `doing` says it in other words that may change in between. Without a total nobody knows how long
    it takes.
    """

    def __call__(self, what: str, done: int, total: int | None, doing: str | None = None) -> None:
        """Show it."""


def _bars() -> "Bars":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    return Progress(
        TextColumn("{task.fields[doing]}", table_column=Column()),  # wrapped, not cut
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def track(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield `items`, with a bar while they are worked on."""
    work_begins()
    sequence: Sequence[T] = tuple(items)
    with _bars() as bars:
        task = bars.add_task(what, total=len(sequence), doing=what)
        yield from bars.track(sequence, task_id=task)


@contextlib.contextmanager
def reporter() -> Iterator["Report"]:
    """Give a function that shows what is going on."""
    work_begins()
    with _bars() as bars:
        task = bars.add_task("starting", total=None, doing="starting")

        def report(what: str, done: int, total: int | None, doing: str | None = None) -> None:
            nonlocal task
            most = None if total is None else max(done, total)
            told = what if doing is None else doing
            if bars.tasks[0].description != what:
                bars.remove_task(task)  # one with a total cannot be without it again
                task = bars.add_task(what, total=most, doing=told)
            bars.update(task, completed=done, total=most, doing=told)

        yield report
