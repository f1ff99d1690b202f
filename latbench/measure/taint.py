"""The evidence against a trial. A reason reads 'kind: detail'; several are joined by '; '.

A tainted trial stays in the journal, and its workload is visited again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from latbench.device.conditions import Conditions
from latbench.measure.records import Samples
from latbench.statistics import median_of, trend

#: The largest slowdown of a unit against its baseline, relative. Trials are normalised by their slowdown
#: (`latbench.measure.slowdown`), which was seen to be common to all workloads up to about here: in a run
#: whose machine alternated between two speeds 28 % apart, ops stayed within 0.3 % of their common slowdown.
SLOWDOWN_TOLERANCE = 0.35

#: The kind of taint of samples that rise within a visit.
_RISING = "trend"

#: The kind of taint that follows from all trials of a run, and what stood for it in journals before.
SLOWDOWN = "slowdown"
_DERIVED = (SLOWDOWN, "sentinel")

#: Samples rise if Mann-Kendall's statistic exceeds this (one-sided p = 0.0013, about one false alarm in a
#: run) and Theil-Sen's slope gives at least this relative rise.
_TREND_Z = 3.0
_TREND_RISE = 0.05

#: The largest fall of a core's clock within a visit; readings jitter by a few per cent.
_CLOCK_FALL = 0.10

#: The largest share of a window in which the CPU may be stolen or throttled, and the smallest amount that
#: counts: stolen time is reported in ticks of 10 ms over all cores, so one or two tell nothing about a
#: window of a tenth of a second.
_LOST_SHARE = 0.05
_MIN_LOST_S = 0.025

#: The largest share of a visit in which its threads may wait for a core, and the smallest amount that
#: counts. The kernel's own threads take some hundredths of a millisecond now and then.
_WAITED_SHARE = 0.1
_MIN_WAITED_MS = 1.0


def joined(reasons: Iterable[str]) -> str | None:
    """The reasons as one text, or None without any."""
    return "; ".join(reasons) or None


def kinds(taint: str) -> tuple[str, ...]:
    """The kinds of the reasons in a taint."""
    return tuple(reason.partition(":")[0] for reason in taint.split("; "))


def of_slowdown(taint: str | None, level: float) -> str | None:
    """`taint` with evidence in the unit's slowdown at a trial, relative to its baseline, and with no other
    such evidence: what a slowdown is compared with changes while a run lasts, so it is never final.
    """
    if taint is None and level <= 1 + SLOWDOWN_TOLERANCE:
        return None
    reasons = () if taint is None else taint.split("; ")
    kept = [reason for reason in reasons if reason.partition(":")[0] not in _DERIVED]
    if level > 1 + SLOWDOWN_TOLERANCE:
        kept.append(f"{SLOWDOWN}: {level - 1:+.0%} over the baseline quarter")
    return joined(kept)


def is_slowdown(taint: str) -> bool:
    """Whether a slow moment is all the evidence in a taint."""
    return set(kinds(taint)) <= set(_DERIVED)


def is_rise(taint: str) -> bool:
    """Whether samples that rise are all the evidence in a taint."""
    return set(kinds(taint)) == {_RISING}


def tally(taints: Iterable[str | None]) -> dict[str, int]:
    """The number of trials per kind of reason, the most frequent first."""
    counts = Counter(kind for taint in taints if taint is not None for kind in kinds(taint))
    return dict(counts.most_common())


def of_samples(samples_ns: Samples, clocks_khz: Samples | None) -> list[str]:
    """Evidence in the samples (nanoseconds) and clocks (kHz) of a visit, in the order taken."""
    reasons = []
    third = max(2, samples_ns.size // 3)
    # The test takes longer than a fast visit, so it is skipped where the thirds of the samples agree.
    if median_of(samples_ns[-third:]) > (1 + _TREND_RISE / 2) * median_of(samples_ns[:third]):
        found = trend(samples_ns)
        if found.z > _TREND_Z and found.rise > _TREND_RISE:
            reasons.append(f"{_RISING}: samples rose by {found.rise:.0%}")
    if clocks_khz is not None and clocks_khz.size:
        fall = 1 - float((clocks_khz / np.maximum.accumulate(clocks_khz)).min())
        if fall > _CLOCK_FALL:
            reasons.append(f"clock: fell by {fall:.0%}")
    return reasons


def of_cores(expected: Sequence[int], observed: Sequence[int] | None) -> list[str]:
    """Evidence in the cores that a visit ran on; `expected` is empty if any are allowed."""
    if expected and observed is not None and sorted(expected) != sorted(observed):
        return [f"affinity: on cores {_listed(observed)} instead of {_listed(expected)}"]
    return []


def of_waiting(waited_ms: float | None, duration_s: float) -> list[str]:
    """Evidence in how long the runner waited for a core during a visit."""
    duration_ms = 1e3 * duration_s
    if waited_ms is None or waited_ms <= max(_MIN_WAITED_MS, _WAITED_SHARE * duration_ms):
        return []
    return [f"waiting: others had the core for {waited_ms:.0f} of {duration_ms:.0f} ms"]


def of_conditions(before: Conditions, after: Conditions, cores: Sequence[int]) -> list[str]:
    """Evidence in the conditions read before and after a visit on `cores`.

    Unavailable values are no evidence.
    """
    reasons = []
    status = max(before.thermal_status or 0, after.thermal_status or 0)
    if status > 0:
        reasons.append(f"thermal: status {status}")
    capped = _capped(before, cores) or _capped(after, cores)
    if capped:
        reasons.append(capped)
    # A runner is not pinned before its first load; `of_cores` checks pinned visits.
    first, last = before.affinity, after.affinity
    if not cores and first is not None and last is not None and first != last:
        reasons.append(f"affinity: allowed on cores {_listed(last)}, before on {_listed(first)}")
    window = after.time - before.time
    for kind in ("stolen", "throttled"):
        start, end = getattr(before, f"{kind}_s"), getattr(after, f"{kind}_s")
        lost = 0.0 if start is None or end is None else end - start
        if lost > max(_MIN_LOST_S, _LOST_SHARE * window):
            reasons.append(f"{kind}: the CPU was taken away for {lost:.2f} s of {window:.2f} s")
    return reasons


def _capped(conditions: Conditions, cores: Sequence[int]) -> str | None:
    limits, peaks = conditions.clock_limits_khz or {}, conditions.clock_peaks_khz or {}
    for core in cores or sorted(limits):
        if core in limits and core in peaks and limits[core] < peaks[core]:
            ghz = f"{limits[core] / 1e6:.2f} of {peaks[core] / 1e6:.2f} GHz"
            return f"clock: core {core} is limited to {ghz}"
    return None


def _listed(cores: Sequence[int]) -> str:
    return ",".join(map(str, sorted(cores)))
