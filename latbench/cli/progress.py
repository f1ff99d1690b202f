"""Progress bars on stderr with the time left. They are not shown if stderr is not a terminal."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from latbench.cli.interrupt import work_begins

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")


class Report(Protocol):
    """Shows `done` of `total` steps of `what`; the clock restarts when `what` changes.

    `doing` is the text beside the bar if it is not `what`; it may change at any time. Without a total, the
    time left is not shown.
    """

    def __call__(self, what: str, done: int, total: int | None, doing: str | None = None) -> None:
        """Update the bar."""


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
    """Yield `items`, and show how many are done."""
    work_begins()
    sequence: Sequence[T] = tuple(items)
    with _bars() as bars:
        task = bars.add_task(what, total=len(sequence), doing=what)
        yield from bars.track(sequence, task_id=task)


@contextlib.contextmanager
def reporter() -> Iterator["Report"]:
    """Show a progress bar; the context's value updates it."""
    work_begins()
    with _bars() as bars:
        task = bars.add_task("starting", total=None, doing="starting")

        def report(what: str, done: int, total: int | None, doing: str | None = None) -> None:
            nonlocal task
            most = None if total is None else max(done, total)
            text = what if doing is None else doing
            if bars.tasks[0].description != what:
                bars.remove_task(task)  # a task that had a total cannot lose it
                task = bars.add_task(what, total=most, doing=text)
            bars.update(task, completed=done, total=most, doing=text)

        yield report
