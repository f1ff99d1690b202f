"""A phone's cores: which it has, which are the fastest, and whether they match the catalogue."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.device.android.adb.link import AdbLink
from latbench.device.base import require_a_core_each
from latbench.device.catalogue import CatalogueDevice
from latbench.errors import BadRequest

# "cpu7 2361600 1024": a core, its highest clock in kHz, and its capacity (Linux,
# Documentation/ABI/testing/sysfs-devices-system-cpu); "-" for what the kernel does not report.
_QUERY = (
    "cd /sys/devices/system/cpu && for core in cpu[0-9]*; do "
    "echo $core $(cat $core/cpufreq/cpuinfo_max_freq 2>/dev/null || echo -) "
    "$(cat $core/cpu_capacity 2>/dev/null || echo -); done"
)


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        number: the operating system's.
        peak_khz: the highest clock of its hardware; None if it cannot be read.
        capacity: its performance relative to the other cores, at most 1024; None if the kernel does not
            report it.
    """

    number: int
    peak_khz: int | None
    capacity: int | None

    @property
    def rank(self) -> tuple[int, int]:
        """A sort key, higher for faster cores and equal within a cluster."""
        return self.capacity or 0, self.peak_khz or 0


def query_cores(link: AdbLink) -> tuple[Core, ...]:
    """The cores that the phone lists, slowest first.

    Raises:
        DeviceLost: the phone does not answer.
    """
    return read_cores(link.shell(_QUERY).stdout)


def read_cores(output: str) -> tuple[Core, ...]:
    """Parse the output of the query of `query_cores`."""
    lines = re.findall(r"^cpu(\d+) (\S+) (\S+)\s*$", output, re.MULTILINE)
    cores = [Core(int(number), _whole(peak), _whole(capacity)) for number, peak, capacity in lines]
    return tuple(sorted(cores, key=lambda core: (*core.rank, core.number)))


def contradiction(cores: Sequence[Core], entry: CatalogueDevice) -> str | None:
    """How these cores contradict the catalogue's entry; None if they do not.

    Compared is what both contain: cores of a cluster are equal, and later clusters are not slower. An
    offline core reports nothing, and so contradicts nothing.
    """
    seen = {core.number: core for core in cores if core.rank != (0, 0)}
    fastest_before: Core | None = None
    for cluster in entry.clusters:
        own = [seen[number] for number in cluster.cores if number in seen]
        for core in own[1:]:
            if core.rank != own[0].rank:
                return f"its cores {own[0].number} and {core.number} differ"
        if own and fastest_before is not None and own[0].rank < fastest_before.rank:
            return f"its core {own[0].number} is slower than core {fastest_before.number}"
        fastest_before = own[0] if own else fastest_before
    return None


def require_cores(cores: Sequence[Core], requested: Sequence[int], threads: int) -> None:
    """Check that `threads` threads can be pinned to the requested cores.

    Raises:
        BadRequest: there is no such core, or there are fewer cores than threads.
    """
    known = sorted(core.number for core in cores)
    absent = sorted(set(requested) - set(known)) if known else []
    if absent:
        raise BadRequest(
            f"the phone has no core {', '.join(map(str, absent))}",
            hint=f"choose from --cores {','.join(map(str, known))}",
        )
    require_a_core_each(requested, threads)


def fastest(cores: Sequence[Core], threads: int) -> tuple[int, ...]:
    """The numbers of the `threads` fastest cores; of equal ones the last. Empty if none are listed.

    Raises:
        BadRequest: there are fewer.
    """
    if cores and threads > len(cores):
        raise BadRequest(
            f"{threads} threads need {threads} cores, but the phone has {len(cores)}",
            hint=f"at most: --threads {len(cores)}",
        )
    return tuple(sorted(core.number for core in cores[-threads:]))


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
