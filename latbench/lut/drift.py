"""Compare two LUTs of one target: what became slower, what faster, and is it more than noise?

An op has drifted when its change is larger than the noise and than `REPORTED_SHARE` of the
tolerance. The tolerance is the change that must be found: a change of exactly that size is
estimated above the tolerance only half of the time, so the threshold is below it.

    r_i      = ln(current.ms / baseline.ms)                  for each op in both LUTs
    overall  = the common part of all r_i: unit, temperature, neighbours, or a change of everything
    memory_i = slope * (sensitivity_i - middle)              the state of the memory
    change_i = r_i - overall - memory_i
    se_i^2   = (scale * error_i)^2 + se(overall)^2 + se(memory_i)^2

The error of an entry combines its interval (doubled where the LUT has a warning about it), the placement
of models in memory, and the dispatch of a run (`latbench.lut.ratios.error_of`). Neighbours can also slow
down the memory alone: an op's sensitivity to that is proportional to the bytes it moves, and the slope is
that of the ops of this pair of LUTs. What the slope takes from the ops that move many bytes is not lost:
a runtime that became slower at those alone is slower at whole networks too, and the reference is not.

`scale` is the spread of change_i / error_i over the ops of this pair of LUTs, at least 1 (an empirical
null). The overall change and the
spread are those of the densest half of the ops, and all is estimated again without the ops that were
found, so that a quarter of the ops can drift without hiding one another. With fewer than `MIN_OPS` common
ops nothing of it can be estimated, and the overall change is that of the sentinel. `latbench.lut.ratios`
names the sources.

The overall change has two possible causes. The reference (`latbench.device.host.reference`) uses no
inference runtime, so its change is the *machine's*. Whole networks are compared with it, since like the
reference, and unlike single ops, they move more than a core's own cache holds: *beyond* the machine is

    beyond = mean of ln(current.ms / baseline.ms) of the networks that both runs timed - that of the reference

or, without such networks, the overall change of the ops less that of the reference. That is what counts,
unless `strict_level` lets the overall change count as it is. Where a LUT has no reference, nothing tells
the two causes apart, and the overall change counts if it is larger than machines vary by themselves.

Networks are predicted from the entries of either LUT with the baseline's correction, so that a difference
between the two corrections plays no part. What the machine explains is divided out.

p-values are two-sided, from Student's t. The procedure of Benjamini and Hochberg turns those of all ops
into q-values: where nothing changed, the probability that any op is reported is at most `FDR`. A change
of everything has `LEVEL_ALPHA`, and the predicted networks share `NETWORK_ALPHA` (Bonferroni). So if the
noise is as modelled, at most 1 % of comparisons raise a false alarm.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latbench.lut.changes import Change, changes_between, printable
from latbench.lut.flags import traffic_of
from latbench.lut.ratios import (
    Common,
    Noise,
    Ratio,
    Verdict,
    common_of,
    judged,
    log_ratio_of,
    p_value,
)
from latbench.lut.schema import Lut
from latbench.space.design import landmark_networks
from latbench.space.opspec import parse_key

#: The expected share of false discoveries among the reported ops.
FDR = 0.005

#: The probability that a change of everything is reported where nothing changed.
LEVEL_ALPHA = 0.004

#: The same for any predicted network.
NETWORK_ALPHA = 0.001

#: The overall change is estimated from the ops if both LUTs have at least this many.
MIN_OPS = 16


@dataclass(frozen=True)
class OverallChange(Ratio):
    """The common part of all ops' ratios.

    `source` is what it was estimated from; with `nothing`, the ratio is 1 by assumption. `scale` is what
    the errors of ops were multiplied by because the ops disagree more or less than their errors explain;
    far above 1, more has changed than can be attributed to single ops.
    """

    source: Literal["entries", "sentinel", "nothing"]
    scale: float


@dataclass(frozen=True)
class EntryDrift:
    """The result for one op; milliseconds at batch 1, None where a LUT has no entry.

    `change` is the op's ratio with the overall change divided out, None where a LUT has no entry. `q` is the
    smallest false discovery rate at which the op would count as changed.
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

    `change` includes the overall change, but not what the reference explains of it unless `strict_level`. The
    one called "N timed" is the geometric mean of the N networks that both runs timed, as measured; in its
    `change` the reference is always divided out.
    """

    name: str
    baseline_ms: float
    current_ms: float
    change: Ratio


@dataclass(frozen=True)
class LutSummary:
    """Which LUT was compared; `entries` is their number, `reference` the name of the reference, if any."""

    target: str
    space: str
    created: str
    entries: int
    content_sha256: str
    reference: str | None


@dataclass(frozen=True)
class DriftReport:
    """The result of `compare_luts`.

    Args:
        baseline, current: which LUTs were compared.
        tolerance, level_tolerance: the relative changes that must be found, of an op and of everything.
        changes: what differs between the LUTs besides the latencies. If one of them `blocks`, the LUTs
            cannot be compared: `overall` is None, `entries` and `networks` are empty.
        strict_level: whether a change that the reference explains counts as drift too.
        overall: the change common to all ops, whatever its cause.
        machine: the change of the reference: what the machine explains; None if the references differ.
        beyond: the overall change with that of the machine divided out; None without a reference.
        entries: one per op, by key.
        networks: the landmark networks (`latbench.space.design`) that both LUTs can predict, and those that
            both runs timed.
    """

    baseline: LutSummary
    current: LutSummary
    tolerance: float
    level_tolerance: float
    changes: tuple[Change, ...]
    strict_level: bool
    overall: OverallChange | None
    machine: Ratio | None
    beyond: Ratio | None
    entries: tuple[EntryDrift, ...]
    networks: tuple[NetworkDrift, ...]

    @property
    def comparable(self) -> bool:
        """Whether the LUTs can be compared."""
        return self.overall is not None

    def of(self, verdict: Verdict) -> tuple[EntryDrift, ...]:
        """The ops with this verdict, the most significant first."""
        chosen = [entry for entry in self.entries if entry.verdict is verdict]
        return tuple(sorted(chosen, key=_surest))

    @property
    def reference_ratio(self) -> float | None:
        """Current over baseline latency of the reference; None if the references differ."""
        return None if self.machine is None else self.machine.ratio

    @property
    def level(self) -> Ratio | None:
        """The change of everything that counts: `beyond`, or all of it where nothing explains any."""
        return self.overall if self.strict_level or self.beyond is None else self.beyond

    @property
    def level_drifted(self) -> bool:
        """Whether everything is slower or faster, beyond the machine unless `strict_level`."""
        return self.level is not None and self.level.drifted

    @property
    def drifted(self) -> bool:
        """Whether an op, a network or everything is slower or faster, or an op is missing."""
        drift = (Verdict.SLOWER, Verdict.FASTER, Verdict.MISSING)
        return (
            self.level_drifted
            or any(network.change.drifted for network in self.networks)
            or any(entry.verdict in drift for entry in self.entries)
        )

    @property
    def undetectable(self) -> tuple[float, ...]:
        """The detectable ratios of the ops too noisy for a change as large as the tolerance to be found."""
        ratios = (entry.change.detectable for entry in self.entries if entry.change is not None)
        return tuple(ratio for ratio in ratios if ratio > 1 + self.tolerance)


def compare_luts(
    baseline: Lut,
    current: Lut,
    *,
    tolerance: float = 0.05,
    level_tolerance: float = 0.03,
    require_all: bool = True,
    strict_level: bool = False,
    noise: Noise | None = None,
) -> DriftReport:
    """Compare two LUTs of one target and space.

    Args:
        tolerance: the relative change of one op that must be found.
        level_tolerance: the relative change of everything, and of a whole network, that must be found.
        require_all: whether ops without an entry in `current` count as drift; otherwise they are left out.
        strict_level: whether a change of everything counts as drift even if the reference explains it. By
            default it is that of the machine, and does not.
        noise: the noise between runs; by default `Noise()`.

    Returns:
        A report; not `comparable` if the LUTs have different targets or spaces, or are too imprecise.
    """
    noise = noise or Noise()
    reference = _reference_change(baseline, current, noise)
    report = DriftReport(
        baseline=_summary(baseline),
        current=_summary(current),
        tolerance=tolerance,
        level_tolerance=level_tolerance,
        changes=changes_between(baseline, current, tolerance),
        strict_level=strict_level,
        overall=None,
        machine=None if reference is None else _judge(*reference, level_tolerance, LEVEL_ALPHA),
        beyond=None,
        entries=(),
        networks=(),
    )
    if any(change.blocks for change in report.changes):
        return report
    pairs = _pairs(baseline, current, noise)
    timed = _timed_networks(baseline, current, noise)
    machine = None if reference is None else _of_machine(baseline, current, reference, noise)
    explained = None if strict_level else machine
    alone = noise.overall_sd if strict_level else noise.unexplained_sd
    overall = _judge(
        pairs.overall, math.hypot(pairs.overall_error, alone), level_tolerance, LEVEL_ALPHA
    )
    beyond = None
    if pairs.source == "nothing":
        overall = replace(overall, verdict=Verdict.SAME)
    if machine is not None and (timed is not None or pairs.source != "nothing"):
        beyond = _judge(*_beyond(pairs, timed, machine, noise), level_tolerance, LEVEL_ALPHA)
    predicted = _predicted_networks(baseline, current, pairs, explained, alone, noise)
    alpha = NETWORK_ALPHA / max(1, len(predicted))
    networks = [
        NetworkDrift(
            one.name, one.before, one.after, _judge(one.value, one.error, level_tolerance, alpha)
        )
        for one in predicted
    ]
    if timed is not None:
        change = beyond or _judge(
            timed.value,
            math.hypot(timed.error, alone, noise.memory_sd),
            level_tolerance,
            NETWORK_ALPHA,
        )
        networks.append(NetworkDrift(timed.name, timed.before, timed.after, change))
    return replace(
        report,
        overall=OverallChange(**vars(overall), source=pairs.source, scale=pairs.scale),
        beyond=beyond,
        entries=_entries(baseline, current, pairs, tolerance, require_all),
        networks=tuple(networks),
    )


def _judge(value: float, error: float, tolerance: float, alpha: float) -> Ratio:
    """Judge a logarithmic ratio that stands alone."""
    return judged(value, error, tolerance, alpha, p_value(value / error) <= alpha)


def _surest(entry: EntryDrift) -> tuple[float, float]:
    """Sort key: by p-value, then by the size of the change."""
    if entry.change is None:
        return 0.0, 0.0
    return entry.change.p, -abs(math.log(entry.change.ratio))


def _reference_change(baseline: Lut, current: Lut, noise: Noise) -> tuple[float, float] | None:
    """ln(current / baseline) of the reference and its standard error; None if the references differ."""
    before, after = baseline.reference, current.reference
    if before is None or after is None or before.workload != after.workload:
        return None
    return log_ratio_of(before, after, noise)


@dataclass(frozen=True)
class _Pairs:
    """The ops that both LUTs have: logarithmic ratios, their standard errors, and the overall change (ln).

    `memory` is the part of each ratio that the state of the memory explains, and `errors` include its error
    and are multiplied by `scale`. `overall_error` is the standard error of `overall`.
    """

    keys: tuple[str, ...]
    log_ratios: NDArray[np.float64]
    errors: NDArray[np.float64]
    memory: NDArray[np.float64]
    overall: float
    overall_error: float
    scale: float
    source: Literal["entries", "sentinel", "nothing"]

    @property
    def changes(self) -> NDArray[np.float64]:
        """The change of each op beyond what all ops have in common (ln)."""
        return self.log_ratios - self.overall - self.memory


def _pairs(baseline: Lut, current: Lut, noise: Noise) -> _Pairs:
    keys = tuple(sorted(baseline.entries.keys() & current.entries.keys()))
    pairs = [log_ratio_of(baseline[key], current[key], noise) for key in keys]
    log_ratios, errors = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    precision = baseline.target.precision
    sensitivity = np.array(
        [noise.sensitivity(traffic_of(parse_key(key), precision)) for key in keys]
    )
    before, after = baseline.sentinel, current.sentinel
    if len(keys) >= MIN_OPS:
        common = _common_of(log_ratios, errors, sensitivity, noise)
        moved = sensitivity - common.middle
        memory = common.slope * moved
        errors = np.hypot(errors * common.scale, common.slope_error * moved)
        errors = np.hypot(errors, noise.sensitivity_share * memory)
        return _Pairs(
            keys, log_ratios, errors, memory, common.centre, common.error, common.scale, "entries"
        )
    # Of a few ops, neither the state of the memory nor the overall change can be estimated.
    memory, errors = np.zeros(len(keys)), np.hypot(errors, sensitivity * noise.memory_sd)
    if (
        before
        and after
        and (before.architecture, before.head)
        == (
            after.architecture,
            after.head,
        )
    ):
        overall, error = log_ratio_of(before, after, noise)
        return _Pairs(keys, log_ratios, errors, memory, overall, error, 1.0, "sentinel")
    return _Pairs(keys, log_ratios, errors, memory, 0.0, noise.overall_sd, 1.0, "nothing")


def _common_of(
    log_ratios: NDArray[np.float64],
    errors: NDArray[np.float64],
    sensitivity: NDArray[np.float64],
    noise: Noise,
) -> Common:
    """What the ops have in common.

    Ops that drifted inflate the spread, and so hide one another. Those found nevertheless are left out
    and all is estimated again, until no more are found.
    """
    kept = np.ones(log_ratios.size, dtype=np.bool_)
    while True:
        common = common_of(log_ratios[kept], errors[kept], sensitivity[kept], noise.memory_sd)
        scaled = np.hypot(errors * common.scale, common.error)
        found = _q_values((log_ratios - common.at(sensitivity)) / scaled) <= FDR
        remaining = kept & ~found
        if np.array_equal(remaining, kept) or remaining.sum() <= log_ratios.size / 2:
            return common
        kept = remaining


def _q_values(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The q-value of each deviation of `z` standard errors (Benjamini and Hochberg)."""
    from scipy.stats import false_discovery_control

    q: NDArray[np.float64] = false_discovery_control([p_value(value) for value in z.tolist()])
    return q


def _entries(
    baseline: Lut, current: Lut, pairs: _Pairs, tolerance: float, require_all: bool
) -> tuple[EntryDrift, ...]:
    """The result for every op, by key."""
    values = pairs.changes
    errors = np.hypot(pairs.errors, pairs.overall_error)
    q_values = _q_values(values / errors)
    found = []
    columns = (values.tolist(), errors.tolist(), q_values.tolist())
    for key, value, error, q in zip(pairs.keys, *columns, strict=True):
        # The only op to drift must reach FDR / m; one of several, less.
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
    """A network in both LUTs, milliseconds; the logarithmic ratio to judge, and its standard error."""

    name: str
    before: float
    after: float
    value: float
    error: float


def _predicted_networks(
    baseline: Lut,
    current: Lut,
    pairs: _Pairs,
    explained: tuple[float, float] | None,
    alone: float,
    noise: Noise,
) -> list[_Network]:
    """The landmark networks whose ops are in both LUTs; what the machine explains is divided out.

    The error is that of the ops, and how well they follow the reference; `alone` without one. The
    correction's residual is left out: it is the same in both predictions.
    """
    removed, deviation = 0.0, alone
    if explained is not None:
        removed, deviation = explained[0], math.hypot(explained[1], noise.ops_sd)
    errors = dict(zip(pairs.keys, pairs.errors.tolist(), strict=True))
    found = []
    for name, network in landmark_networks(baseline.search_space).items():
        ops = network.ops
        counts = Counter(ops)
        if any(op.key not in errors for op in counts):
            continue
        times = {op: count * baseline.corrected_ms(op) for op, count in counts.items()}
        before = baseline.network_ms(ops)
        later = sum(ms * current[op].ms / baseline[op].ms for op, ms in times.items())
        # Boundary costs are work of the same machine, so they change as the ops do together.
        boundaries = before - baseline.offset_ms - sum(times.values())
        after = baseline.offset_ms + later + boundaries * later / sum(times.values())
        if min(before, after) <= 0:  # a negative offset that exceeds the ops
            continue
        own = math.hypot(*(ms * errors[op.key] for op, ms in times.items())) / before
        value, error = math.log(after / before) - removed, math.hypot(own, deviation)
        found.append(_Network(name, before, after, value, error))
    return found


def _of_machine(
    baseline: Lut, current: Lut, reference: tuple[float, float], noise: Noise
) -> tuple[float, float]:
    """The change that is the machine's (ln), and its standard error: how well the reference tells it."""
    wandered = max(lut.sentinel.drift if lut.sentinel else 0.0 for lut in (baseline, current))
    errors = noise.believed * reference[1], noise.reference_sd, noise.wandered_share * wandered
    return reference[0], math.hypot(*errors)


def _beyond(
    pairs: _Pairs, timed: _Network | None, machine: tuple[float, float], noise: Noise
) -> tuple[float, float]:
    """The overall change beyond the machine's (ln), and its standard error.

    Whole networks show it best: like the reference, they move more than a core's own cache holds.
    """
    if timed is None:
        error = math.hypot(pairs.overall_error, machine[1], noise.ops_sd)
        return pairs.overall - machine[0], error
    return timed.value - machine[0], math.hypot(noise.believed * timed.error, machine[1])


def _timed_networks(baseline: Lut, current: Lut, noise: Noise) -> _Network | None:
    """The networks that both runs timed, as one: their geometric mean; None if they are fewer than two."""
    before, after = (
        {(one.layers, one.head): one for one in lut.correction.calibration}
        if lut.correction
        else {}
        for lut in (baseline, current)
    )
    common = sorted(before.keys() & after.keys())
    if len(common) < 2:
        return None
    ratios = [log_ratio_of(before[key], after[key], noise) for key in common]
    values, errors = np.array(ratios).T
    # Networks may disagree by more than their intervals explain.
    error = max(float(np.sqrt(np.mean(errors**2))), float(values.std(ddof=1)))
    then, now = (
        math.exp(fmean(math.log(lut[key].ms) for key in common)) for lut in (before, after)
    )
    own = error / math.sqrt(len(common))
    return _Network(f"{len(common)} timed", then, now, math.log(now / then), own)


def _summary(lut: Lut) -> LutSummary:
    return LutSummary(
        target=printable(str(lut.target)),
        space=str(lut.search_space),
        created=lut.created.isoformat(timespec="seconds"),
        entries=len(lut),
        content_sha256=lut.content_sha256,
        reference=None if lut.reference is None else printable(lut.reference.workload),
    )
