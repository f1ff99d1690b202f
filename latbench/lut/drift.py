"""Compare two LUTs of one target: what became slower, what faster, and is it more than noise?

An op has drifted when its change is larger than the noise and than `REPORTED_SHARE` of the
tolerance. The tolerance is the change that must be found: one that is exactly as large is
estimated above the tolerance half of the time only, so the line is drawn below it.

    r_i      = ln(current.ms / baseline.ms)                              for each op in both LUTs
    level    = the common part of all r_i: unit, room, neighbours, or a change of everything
    change_i = r_i - level
    se_i^2   = error(baseline)^2 + error(current)^2 + memory_i^2 + se(level)^2

The error of an entry holds its interval (twice as wide where the LUT warns of it), where in memory its
runners put the model, and the dispatch of a run (`latbench.lut.ratios.error_of`). Machines are also slow
in their memory alone, when neighbours use it: `memory_i` is how much of that an op shows, by the bytes
that pass through it. How
far ops disagree every pair of LUTs says itself, so all se_i are multiplied by a scale: the spread of
change_i / se_i, drawn towards 1 the more, the fewer ops tell of it (an empirical null). Level and
spread are those of the densest half of the ops, and are estimated anew without the ops that are
found, so that a quarter of the ops may have drifted without hiding one another. With fewer than
`LEVEL_OPS` ops in common neither can be told from them, and the level is that of the sentinel.
`latbench.lut.ratios` names the sources.

p-values are two-sided, by Student's t; Benjamini and Hochberg's procedure turns those of all ops into
q-values. Where nothing changed, the probability that it reports any op is `FDR` at most.
The level and the networks are few, and share `WHOLE_ALPHA` by Bonferroni. So if the noise is what it
is taken for, at most FDR + WHOLE_ALPHA = 1 % of comparisons raise a false alarm.

Networks are predicted with the baseline's correction from the entries of either LUT, so that what the
two corrections were learnt from does not come between. Whole networks that both runs timed are
compared by themselves. They follow the state of the memory as single ops do not, and so does the
reference (`latbench.device.host.reference`), which no engine takes part in: where both runs timed the same
one, its ratio is divided out of theirs. What it does not tell is the more, the further the sentinel, a
network too, wandered within the runs.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latbench.lut.changes import Change, changes_between, printable
from latbench.lut.examine import traffic_of
from latbench.lut.ratios import (
    Noise,
    Ratio,
    Verdict,
    benjamini_hochberg,
    centre_of,
    judged,
    log_ratio_of,
    p_value,
)
from latbench.lut.schema import Lut
from latbench.space.architecture import published
from latbench.space.opspec import parse_key

#: Expected share of false discoveries among the ops that are reported.
FDR = 0.0075

#: Probability that the level or any network is reported where nothing changed.
WHOLE_ALPHA = 0.0025

#: From so many ops in common on, the level is estimated from them.
LEVEL_OPS = 16

#: The networks whose predictions are compared.
NETWORKS = ("fbnet_a", "fbnet_b", "fbnet_c")


@dataclass(frozen=True)
class Level(Ratio):
    """The common part of all ops' ratios.

    `source` says what it was estimated from; where it is `nothing`, the ratio is 1 by assumption.
    `scale` is what the errors of ops were multiplied by, as far as they disagree: far above 1, more
    changed than can be told op by op.
    """

    source: Literal["entries", "sentinel", "nothing"]
    scale: float


@dataclass(frozen=True)
class EntryDrift:
    """What became of one op; milliseconds at batch 1, None where a LUT lacks it.

    `change` is the op's ratio after the level is divided out, None where a LUT lacks it. `q` is the
    smallest false discovery rate at which it would count as changed.
    """

    key: str
    baseline_ms: float | None
    current_ms: float | None
    change: Ratio | None
    q: float | None
    verdict: Verdict


@dataclass(frozen=True)
class NetworkDrift:
    """The predicted latency of one published network in the LUTs' space, milliseconds at batch 1.

    `change` holds ops and level together. The one called "N timed" is the geometric mean of the N
    networks that both runs timed, as measured; in its `change` the reference is divided out.
    """

    name: str
    baseline_ms: float
    current_ms: float
    change: Ratio


@dataclass(frozen=True)
class LutSummary:
    """Which LUT was compared."""

    target: str
    space: str
    created: str
    entries: int
    content_sha256: str


@dataclass(frozen=True)
class DriftReport:
    """What `compare_luts` found.

    Args:
        baseline, current: which LUTs were compared.
        tolerance, level_tolerance: the changes that had to be found, relative.
        changes: what differs between the LUTs besides the numbers. Where one of them `blocks`, the
            LUTs cannot be compared: there is no level, no entry and no network.
        level: None where the LUTs cannot be compared.
        reference_ratio: how much slower the reference became; None if not the same was timed.
        entries: by key.
        networks: those of `NETWORKS` that both LUTs can predict, and those that both runs timed.
    """

    baseline: LutSummary
    current: LutSummary
    tolerance: float
    level_tolerance: float
    changes: tuple[Change, ...]
    level: Level | None
    reference_ratio: float | None
    entries: tuple[EntryDrift, ...]
    networks: tuple[NetworkDrift, ...]

    @property
    def comparable(self) -> bool:
        """Whether the LUTs can be compared."""
        return self.level is not None

    def of(self, verdict: Verdict) -> tuple[EntryDrift, ...]:
        """The ops with this verdict, those that changed most first."""
        chosen = [entry for entry in self.entries if entry.verdict is verdict]
        return tuple(sorted(chosen, key=_surest))

    @property
    def drifted(self) -> bool:
        """Whether an op, a network or the level is slower or faster, or an op is missing."""
        whole = [self.level] if self.level else []
        ratios = [*whole, *(network.change for network in self.networks)]
        told = (Verdict.SLOWER, Verdict.FASTER, Verdict.MISSING)
        return any(ratio.drifted for ratio in ratios) or any(
            entry.verdict in told for entry in self.entries
        )

    @property
    def unseen(self) -> tuple[float, ...]:
        """What is detectable in ops too noisy for a change as large as the tolerance to be sure."""
        found = (entry.change.detectable for entry in self.entries if entry.change is not None)
        return tuple(ratio for ratio in found if ratio > 1 + self.tolerance)


def compare_luts(
    baseline: Lut,
    current: Lut,
    *,
    tolerance: float = 0.05,
    level_tolerance: float = 0.03,
    require_all: bool = True,
    noise: Noise | None = None,
) -> DriftReport:
    """Compare two LUTs of one target and space.

    Args:
        tolerance: the relative change of one op that must be found.
        level_tolerance: that of everything, and of a whole network.
        require_all: whether ops that `current` lacks have drifted; otherwise they are left out.
        noise: by default `Noise()`.

    Returns:
        A report; it is not `comparable` where the LUTs are of different things.
    """
    noise = noise or Noise()
    reference = _reference_change(baseline, current, noise)
    report = DriftReport(
        baseline=_summary(baseline),
        current=_summary(current),
        tolerance=tolerance,
        level_tolerance=level_tolerance,
        changes=changes_between(baseline, current, tolerance),
        level=None,
        reference_ratio=None if reference is None else math.exp(reference[0]),
        entries=(),
        networks=(),
    )
    if any(change.blocks for change in report.changes):
        return report
    pairs = _pairs(baseline, current, reference, noise)
    networks = [
        *_predicted_networks(baseline, current, pairs, noise),
        *_timed_networks(baseline, current, reference, noise),
    ]
    alpha = WHOLE_ALPHA / (1 + len(networks))

    def judge(value: float, error: float) -> Ratio:
        return judged(value, error, level_tolerance, alpha, p_value(value / error) <= alpha)

    level = judge(pairs.level, math.hypot(pairs.level_error, noise.level_sd))
    if pairs.source == "nothing":
        level = replace(level, verdict=Verdict.SAME)
    return replace(
        report,
        level=Level(**vars(level), source=pairs.source, scale=pairs.scale),
        entries=_entries(baseline, current, pairs, tolerance, require_all),
        networks=tuple(
            NetworkDrift(one.name, one.before, one.after, judge(one.value, one.error))
            for one in networks
        ),
    )


def _surest(entry: EntryDrift) -> tuple[float, float]:
    """Orders ops, those first that surely changed, and changed most."""
    if entry.change is None:
        return 0.0, 0.0
    return entry.change.p, -abs(math.log(entry.change.ratio))


def _reference_change(baseline: Lut, current: Lut, noise: Noise) -> tuple[float, float] | None:
    """ln of how much slower the workload without an engine became, and its standard error.

    None if not the same was timed.
    """
    before, after = baseline.reference, current.reference
    if before is None or after is None or before.workload != after.workload:
        return None
    return log_ratio_of(before, after, noise)


@dataclass(frozen=True)
class _Pairs:
    """The ops that both LUTs have: logarithmic ratios, their errors, and the level they share.

    `errors` are standard errors of `log_ratios`, scaled by `scale`; `memory` is the part of them, not
    scaled, that all ops share. The level's own is `level_error`.
    """

    keys: tuple[str, ...]
    log_ratios: NDArray[np.float64]
    errors: NDArray[np.float64]
    memory: NDArray[np.float64]
    level: float
    level_error: float
    scale: float
    source: Literal["entries", "sentinel", "nothing"]


def _pairs(
    baseline: Lut, current: Lut, reference: tuple[float, float] | None, noise: Noise
) -> _Pairs:
    keys = tuple(sorted(baseline.entries.keys() & current.entries.keys()))
    pairs = [log_ratio_of(baseline[key], current[key], noise) for key in keys]
    log_ratios, errors = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    precision = baseline.target.precision
    sensitivity = np.array(
        [noise.sensitivity(traffic_of(parse_key(key), precision)) for key in keys]
    )
    level, level_error, scale = 0.0, noise.level_sd, 1.0
    source: Literal["entries", "sentinel", "nothing"] = "nothing"
    memory = sensitivity * noise.memory_sd
    before, after = baseline.sentinel, current.sentinel
    if len(keys) >= LEVEL_OPS:
        if reference is not None:
            middle = float(np.median(log_ratios))
            memory = sensitivity * math.hypot(reference[0] - middle, noise.memory_left_sd)
        errors = np.hypot(errors, memory)
        level, level_error, scale = _level_of_entries(log_ratios, errors)
        errors, source = errors * scale, "entries"
    elif (
        before
        and after
        and (before.architecture, before.head)
        == (
            after.architecture,
            after.head,
        )
    ):
        level, level_error = log_ratio_of(before, after, noise)
        source = "sentinel"
    return _Pairs(keys, log_ratios, errors, memory, level, level_error, scale, source)


def _level_of_entries(
    log_ratios: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[float, float, float]:
    """(level, its standard error, what the errors of ops are to be multiplied by).

    Ops that differ from the level make the spread seem larger, and so hide one another. Those that
    are found nevertheless are left out, and the rest estimates both anew, until none is found.
    """
    kept = np.ones(log_ratios.size, dtype=np.bool_)
    while True:
        level, level_error, scale = centre_of(log_ratios[kept], errors[kept])
        scaled = np.hypot(errors * scale, level_error)
        found = _q_values((log_ratios - level) / scaled) <= FDR
        remaining = kept & ~found
        if np.array_equal(remaining, kept) or remaining.sum() <= log_ratios.size / 2:
            return level, level_error, scale
        kept = remaining


def _q_values(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return benjamini_hochberg([p_value(value) for value in z.tolist()])


def _entries(
    baseline: Lut, current: Lut, pairs: _Pairs, tolerance: float, require_all: bool
) -> tuple[EntryDrift, ...]:
    """What became of every op, by key."""
    values = pairs.log_ratios - pairs.level
    errors = np.hypot(pairs.errors, pairs.level_error)
    q_values = _q_values(values / errors)
    found = []
    columns = (values.tolist(), errors.tolist(), q_values.tolist())
    for key, value, error, q in zip(pairs.keys, *columns, strict=True):
        # Found by itself, an op has to reach FDR / m; among others, less.
        change = judged(value, error, tolerance, FDR / len(pairs.keys), q <= FDR)
        before, after = baseline[key].ms, current[key].ms
        found.append(EntryDrift(key, before, after, change, q, change.verdict))
    if require_all:
        for key in baseline.entries.keys() - current.entries.keys():
            found.append(EntryDrift(key, baseline[key].ms, None, None, None, Verdict.MISSING))
    for key in current.entries.keys() - baseline.entries.keys():
        found.append(EntryDrift(key, None, current[key].ms, None, None, Verdict.NEW))
    return tuple(sorted(found, key=lambda entry: entry.key))


@dataclass(frozen=True)
class _Network:
    """A network in both LUTs, ms; the logarithmic ratio that is judged, and its standard error."""

    name: str
    before: float
    after: float
    value: float
    error: float


def _predicted_networks(baseline: Lut, current: Lut, pairs: _Pairs, noise: Noise) -> list[_Network]:
    """The published networks whose ops are in both LUTs.

    The error holds that of the ops; not what the correction leaves unexplained, for that is in both
    predictions alike.
    """
    errors = dict(zip(pairs.keys, zip(pairs.errors, pairs.memory, strict=True), strict=True))
    found = []
    for name in NETWORKS:
        ops = published(name, space=baseline.search_space).ops
        counts = Counter(ops)
        if any(op.key not in errors for op in counts):
            continue
        times = {op: count * baseline.corrected_ms(op) for op, count in counts.items()}
        before = baseline.network_ms(ops)
        later = sum(ms * current[op].ms / baseline[op].ms for op, ms in times.items())
        # Transitions are work of the same machine: they follow what the ops do together.
        made = before - baseline.offset_ms - sum(times.values())
        after = baseline.offset_ms + later + made * later / sum(times.values())
        if min(before, after) <= 0:  # an offset below zero, larger than the ops
            continue
        own = math.hypot(*(ms * errors[op.key][0] for op, ms in times.items()))
        shared = sum(ms * errors[op.key][1] for op, ms in times.items())
        error = math.hypot(own / before, shared / before, noise.level_sd)
        found.append(_Network(name, before, after, math.log(after / before), error))
    return found


def _timed_networks(
    baseline: Lut, current: Lut, reference: tuple[float, float] | None, noise: Noise
) -> list[_Network]:
    """The networks that both runs timed, all in one: their geometric means."""
    before, after = (
        {(one.layers, one.head): one for one in lut.correction.calibration}
        if lut.correction
        else {}
        for lut in (baseline, current)
    )
    common = sorted(before.keys() & after.keys())
    if len(common) < 2:
        return []
    ratios = [log_ratio_of(before[key], after[key], noise) for key in common]
    values, errors = np.array(ratios).T
    # Where networks disagree by more than their intervals explain, they say so themselves.
    error = max(float(np.sqrt(np.mean(errors**2))), float(values.std(ddof=1)))
    means = [math.exp(fmean(math.log(lut[key].ms) for key in common)) for lut in (before, after)]
    if reference is None:
        removed, deviation = 0.0, math.hypot(noise.level_sd, noise.memory_sd)
    else:
        wandered = max(lut.sentinel.drift if lut.sentinel else 0.0 for lut in (baseline, current))
        removed = reference[0]
        deviation = math.hypot(reference[1], noise.reference_sd, noise.wandered_share * wandered)
    value = math.log(means[1] / means[0]) - removed
    error = math.hypot(error / math.sqrt(len(common)), deviation)
    return [_Network(f"{len(common)} timed", means[0], means[1], value, error)]


def _summary(lut: Lut) -> LutSummary:
    return LutSummary(
        target=printable(str(lut.target)),
        space=str(lut.search_space),
        created=lut.created.isoformat(timespec="seconds"),
        entries=len(lut),
        content_sha256=lut.content_sha256,
    )
