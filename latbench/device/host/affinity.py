"""What the scheduler lets the threads of this process do; None where no system call says.

Linux keeps an affinity for each thread, not for the process, and a new thread inherits that of the
thread that starts it: so pinning has to visit every thread there is, before an engine starts more.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_TASKS = Path("/proc/self/task")


def allowed_cores() -> tuple[int, ...] | None:
    """The cores that this process may use, ascending."""
    if sys.platform != "linux":
        return None
    return tuple(sorted(os.sched_getaffinity(0)))


def thread_ids() -> frozenset[int]:
    """The system's numbers of this process's threads; empty where it does not tell."""
    if not _TASKS.is_dir():
        return frozenset()
    return frozenset(int(task.name) for task in _TASKS.iterdir())


def pin(cores: Sequence[int]) -> None:
    """Let every thread of this process run on `cores` only.

    Raises:
        OSError: the system has no such call, or lets none of the cores.
    """
    if sys.platform != "linux":
        raise OSError("this operating system does not let a process choose its cores")
    for thread in thread_ids():
        os.sched_setaffinity(thread, cores)


def observed_cores() -> tuple[int, ...] | None:
    """The cores that any thread of this process may use, ascending."""
    if sys.platform != "linux":
        return None
    cores: set[int] = set()
    for thread in thread_ids():
        try:
            cores |= os.sched_getaffinity(thread)
        except ProcessLookupError:  # it has ended meanwhile
            continue
    return tuple(sorted(cores))


def waited_ns() -> int | None:
    """Nanoseconds in which threads of this process were ready to run while others had their CPU.

    Since each thread began, summed over those that live. Source: Linux,
    Documentation/scheduler/sched-stats.rst, the second figure of /proc/<pid>/schedstat.
    """
    waited = None
    for thread in thread_ids():
        try:
            figures = (_TASKS / str(thread) / "schedstat").read_text().split()
        except OSError:  # it has ended meanwhile, or this kernel keeps no statistics
            continue
        if len(figures) == 3:
            waited = (waited or 0) + int(figures[1])
    return waited
