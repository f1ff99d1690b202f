"""Differences between two LUTs besides their latencies, and what they can do to latencies.

Some differences rule out a comparison: the entries of another space are other ops, and the latencies of
another target are not expected to agree. So do intervals wider than the tolerance. Other differences are
reported because they may be the cause of drift: a newer runtime, another phone of the same model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from latbench.lut.schema import Lut
from latbench.wording import count_of, percent


@dataclass(frozen=True)
class Change:
    """One difference: `what` was `baseline` and is `current`.

    `explanation` says what it can do to latencies or, if it `blocks`, why the LUTs cannot be compared.
    """

    what: str
    baseline: str
    current: str
    explanation: str
    blocks: bool


@dataclass(frozen=True)
class _Aspect:
    """An aspect in which LUTs may differ; `of` returns None if a LUT does not record it."""

    what: str
    of: Callable[[Lut], Any]
    explanation: str
    blocks: bool = False


def _target_aspects() -> tuple[_Aspect, ...]:
    """Every field of the target but the cores, which leave the LUTs comparable."""
    reasons = {
        "device": "another device has other latencies",
        "runtime": "each runtime has its own kernels; profile with the baseline's runtime",
        "precision": "the ops compute in another number format",
        "accelerator": "the ops run on another processor",
        "threads": "the work is shared by another number of threads",
    }

    def aspect(field: str, reason: str) -> _Aspect:
        return _Aspect(field, lambda lut: str(getattr(lut.target, field)), reason, blocks=True)

    return tuple(aspect(field, reason) for field, reason in reasons.items())


_ASPECTS: tuple[_Aspect, ...] = (
    _Aspect(
        "search space",
        lambda lut: lut.search_space.arguments,
        "the entries belong to other ops",
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
        "a measured LUT and one that was not measured have no common scale",
        blocks=True,
    ),
    _Aspect(
        "emulated",
        lambda lut: lut.conditions.get("emulated"),
        "an emulator's latencies are not those of a device",
        blocks=True,
    ),
    _Aspect(
        "cores",
        lambda lut: ",".join(map(str, lut.target.cores)) or "any",
        "cores of different clusters differ much; those of a symmetric CPU hardly",
    ),
    _Aspect(
        "runtime version",
        lambda lut: lut.tool.get("runtime_version"),
        "kernels may have changed: expect some ops to change",
    ),
    _Aspect(
        "latbench version",
        lambda lut: lut.tool.get("measured_by_version"),
        "exported models or the timing method may differ",
    ),
    _Aspect(
        "runner",
        lambda lut: lut.method.get("runner"),
        "another program measured the latencies",
    ),
    _Aspect(
        "operating system",
        lambda lut: lut.method.get("operating_system"),
        "schedulers, clock control and libraries may differ",
    ),
    _Aspect(
        "system build",
        lambda lut: lut.conditions.get("build"),
        "an update may change clocks and scheduling: expect all ops to change alike",
    ),
    _Aspect(
        "ABI",
        lambda lut: lut.method.get("abi"),
        "the kernels are compiled for another instruction set",
    ),
    _Aspect(
        "unit",
        lambda lut: lut.conditions.get("unit"),
        "units of one device differ, mostly in all ops alike",
    ),
    _Aspect(
        "governors",
        lambda lut: lut.conditions.get("governors"),
        "clocks are controlled differently: expect all ops to change alike",
    ),
    _Aspect(
        "statistic",
        lambda lut: lut.method.get("statistic"),
        "the entries are another statistic of the samples",
    ),
    _Aspect(
        "reference",
        lambda lut: lut.reference and lut.reference.workload,
        "two different references do not show how the machine changed",
    ),
    _Aspect(
        "sentinel",
        lambda lut: lut.sentinel and f"{lut.sentinel.architecture}, head {lut.sentinel.head}",
        "two different sentinels do not show the overall change",
    ),
)


def changes_between(baseline: Lut, current: Lut, tolerance: float) -> tuple[Change, ...]:
    """Return the differences, those that block a comparison first.

    Intervals wider than `tolerance` (relative) block it too. An aspect that one of the LUTs does not record
    is not a difference.
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
    """`text` with unprintable characters replaced by U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _nothing_in_common(baseline: Lut, current: Lut) -> list[Change]:
    if baseline.entries.keys() & current.entries.keys():
        return []
    before, after = (count_of(len(lut), "op") for lut in (baseline, current))
    return [Change("ops", before, after, "the LUTs have no op in common", blocks=True)]


def _imprecision(baseline: Lut, current: Lut, tolerance: float) -> list[Change]:
    """Whether the median interval is too wide: not a difference, but it rules out a comparison."""
    common = baseline.entries.keys() & current.entries.keys()
    known = [
        [width for key in common if (width := lut[key].relative_half_width) is not None]
        for lut in (baseline, current)
    ]
    if min(map(len, known)) < len(common):
        before, after = (f"{len(found)} of {count_of(len(common), 'op')}" for found in known)
        reason = "without the intervals of both, a change cannot be told from noise"
        return [Change("ops with intervals", before, after, reason, blocks=True)]
    widths = [median(found) if found else 0.0 for found in known]
    if max(widths) <= tolerance:
        return []
    before, after = map(percent, widths)
    reason = (
        "for the median op, half the 95 % interval is wider than the tolerance: the machine was "
        "restless or the run too short; profile again"
    )
    return [Change("intervals", before, after, reason, blocks=True)]


def _contexts(baseline: Lut, current: Lut) -> list[Change]:
    """How many ops were timed in another context."""
    common = baseline.entries.keys() & current.entries.keys()
    others = [key for key in common if baseline[key].context != current[key].context]
    if not others:
        return []
    before, after = (
        ", ".join(sorted({lut[key].context for key in others})) for lut in (baseline, current)
    )
    reason = "an op alone has another latency than between others"
    return [Change(f"context of {count_of(len(others), 'op')}", before, after, reason, blocks=True)]


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
    reason = "intervals may be wider or narrower; medians should not change"
    return [Change("settings", texts[0], texts[1], reason, blocks=False)]


def _artifacts(baseline: Lut, current: Lut) -> list[Change]:
    """How many ops were timed with other model files."""
    before, after = (
        {key: entry.artifact_sha256 for key, entry in lut.entries.items() if entry.artifact_sha256}
        for lut in (baseline, current)
    )
    common = before.keys() & after.keys()
    others = sum(before[key] != after[key] for key in common)
    if not others:
        return []
    reason = "the timed models themselves have changed"
    now = f"other files for {others} of them"
    return [Change("model files", count_of(len(common), "op"), now, reason, blocks=False)]
