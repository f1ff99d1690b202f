"""Which cores a phone has, which of them are the big ones, and whether that is what the catalogue says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.device.android.link import AdbLink
from latbench.device.catalogue import CatalogueDevice
from latbench.errors import BadRequest

# "cpu7 2361600 1024": a core, its highest clock in kHz, and its capacity where the kernel tells
# (Linux, Documentation/ABI/testing/sysfs-devices-system-cpu); "-" where it does not.
_ASK = (
    "cd /sys/devices/system/cpu && for core in cpu[0-9]*; do "
    "echo $core $(cat $core/cpufreq/cpuinfo_max_freq 2>/dev/null || echo -) "
    "$(cat $core/cpu_capacity 2>/dev/null || echo -); done"
)


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        number: the system's.
        peak_khz: the highest clock that its hardware has; None where that cannot be read.
        capacity: how much it computes beside the others, 1024 at most; None where the kernel does
            not tell.
    """

    number: int
    peak_khz: int | None
    capacity: int | None

    @property
    def rank(self) -> tuple[int, int]:
        """The higher, the faster; equal for cores of one cluster."""
        return self.capacity or 0, self.peak_khz or 0


def ask_cores(link: AdbLink) -> tuple[Core, ...]:
    """The cores that the phone shows, slowest first; none where it shows none.

    Raises:
        DeviceLost: the phone does not answer.
    """
    return read_cores(link.shell(_ASK).stdout)


def read_cores(output: str) -> tuple[Core, ...]:
    """Read what `ask_cores` made the phone print."""
    lines = re.findall(r"^cpu(\d+) (\S+) (\S+)\s*$", output, re.MULTILINE)
    cores = [Core(int(number), _whole(peak), _whole(capacity)) for number, peak, capacity in lines]
    return tuple(sorted(cores, key=lambda core: (*core.rank, core.number)))


def contradiction(cores: Sequence[Core], entry: CatalogueDevice) -> str | None:
    """What speaks against these being the cores of the catalogue's device; None if nothing does.

    Only what both tell is compared: that cores of a cluster are alike, and which cluster is faster.
    A core that is switched off shows nothing and so contradicts nothing.
    """
    seen = {core.number: core for core in cores if core.rank != (0, 0)}
    fastest_before: Core | None = None
    for cluster in entry.clusters:
        own = [seen[number] for number in cluster.cores if number in seen]
        for core in own[1:]:
            if core.rank != own[0].rank:
                return f"its cores {own[0].number} and {core.number} are not alike"
        if own and fastest_before is not None and own[0].rank < fastest_before.rank:
            return f"its core {own[0].number} is slower than core {fastest_before.number}"
        fastest_before = own[0] if own else fastest_before
    return None


def require_cores(cores: Sequence[Core], asked: Sequence[int], threads: int) -> None:
    """Make sure that `threads` threads can be pinned to the cores asked for.

    Raises:
        BadRequest: there is no such core, or they are fewer than the threads.
    """
    known = sorted(core.number for core in cores)
    absent = sorted(set(asked) - set(known)) if known else []
    if absent:
        raise BadRequest(
            f"the phone has no core {', '.join(map(str, absent))}",
            hint=f"it has {', '.join(map(str, known))}",
        )
    if len(asked) < threads:
        raise BadRequest(
            f"{threads} threads on {len(asked)} core{'s' if len(asked) > 1 else ''} would wait "
            "for each other",
            hint="name as many cores as threads",
        )


def fastest(cores: Sequence[Core], threads: int) -> tuple[int, ...]:
    """The numbers of the `threads` fastest cores; of equal ones the last. Empty where none show.

    Raises:
        BadRequest: there are fewer.
    """
    if cores and threads > len(cores):
        raise BadRequest(
            f"{threads} threads need {threads} cores, but the phone has {len(cores)}",
            hint=f"ask for at most --threads {len(cores)}",
        )
    return tuple(sorted(core.number for core in cores[-threads:]))


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
