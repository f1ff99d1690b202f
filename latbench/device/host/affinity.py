"""The CPU affinity of this process's threads; None where the system has no such call.

Linux has an affinity for each thread, not for the process, and a new thread inherits that of the thread
that starts it: so pinning must set it for all existing threads, before an engine starts more.
"""

import os
import sys
from collections.abc import Sequence

#: A string: these files are read several times a visit, and with a Path that takes three times as long.
_TASKS = "/proc/self/task"


def allowed_cores() -> tuple[int, ...] | None:
    """The cores that this process may use, ascending."""
    if sys.platform != "linux":
        return None
    return tuple(sorted(os.sched_getaffinity(0)))


def thread_ids() -> frozenset[int]:
    """The thread IDs of this process; empty if the system does not list them."""
    try:
        return frozenset(map(int, os.listdir(_TASKS)))  # noqa: PTH208
    except FileNotFoundError:
        return frozenset()


def pin(cores: Sequence[int]) -> None:
    """Pin every thread of this process to `cores`.

    Raises:
        OSError: the system has no such call, or allows none of the cores.
    """
    if sys.platform != "linux":
        raise OSError("this operating system does not allow a process to choose its cores")
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
        except ProcessLookupError:  # it has ended
            continue
    return tuple(sorted(cores))


def waited_ns() -> int | None:
    """Time in which threads of this process were ready to run while others used their CPU, ns.

    Since each thread started, summed over living threads. Source: Linux,
    Documentation/scheduler/sched-stats.rst, the second figure of /proc/<pid>/schedstat.
    """
    waited = None
    for thread in thread_ids():
        try:
            with open(f"{_TASKS}/{thread}/schedstat", "rb") as file:  # noqa: PTH123
                figures = file.read().split()
        except OSError:  # it has ended, or this kernel has no such statistics
            continue
        if len(figures) == 3:
            waited = (waited or 0) + int(figures[1])
    return waited
