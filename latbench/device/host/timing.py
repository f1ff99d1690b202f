"""The innermost loop: runs a model, and times it."""

import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import Self

from latbench.device.linux import LocalFiles
from latbench.device.protocol.messages import RunRequest

#: Reading the CPU clock takes microseconds and disturbs caches, so a value is reused for this long.
_CLOCK_EVERY_NS = 5_000_000


class ClockReader:
    """Reads the clock of one core repeatedly, from one open file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._khz = 0
        self._due_ns = 0

    @classmethod
    def of_cores(cls, files: LocalFiles, cores: Sequence[int]) -> Self | None:
        """The reader for the first of `cores`; None if the system does not report its clock."""
        if not cores:
            return None
        try:
            reader = cls(
                files.path(f"/sys/devices/system/cpu/cpu{cores[0]}/cpufreq/scaling_cur_freq")
            )
        except OSError:
            return None
        try:
            reader.khz(0)
        except (OSError, ValueError):
            reader.close()
            return None
        return reader

    def khz(self, now_ns: int) -> int:
        """The clock in kHz, read at most 5 ms before `now_ns`."""
        if now_ns >= self._due_ns:
            self._khz = int(os.pread(self._file, 32, 0))
            self._due_ns = now_ns + _CLOCK_EVERY_NS
        return self._khz

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def sample(
    run: Callable[[], None], request: RunRequest, clock: ClockReader | None
) -> tuple[list[int], list[int] | None]:
    """Warm up and time `run` according to `request`.

    Returns:
        The samples in nanoseconds, and the clock before each in kHz or None.
    """
    try:
        return _sample(run, request, clock)
    finally:
        if clock is not None:
            clock.close()


def _sample(
    run: Callable[[], None], request: RunRequest, clock: ClockReader | None
) -> tuple[list[int], list[int] | None]:
    now = time.perf_counter_ns
    pause = request.idle_ms / 1e3
    least = min(request.min_samples, request.max_samples)
    samples: list[int] = []
    clocks: list[int] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        warm_at = now() + int(request.warmup_seconds * 1e9)
        warmups = 0
        while warmups < request.warmups or now() < warm_at:
            run()
            warmups += 1
        end = now()
        done_at = end + int(request.seconds * 1e9)
        while len(samples) < least or (len(samples) < request.max_samples and end < done_at):
            if pause:
                time.sleep(pause)
            if clock is not None:
                clocks.append(clock.khz(end))
            start = now()
            run()
            end = now()
            samples.append(end - start)
    finally:
        if collecting:
            gc.enable()
    return samples, clocks if clock is not None else None
