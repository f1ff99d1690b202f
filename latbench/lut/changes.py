"""What differs between two LUTs besides their numbers, and what that can do to the numbers.

Some differences make a comparison meaningless: entries of another space are other ops, and those of
another target are not expected to be alike. So do intervals that are wider than the tolerance. Other
differences are told, for they may be the reason: a newer runtime, another phone of the same model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from latbench.lut.schema import Lut


@dataclass(frozen=True)
class Change:
    """One difference: `what` was `baseline` and is `current`.

    `explanation` says what it can do to latencies, or why the LUTs cannot be compared where it
    `blocks`.
    """

    what: str
    baseline: str
    current: str
    explanation: str
    blocks: bool


@dataclass(frozen=True)
class _Aspect:
    """Something that LUTs may differ in; `of` returns None where a LUT does not tell it."""

    what: str
    of: Callable[[Lut], Any]
    explanation: str
    blocks: bool = False


def _target_aspects() -> tuple[_Aspect, ...]:
    """Every field of the target; only another core set leaves the LUTs comparable."""
    reasons = {
        "device": "another device has other latencies, whatever happened to this one",
        "runtime": "runtimes have kernels of their own; profile with the baseline's",
        "precision": "the ops compute in another number format",
        "accelerator": "the ops run on another processor",
        "threads": "another number of threads shares the work",
    }

    def aspect(field: str, reason: str) -> _Aspect:
        return _Aspect(field, lambda lut: str(getattr(lut.target, field)), reason, blocks=True)

    return tuple(aspect(field, reason) for field, reason in reasons.items())


_ASPECTS: tuple[_Aspect, ...] = (
    _Aspect(
        "search space",
        lambda lut: lut.search_space.arguments,
        "the entries are of other ops",
        blocks=True,
    ),
    *_target_aspects(),
    _Aspect(
        "machine",
        lambda lut: lut.conditions.get("description") if lut.target.device == "host" else None,
        "another host is another device",
        blocks=True,
    ),
    _Aspect(
        "provenance",
        lambda lut: lut.provenance,
        "what was measured says nothing of how something else was made",
        blocks=True,
    ),
    _Aspect(
        "emulated",
        lambda lut: lut.conditions.get("emulated"),
        "an emulator's latencies are not a device's",
        blocks=True,
    ),
    _Aspect(
        "cores",
        lambda lut: ",".join(map(str, lut.target.cores)) or "any",
        "cores of another cluster differ much; on a symmetric CPU expect little",
    ),
    _Aspect(
        "runtime version",
        lambda lut: lut.tool.get("runtime_version"),
        "kernels may be new: a change of some ops is probably the runtime's doing",
    ),
    _Aspect(
        "latbench version",
        lambda lut: lut.tool.get("measured_by_version"),
        "exported files or the way of timing may differ",
    ),
    _Aspect(
        "runner",
        lambda lut: lut.method.get("runner"),
        "another program took the times",
    ),
    _Aspect(
        "operating system",
        lambda lut: lut.method.get("operating_system"),
        "schedulers, clocks and libraries differ",
    ),
    _Aspect(
        "system build",
        lambda lut: lut.conditions.get("build"),
        "an update may change clocks and scheduling: expect all ops to move together",
    ),
    _Aspect(
        "ABI",
        lambda lut: lut.method.get("abi"),
        "the kernels are compiled for other instructions",
    ),
    _Aspect(
        "unit",
        lambda lut: lut.conditions.get("unit"),
        "units of one model differ, mostly all ops together",
    ),
    _Aspect(
        "governors",
        lambda lut: lut.conditions.get("governors"),
        "clocks are chosen by another rule: expect all ops to move together",
    ),
    _Aspect(
        "statistic",
        lambda lut: lut.method.get("statistic"),
        "the entries are another statistic of the samples",
    ),
    _Aspect(
        "reference",
        lambda lut: lut.reference and lut.reference.workload,
        "two workloads do not tell how the machine's level moved",
    ),
    _Aspect(
        "sentinel",
        lambda lut: lut.sentinel and f"{lut.sentinel.architecture}, head {lut.sentinel.head}",
        "sentinels of two networks say nothing of the level",
    ),
)


def changes_between(baseline: Lut, current: Lut, tolerance: float) -> tuple[Change, ...]:
    """Return what differs, what makes a comparison meaningless first.

    Intervals that are wider than `tolerance` (relative) make it meaningless, too.

    What one of the LUTs does not tell is not a difference.
    """
    changes = []
    for aspect in _ASPECTS:
        before, after = aspect.of(baseline), aspect.of(current)
        if None not in (before, after) and before != after:
            change = (aspect.what, _plain(before), _plain(after), aspect.explanation)
            changes.append(Change(*change, blocks=aspect.blocks))
    changes += _nothing_in_common(baseline, current)
    changes += _imprecision(baseline, current, tolerance)
    changes += _contexts(baseline, current)
    changes += _settings(baseline, current)
    changes += _artifacts(baseline, current)
    return tuple(sorted(changes, key=lambda change: not change.blocks))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value if isinstance(value, str) else repr(value))


def printable(text: str) -> str:
    """`text` with a mark for whatever a terminal or a file could not show as it is."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _nothing_in_common(baseline: Lut, current: Lut) -> list[Change]:
    if baseline.entries.keys() & current.entries.keys():
        return []
    before, after = (f"{len(lut)} ops" for lut in (baseline, current))
    return [Change("ops", before, after, "no op is in both LUTs", blocks=True)]


def _imprecision(baseline: Lut, current: Lut, tolerance: float) -> list[Change]:
    """Whether an interval is typically too wide; no difference, but a reason not to compare."""
    common = baseline.entries.keys() & current.entries.keys()
    widths = [
        median(lut[key].relative_half_width for key in common) if common else 0.0
        for lut in (baseline, current)
    ]
    if max(widths) <= tolerance:
        return []
    before, after = (f"{width:.1%}" for width in widths)
    reason = (
        "half the 95 % interval of the middle op is wider than the tolerance: the machine was "
        "restless, or the run too short; profile again"
    )
    return [Change("intervals", before, after, reason, blocks=True)]


def _contexts(baseline: Lut, current: Lut) -> list[Change]:
    """How many ops were timed in other company."""
    common = baseline.entries.keys() & current.entries.keys()
    others = [key for key in common if baseline[key].context != current[key].context]
    if not others:
        return []
    before, after = (
        ", ".join(sorted({lut[key].context for key in others})) for lut in (baseline, current)
    )
    reason = "an op takes another time alone than between others"
    return [Change(f"context of {len(others)} ops", before, after, reason, blocks=True)]


def _settings(baseline: Lut, current: Lut) -> list[Change]:
    """The settings that differ, as one change."""
    before, after = (
        settings if isinstance(settings := lut.method.get("settings"), Mapping) else {}
        for lut in (baseline, current)
    )
    if not before or not after:
        return []
    keys = sorted(before.keys() | after.keys())
    differing = [key for key in keys if before.get(key) != after.get(key)]
    if not differing:
        return []
    texts = [
        printable(", ".join(f"{key} {settings.get(key, '-')}" for key in differing))
        for settings in (before, after)
    ]
    reason = "intervals may be wider or narrower; the medians should not move"
    return [Change("settings", texts[0], texts[1], reason, blocks=False)]


def _artifacts(baseline: Lut, current: Lut) -> list[Change]:
    """How many ops were timed in other files."""
    before, after = (
        {key: entry.artifact_sha256 for key, entry in lut.entries.items() if entry.artifact_sha256}
        for lut in (baseline, current)
    )
    common = before.keys() & after.keys()
    others = sum(before[key] != after[key] for key in common)
    if not others:
        return []
    reason = "what is timed has changed, not only what it takes"
    now = f"other files for {others} of them"
    return [Change("model files", f"{len(common)} ops", now, reason, blocks=False)]
