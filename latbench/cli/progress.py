"""Progress bars on stderr: what is going on, and how long is left. Silent where stderr is no terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from latbench.cli.interrupt import work_begins

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")


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

    return Progress(
        TextColumn("{task.description}"),
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
        yield from bars.track(sequence, description=what)


@contextlib.contextmanager
def reporter() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that takes (what is going on, how much is done, of how much)."""
    work_begins()
    with _bars() as bars:
        task = bars.add_task("starting", total=None)

        def report(what: str, done: int, total: int) -> None:
            if bars.tasks[task].description != what:
                bars.reset(task, total=total, description=what)
            bars.update(task, completed=done, total=max(done, total))

        yield report
