"""Comparisons of two LUTs: which changes are found, which are not, and what the report says.

The LUTs are drawn with known noise: medians vary within a run, as their intervals say, and between processes
by memory placement. Most comparisons get exactly this noise, so that the results do not depend on constants
measured on some machine. Seeds are fixed, so a test fails always or never; the comments at assertions give
their probability under the noise.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from latbench import Lut, SearchSpace, published
from latbench.lut import Correction, Entry, Reference, Sentinel
from latbench.lut.calibrate import calibrate
from latbench.lut.drift import MIN_OPS, DriftReport, NetworkDrift, compare_luts
from latbench.lut.flags import traffic_of
from latbench.lut.ratios import Noise, Verdict
from latbench.lut.schema import TimedNetwork
from latbench.report.drift_text import change_of, remarks_on, verdict_line
from latbench.space.architecture import Architecture
from latbench.space.boundaries import Boundary
from latbench.space.design import calibration_architectures, landmark_networks
from latbench.target import Precision, Runtime, Target
from latbench.wording import percent
from tests.lut.test_lut import SPACE, make_lut

KEYS = tuple(op.key for op in SPACE.unique_ops)
NETWORKS = tuple(landmark_networks(SPACE))
FBNET_KEYS = {op.key for name in NETWORKS for op in published(name, space=SPACE).ops}

#: Standard deviations: of a median within a run, of memory's say, and of a level between runs.
WITHIN, PLACEMENT, LEVEL = 0.0025, 0.005, 0.015
NOISE = Noise(
    run_sd=PLACEMENT,
    dispatch_ms=0.0,
    overall_sd=LEVEL,
    unexplained_sd=LEVEL,
    ops_sd=0.003,
    memory_sd=1e-6,
)


def draw(
    rng: np.random.Generator,
    changed: Mapping[str, float] | None = None,
    *,
    level: float = 1.0,
    keys: Collection[str] | None = None,
    **fields: Any,
) -> Lut:
    """A LUT of `make_lut`'s latencies times `changed` and `level`, with noise."""
    entries = {}
    for op in SPACE.unique_ops:
        ms = (0.01 + op.macs / 1e7) * (changed or {}).get(op.key, 1.0) * level
        ms *= math.exp(WITHIN * rng.normal() + PLACEMENT * rng.normal())
        if keys is None or op.key in keys:
            entries[op.key] = entry(ms, op.macs)
    return make_lut(entries=entries, **fields)


def entry(ms: float, macs: int = 1, *, within: float = WITHIN, **fields: Any) -> Entry:
    """An entry whose interval is what `within` asks for."""
    width = math.exp(1.96 * within)
    made: dict[str, Any] = {"ci95": (ms / width, ms * width), "samples": 400, "rounds": 40}
    return Entry(ms=ms, macs=macs, **(made | {"spread": 0.02} | fields))


def compare(baseline: Lut, current: Lut, **options: Any) -> DriftReport:
    """Compare with the noise that was drawn."""
    return compare_luts(baseline, current, **({"noise": NOISE} | options))


def any_slowdown(rng: np.random.Generator) -> float:
    """A random slowdown of another run."""
    return math.exp(LEVEL * rng.normal())


def keys_of(report: DriftReport, verdict: Verdict) -> set[str]:
    return {one.key for one in report.of(verdict)}


def moved(report: DriftReport) -> set[str]:
    return keys_of(report, Verdict.SLOWER) | keys_of(report, Verdict.FASTER)


def network(report: DriftReport, name: str) -> NetworkDrift:
    (found,) = (one for one in report.networks if one.name == name)
    return found


# False alarms


def test_unchanged_things_raise_no_more_alarms_than_promised() -> None:
    rng = np.random.default_rng(20)
    reports = [
        compare(draw(rng), draw(rng, level=any_slowdown(rng)), tolerance=0.01) for _ in range(100)
    ]
    # The promise is 1 %: five or more of 100 would have a probability of 0.3 %. The tolerance is so
    # small that the noise decides, not the line.
    assert sum(report.drifted for report in reports) <= 4
    assert all(report.comparable for report in reports)
    spreads = [report.overall.scale for report in reports if report.overall]
    assert np.median(spreads) == pytest.approx(1.0, abs=0.05)  # the noise is what it is taken for


def test_the_noise_of_real_runs_raises_no_more_alarms_than_promised_either() -> None:
    """All that `Noise` holds: placement, dispatch, a level, and memory that ops feel unequally."""
    rng, noise = np.random.default_rng(45), Noise()
    ops = SPACE.unique_ops
    felt = [noise.sensitivity(traffic_of(op, Precision.FP32)) for op in ops]

    def run() -> Lut:
        level, memory = rng.normal(0, [noise.overall_sd, noise.memory_sd]) / math.sqrt(2)
        entries = {}
        for op, sensitivity in zip(ops, felt, strict=True):
            ms = 0.01 + op.macs / 1e7
            error = math.hypot(WITHIN, noise.run_sd, noise.dispatch_ms / ms) * rng.normal()
            ms *= math.exp(level + sensitivity * memory + error)
            entries[op.key] = entry(ms, op.macs)
        return make_lut(entries=entries)

    reports = [compare_luts(run(), run(), tolerance=0.02) for _ in range(60)]
    assert sum(report.drifted for report in reports) <= 3  # of 1 %: four or more, 0.3 %


def test_a_part_of_the_ops_raises_no_more_alarms_than_promised() -> None:
    """As many ops as `--remeasure` times: what they tell of their noise is noisy itself."""
    rng = np.random.default_rng(47)
    alarms = 0
    for _ in range(200):
        keys = rng.choice(KEYS, 40, replace=False).tolist()
        before, after = draw(rng, keys=keys), draw(rng, keys=keys, level=any_slowdown(rng))
        alarms += compare(before, after, tolerance=0.02).drifted
    assert alarms <= 6  # of 1 %: seven or more have a probability of 0.4 %


def test_a_lut_has_not_drifted_from_itself() -> None:
    lut = draw(np.random.default_rng(0))
    report = compare(lut, lut)
    assert (report.comparable, report.drifted, report.changes) == (True, False, ())
    assert report.overall is not None
    assert report.overall.ratio == 1.0
    assert {one.change.ratio for one in report.entries if one.change} == {1.0}
    assert {one.change.ratio for one in report.networks} == {1.0}


def test_noise_beyond_the_intervals_is_estimated_from_the_ops() -> None:
    rng = np.random.default_rng(21)

    def restless(level: float) -> Lut:
        entries = {
            key: entry(one.ms * level * math.exp(0.025 * rng.normal()), one.macs)
            for key, one in make_lut().entries.items()
        }
        return make_lut(entries=entries)

    reports = [compare(restless(1.0), restless(any_slowdown(rng))) for _ in range(40)]
    # 1 % of 40: three or more have a probability of 0.7 %. Believed, the intervals would say that
    # the ops differ by five times their errors.
    assert sum(bool(moved(report)) for report in reports) <= 2
    assert all(report.overall is not None and report.overall.scale > 3 for report in reports)
    assert any("restless" in remark for remark in remarks_on(reports[0]))


# Ops


def test_one_op_5_per_cent_slower_is_found_and_nothing_else_is() -> None:
    rng = np.random.default_rng(22)
    slow = KEYS[::3]
    reports = [compare(draw(rng), draw(rng, {key: 1.05}, level=any_slowdown(rng))) for key in slow]
    found = [key in keys_of(one, Verdict.SLOWER) for key, one in zip(slow, reports, strict=True)]
    # 4.9 % are 6.2 standard errors, 4.0 are needed: 1.3 % are missed.
    assert sum(found) >= len(slow) - 2
    others = [moved(one) - {key} for key, one in zip(slow, reports, strict=True)]
    assert sum(map(bool, others)) <= 2
    assert all(report.drifted for report, hit in zip(reports, found, strict=True) if hit)


def test_a_detectable_change_is_found_19_times_of_20() -> None:
    rng = np.random.default_rng(23)
    key = KEYS[40]
    same = compare(draw(rng), draw(rng))
    (detectable,) = (one.change.detectable for one in same.entries if one.key == key and one.change)
    assert 1.03 < detectable < 1.06
    hits = sum(
        key in keys_of(compare(draw(rng), draw(rng, {key: detectable})), Verdict.SLOWER)
        for _ in range(80)
    )
    assert hits >= 71  # binomial of 95 %: fewer have a probability of 1 %


def test_slower_and_faster_ops_are_told_apart() -> None:
    rng = np.random.default_rng(24)
    slow, fast = dict.fromkeys(KEYS[5:13], 1.08), dict.fromkeys(KEYS[60:66], 0.92)
    report = compare(draw(rng), draw(rng, slow | fast, level=1.01))
    assert keys_of(report, Verdict.SLOWER) == set(slow)
    assert keys_of(report, Verdict.FASTER) == set(fast)
    for one in report.of(Verdict.SLOWER):
        assert one.change is not None
        assert one.q is not None
        assert one.change.ratio == pytest.approx(1.08, rel=0.03)
        assert one.change.p <= one.q <= 0.0075
    surest = [one.change.p for one in report.of(Verdict.SLOWER) if one.change]
    assert surest == sorted(surest)


def test_the_largest_change_comes_first_among_equally_significant_ones() -> None:
    rng = np.random.default_rng(42)
    changed = dict(zip(KEYS[:5], (1.5, 8.0, 2.0, 20.0, 3.0), strict=True))
    report = compare(draw(rng), draw(rng, changed))
    found = [changed[one.key] for one in report.of(Verdict.SLOWER)]
    assert found == sorted(changed.values(), reverse=True)


def test_a_significant_change_far_below_the_tolerance_is_not_reported() -> None:
    rng = np.random.default_rng(43)
    small, large = KEYS[8], KEYS[9]
    report = compare(draw(rng), draw(rng, {small: 1.06, large: 1.15}), tolerance=0.2)
    assert keys_of(report, Verdict.SLOWER) == {large}
    (one,) = (one for one in report.entries if one.key == small)
    assert one.q is not None
    assert one.q < 1e-4  # sure it is


@pytest.mark.parametrize("factor", [1.05, 0.95])
def test_a_quarter_of_all_ops_do_not_hide_one_another(factor: float) -> None:
    rng = np.random.default_rng(25)
    found, others, changed_ops = 0, 0, 0
    for _ in range(10):
        chosen = set(rng.choice(KEYS, len(KEYS) // 4, replace=False).tolist())
        changed = dict.fromkeys(chosen, factor)
        report = compare(draw(rng), draw(rng, changed, level=any_slowdown(rng)))
        verdict = Verdict.SLOWER if factor > 1 else Verdict.FASTER
        found += len(keys_of(report, verdict) & chosen)
        changed_ops += len(chosen)
        others += len(moved(report) - chosen)
    assert found >= 0.97 * changed_ops
    assert others <= 0.02 * changed_ops  # FDR is 0.75 %


def test_intervals_cover_the_change_that_was_made() -> None:
    rng = np.random.default_rng(26)
    changed = dict(zip(KEYS[::4], np.linspace(0.9, 1.1, len(KEYS[::4])).tolist(), strict=True))
    inside = []
    for _ in range(5):
        for one in compare(draw(rng), draw(rng, changed, level=any_slowdown(rng))).entries:
            assert one.change is not None
            inside.append(one.change.low <= changed.get(one.key, 1.0) <= one.change.high)
    assert 0.93 <= float(np.mean(inside)) <= 0.98  # 95 % of 545


def test_an_op_with_a_wide_interval_does_not_drift_and_is_remarked_on() -> None:
    rng = np.random.default_rng(27)
    before, after = draw(rng), draw(rng)
    doubtful = entry(before[KEYS[3]].ms * 1.05, within=0.04)
    after = make_lut(entries=after.entries | {KEYS[3]: doubtful})
    report = compare(before, after)
    assert KEYS[3] not in moved(report)
    assert max(report.undetectable) > 1.15
    assert any("too noisy" in remark for remark in remarks_on(report))


def test_an_op_whose_runners_disagree_is_less_certain() -> None:
    rng = np.random.default_rng(46)
    before, after = draw(rng), draw(rng, {KEYS[3]: 1.08})
    assert keys_of(compare(before, after), Verdict.SLOWER) == {KEYS[3]}
    placed = after[KEYS[3]].model_copy(update={"placement": 0.03})
    doubtful = compare(before, make_lut(entries=after.entries | {KEYS[3]: placed}))
    assert not doubtful.drifted
    assert max(doubtful.undetectable) > 1.1


# The state of the memory


def on_a_slow_memory(lut: Lut, slowdown: float) -> Lut:
    """`lut` where ops that move as much as a whole network take `slowdown` as long, others less or more."""
    noise = Noise()
    entries = {}
    for op in SPACE.unique_ops:
        felt = noise.sensitivity(traffic_of(op, Precision.FP32))
        one = lut[op]
        entries[op.key] = entry(one.ms * slowdown**felt, one.macs)
    return make_lut(entries=entries)


def test_ops_that_follow_the_memory_have_not_drifted() -> None:
    rng = np.random.default_rng(60)
    real = replace(NOISE, memory_sd=Noise().memory_sd)
    most = max(SPACE.unique_ops, key=lambda op: traffic_of(op, Precision.FP32)).key
    alarms = hits = 0
    for slowdown in np.linspace(0.94, 1.07, 23).tolist():
        before, after = draw(rng), on_a_slow_memory(draw(rng), slowdown)
        alarms += bool(moved(compare(before, after, noise=real)))
        slow = {most: entry(1.15 * after[most].ms, after[most].macs)}
        after = make_lut(entries=after.entries | slow)
        hits += most in keys_of(compare(before, after, noise=real), Verdict.SLOWER)
    assert alarms <= 2
    assert hits >= 21  # and yet an op of much traffic can drift


def test_a_runtime_that_is_slower_at_what_moves_much_is_not_hidden_as_the_machine(
    architectures: list[Architecture],
) -> None:
    """The ops follow a slope, as if the memory were slow, but the reference says that it is not."""
    rng = np.random.default_rng(61)
    before = calibrated(draw(rng, reference=reference(10.0)), architectures)
    after = on_a_slow_memory(draw(rng), 1.08)
    after = make_lut(entries=after.entries, reference=reference(10.0))
    after = calibrated(after, architectures, 1.05)  # whole networks move much
    real = replace(NOISE, memory_sd=Noise().memory_sd, ops_sd=Noise().ops_sd)
    report = compare(before, after, noise=real)
    assert report.beyond is not None
    assert report.beyond.verdict is Verdict.SLOWER
    machine = after.model_copy(update={"reference": reference(10.5)})
    assert not compare(before, machine, noise=real).drifted


# The level


def test_an_interval_with_a_warning_counts_twice_as_wide() -> None:
    def deviation(*warnings: str) -> float:
        lut = make_lut()
        key = KEYS[3]
        changed = entry(lut[key].ms, within=0.02, warnings=warnings)
        before = make_lut(entries=lut.entries | {key: changed})
        # Without noise of other kinds; what all ops share does not depend on this one.
        quiet = replace(NOISE, run_sd=0.0, overall_sd=0.0)
        (found,) = (one for one in compare(before, lut, noise=quiet).entries if one.key == key)
        assert found.change is not None
        return math.log(found.change.high / found.change.low) / (2 * 1.96)

    assert deviation("bimodal") == pytest.approx(2 * deviation(), rel=0.1)
    # Of all ops alike: nothing about one of them.
    assert deviation("unsteady") == pytest.approx(deviation())


def test_the_interval_of_few_rounds_counts_wider() -> None:
    def deviation(rounds: int) -> float:
        lut = make_lut()
        key = KEYS[3]
        changed = entry(lut[key].ms, within=0.02, rounds=rounds)
        before = make_lut(entries=lut.entries | {key: changed})
        quiet = replace(NOISE, run_sd=0.0, overall_sd=0.0)
        (found,) = (one for one in compare(before, lut, noise=quiet).entries if one.key == key)
        assert found.change is not None
        return math.log(found.change.high / found.change.low)

    assert deviation(6) / deviation(1000) == pytest.approx(1 + 2 / 6, rel=0.05)


def test_an_overall_change_is_no_drift_of_an_op() -> None:
    rng = np.random.default_rng(28)
    for level in (0.5, 0.9, 1.02, 1.1, 3.0):
        report = compare(draw(rng), draw(rng, level=level))
        assert report.overall is not None
        assert report.overall.source == "entries"
        assert report.overall.ratio == pytest.approx(level, rel=0.004)
        assert not moved(report)


@pytest.mark.parametrize(("level", "verdict"), [(1.1, Verdict.SLOWER), (0.9, Verdict.FASTER)])
def test_an_overall_change_of_10_per_cent_is_drift(level: float, verdict: Verdict) -> None:
    rng = np.random.default_rng(29)
    report = compare(draw(rng), draw(rng, level=level))
    assert report.drifted
    assert report.overall is not None
    assert report.overall.verdict is verdict
    assert {one.change.verdict for one in report.networks} == {verdict}


def test_everything_3_per_cent_slower_is_found_only_if_runs_differ_by_less() -> None:
    rng = np.random.default_rng(30)
    before, after = draw(rng), draw(rng, level=1.03)
    report = compare(before, after)
    assert report.overall is not None
    assert not report.drifted
    assert report.overall.low < 1 < report.overall.high
    assert report.overall.detectable > 1.05
    assert change_of(report.overall.detectable) in " ".join(remarks_on(report))
    steady = compare(before, after, noise=replace(NOISE, unexplained_sd=0.004))
    assert steady.overall is not None
    assert steady.overall.verdict is Verdict.SLOWER
    assert steady.overall.detectable < 1.03


@pytest.mark.parametrize("slower", ["slower", "same"])
def test_the_overall_change_of_few_ops_is_that_of_the_sentinel(slower: str) -> None:
    rng = np.random.default_rng(32)
    keys = set(KEYS[: MIN_OPS - 1])
    level = 1.2 if slower == "slower" else 1.0

    def sentinel(ms: float, name: str = "fbnet_b") -> Sentinel:
        layers = published(name, space=SPACE).notation
        return Sentinel(
            architecture=layers, head=1984, ms=ms, ci95=(0.99 * ms, 1.01 * ms), visits=9, drift=0.01
        )

    before = draw(rng, keys=keys, sentinel=sentinel(9.0))
    after = draw(rng, keys=keys, level=level, sentinel=sentinel(9.0 * level))
    report = compare(before, after)
    assert report.overall is not None
    assert report.overall.source == "sentinel"
    assert report.overall.ratio == pytest.approx(level)
    assert (report.overall.verdict is Verdict.SLOWER) == (slower == "slower")
    assert not moved(report)
    # Of two other networks the ratio says nothing, nor is one sentinel a ratio.
    for other in (sentinel(9.0, "fbnet_a"), None):
        after = draw(rng, keys=keys, sentinel=other)
        alone = compare(before, after)
        assert alone.overall is not None
        assert alone.overall.source == "nothing"


def test_the_error_of_the_overall_change_is_part_of_an_ops() -> None:
    """Of a few ops, the overall change is as uncertain as the two sentinels."""

    def run(half: float) -> Lut:
        ms, keys = 9.0, KEYS[: MIN_OPS - 1]
        sentinel = Sentinel(
            architecture=published("fbnet_b", space=SPACE).notation,
            head=1984,
            ms=ms,
            ci95=(ms / math.exp(1.96 * half), ms * math.exp(1.96 * half)),
            visits=9,
            drift=0.01,
        )
        some = {key: one for key, one in make_lut().entries.items() if key in keys}
        return make_lut(entries=some, sentinel=sentinel)

    def variance(half: float) -> float:
        change = compare(run(half), run(half)).entries[0].change
        assert change is not None
        return (math.log(change.high / change.low) / (2 * 1.96)) ** 2

    assert variance(0.05) - variance(0.01) == pytest.approx(2 * (0.05**2 - 0.01**2), rel=1e-3)


def test_an_overall_change_that_cannot_be_estimated_is_assumed_to_be_none() -> None:
    rng = np.random.default_rng(33)
    keys = set(KEYS[:5])
    report = compare(draw(rng, keys=keys), draw(rng, keys=keys, level=1.5))
    assert report.overall is not None
    assert (report.overall.source, report.overall.ratio) == ("nothing", 1.0)
    assert report.overall.verdict is Verdict.SAME
    assert keys_of(report, Verdict.SLOWER) == keys  # which it is, for all anybody knows
    assert any("assumed to be none" in remark for remark in remarks_on(report))
    close = compare(draw(rng, keys=keys), draw(rng, keys=keys, level=1.02))
    assert not close.drifted  # 2 % may well be the level


# Ops that one of them lacks, and parts of a LUT


def test_missing_ops_are_drift_and_new_ones_are_not() -> None:
    rng = np.random.default_rng(34)
    without_a, without_b = set(KEYS[:-2]), set(KEYS[3:])
    report = compare(draw(rng, keys=without_a), draw(rng, keys=without_b))
    assert keys_of(report, Verdict.MISSING) == set(KEYS[:3])
    assert keys_of(report, Verdict.NEW) == set(KEYS[-2:])
    assert report.drifted
    assert [one.key for one in report.entries] == sorted(KEYS)
    for one in report.entries:
        assert (one.change is None) == (one.key in {*KEYS[:3], *KEYS[-2:]})
    assert not compare(draw(rng, keys=without_a), draw(rng)).drifted
    assert any("2 ops of the current LUT are new" in remark for remark in remarks_on(report))


def test_missing_ops_are_left_out_on_request() -> None:
    rng = np.random.default_rng(35)
    report = compare(draw(rng), draw(rng, keys=FBNET_KEYS), require_all=False)
    assert not report.drifted
    assert {one.key for one in report.entries} == FBNET_KEYS
    assert [one.name for one in report.networks] == list(NETWORKS)


def calibrated(lut: Lut, networks: Sequence[Architecture], level: float = 1.0) -> Lut:
    """`lut` with a correction learnt from `networks`, each 5 % below the sum of what is true."""
    timed = []
    for one in networks:
        ms = 0.95 * level * sum(0.01 + op.macs / 1e7 for op in one.ops)
        timed.append(
            TimedNetwork(layers=one.notation, head=one.head, ms=ms, ci95=(0.998 * ms, 1.002 * ms))
        )
    learnt = calibrate(lut.entries, timed, SPACE)
    return lut.model_copy(update={"correction": learnt})


@pytest.fixture(scope="module")
def architectures() -> list[Architecture]:
    return calibration_architectures(SPACE, 12)


def test_a_part_is_compared_with_a_calibrated_whole(architectures: list[Architecture]) -> None:
    rng = np.random.default_rng(36)
    baseline = calibrated(draw(rng), architectures)
    own = [one for one in architectures if {op.key for op in one.ops} <= FBNET_KEYS]
    part = calibrated(
        draw(rng, keys=FBNET_KEYS, level=1.08), [*own, published("fbnet_b", space=SPACE)]
    )
    report = compare(baseline, part, require_all=False)
    predicted = [one for one in report.networks if one.name in NETWORKS]
    assert [one.name for one in predicted] == list(NETWORKS)
    for one in predicted:  # as the whole predicts them, its correction included
        assert one.change.ratio == pytest.approx(1.08, rel=0.01)
        assert baseline.correction is not None
        ops = published(one.name, space=SPACE).ops
        whole = baseline.offset_ms + sum(map(baseline.corrected_ms, ops))
        assert one.baseline_ms == pytest.approx(whole)


def test_networks_that_both_runs_timed_are_compared_as_timed(
    architectures: list[Architecture],
) -> None:
    rng = np.random.default_rng(37)
    before = calibrated(draw(rng), architectures[:9])
    after = calibrated(draw(rng), architectures[3:], level=1.1)
    timed = network(compare(before, after), "6 timed")
    assert timed.change.ratio == pytest.approx(1.1)
    assert timed.change.verdict is Verdict.SLOWER
    assert timed.current_ms / timed.baseline_ms == pytest.approx(1.1)
    names = [one.name for one in compare(before, draw(rng)).networks]
    assert names == list(NETWORKS)


def reference(ms: float, workload: str = "products", share: float = 0.001) -> Reference:
    """What a run says of a workload without an engine; its interval is `share` to either side."""
    interval = ((1 - share) * ms, (1 + share) * ms)
    return Reference(workload=workload, ms=ms, ci95=interval, visits=9)


def test_networks_that_slowed_down_as_the_reference_did_have_not_drifted(
    architectures: list[Architecture],
) -> None:
    rng = np.random.default_rng(40)

    def timed(level: float, compared: Reference | None) -> Lut:
        # Memory that is slower shows in whole networks, not in single ops.
        return calibrated(draw(rng, reference=compared), architectures, level)

    before = timed(1.0, reference(10.0))
    same = compare(before, timed(1.1, reference(11.0)))
    assert same.reference_ratio == pytest.approx(1.1)
    assert network(same, "12 timed").change.ratio == pytest.approx(1.0, rel=0.001)
    assert network(same, "12 timed").change.verdict is Verdict.SAME
    for compared in (None, reference(11.0, "something else")):
        other = compare(before, timed(1.1, compared))
        assert other.reference_ratio is None
        assert network(other, "12 timed").change.verdict is Verdict.SLOWER
    still = compare(before, timed(1.0, reference(11.0)))
    assert network(still, "12 timed").change.verdict is Verdict.FASTER  # than that machine is
    engine = compare(before, timed(1.1 * 1.05, reference(11.0)))
    assert network(engine, "12 timed").change.verdict is Verdict.SLOWER


def test_networks_of_a_restless_machine_are_less_certain(architectures: list[Architecture]) -> None:
    rng = np.random.default_rng(44)

    def timed(level: float, drift: float | None) -> Lut:
        wandered = {"drift": drift}
        watched = None if drift is None else sentinel_of("fbnet_b").model_copy(update=wandered)
        lut = draw(rng, reference=reference(10.0), sentinel=watched)
        return calibrated(lut, architectures, level)

    def verdict(before: float | None, after: float | None) -> Verdict:
        report = compare(timed(1.0, before), timed(1.05, after))
        return network(report, "12 timed").change.verdict

    assert verdict(0.0, 0.0) is Verdict.SLOWER
    assert verdict(None, 0.0) is Verdict.SLOWER  # nothing watched that run
    for drifts in ((2.0, 0.0), (0.0, 2.0), (2.0, None)):  # by 2.6 %
        assert verdict(*drifts) is Verdict.SAME


def test_the_uncertainty_of_the_reference_counts(architectures: list[Architecture]) -> None:
    """Timed four times on a busy machine, it may be off, and what is divided by it with it."""
    rng = np.random.default_rng(41)
    whole = calibrated(draw(rng), architectures)

    def doubtful() -> Lut:
        ms = 10 * math.exp(NOISE.believed * 0.05 * rng.normal())
        return whole.model_copy(update={"reference": reference(ms, share=0.1)})

    reports = [compare(doubtful(), doubtful()) for _ in range(40)]
    # 1 % of 40: three or more have a probability of 0.7 %.
    assert sum(report.drifted for report in reports) <= 2
    assert all(network(report, "12 timed").change.detectable > 1.1 for report in reports)


# What the reference explains is the machine's


def pair_on(
    rng: np.random.Generator, networks: Sequence[Architecture], *, machine: float, runtime: float
) -> tuple[Lut, Lut]:
    """Two LUTs: the machine became slower by one factor, and the runtime by another."""
    level = machine * runtime
    before = calibrated(draw(rng, reference=reference(10.0)), networks)
    after = draw(rng, level=level, reference=reference(10.0 * machine))
    return before, calibrated(after, networks, level)


@pytest.mark.parametrize("machine", [0.8, 0.96, 1.043, 1.15, 1.5])
def test_what_the_reference_explains_is_the_machines_and_no_drift(
    machine: float, architectures: list[Architecture]
) -> None:
    pair = pair_on(np.random.default_rng(50), architectures, machine=machine, runtime=1.0)
    report = compare(*pair)
    assert not report.drifted
    assert report.machine is not None
    assert report.overall is not None
    assert report.machine.ratio == pytest.approx(machine, rel=0.001)
    assert report.overall.ratio == pytest.approx(machine, rel=0.005)
    assert report.beyond is not None
    assert report.beyond.ratio == pytest.approx(1.0, abs=0.005)
    for one in report.networks:
        assert one.change.ratio == pytest.approx(1.0, abs=0.01)
        assert one.current_ms / one.baseline_ms == pytest.approx(machine, rel=0.01)
    if abs(math.log(machine)) > 0.1:
        word = "slower" if machine > 1 else "faster"
        assert f"the machine is {percent(abs(machine - 1))[:2]}" in verdict_line(report)
        assert f" {word}, by the reference too" in verdict_line(report)


def test_with_strict_level_it_is_drift_as_it_would_be_without_a_reference(
    architectures: list[Architecture],
) -> None:
    before, after = pair_on(np.random.default_rng(51), architectures, machine=1.1, runtime=1.0)
    assert not compare(before, after).drifted
    strict = compare(before, after, strict_level=True)
    assert strict.drifted
    assert strict.level_drifted
    assert verdict_line(strict).startswith("drift: everything slower")
    alone = (lut.model_copy(update={"reference": None}) for lut in (before, after))
    assert compare(*alone).level_drifted


@pytest.mark.parametrize("machine", [0.9, 1.0, 1.1])
@pytest.mark.parametrize(
    ("runtime", "verdict"), [(1.1, Verdict.SLOWER), (0.9, Verdict.FASTER), (1.0, Verdict.SAME)]
)
def test_what_only_the_ops_and_networks_show_is_drift(
    machine: float, runtime: float, verdict: Verdict, architectures: list[Architecture]
) -> None:
    rng = np.random.default_rng(52)
    report = compare(*pair_on(rng, architectures, machine=machine, runtime=runtime))
    assert report.beyond is not None
    assert report.beyond.verdict is verdict
    assert report.beyond.ratio == pytest.approx(runtime, rel=0.006)
    assert report.drifted == (verdict is not Verdict.SAME)


def test_a_reference_that_changed_alone_is_drift_too(architectures: list[Architecture]) -> None:
    """The machine is slower and the runtime is not: it must have become faster."""
    rng = np.random.default_rng(53)
    report = compare(*pair_on(rng, architectures, machine=1.2, runtime=1 / 1.2))
    assert report.beyond is not None
    assert report.beyond.verdict is Verdict.FASTER


def test_a_report_says_if_nothing_tells_the_machine_from_the_runtime() -> None:
    rng = np.random.default_rng(54)
    known, other = reference(10.0), reference(10.0, "another")
    said = "a change of the machine cannot be told from one of the runtime"
    for before, after, who in (
        (None, None, "Neither LUT has a reference"),
        (known, None, "The current LUT has no reference"),
        (None, known, "The baseline LUT has no reference"),
        (known, other, "The LUTs have different references"),
    ):
        report = compare(draw(rng, reference=before), draw(rng, reference=after))
        assert (report.machine, report.beyond) == (None, None)
        assert f"{who}, so {said}." in remarks_on(report)
    both = compare(draw(rng, reference=known), draw(rng, reference=known))
    assert not any(said in remark for remark in remarks_on(both))


@pytest.mark.parametrize("correction", ["none", "learnt"])
def test_networks_change_as_their_ops_do(
    correction: str, architectures: list[Architecture]
) -> None:
    before = make_lut()
    if correction == "learnt":
        before = calibrated(before, architectures)
    slow = published("fbnet_c", space=SPACE).layer_ops[0]
    assert slow is not None
    ops = before.entries | {slow.key: entry(before[slow].ms * 1.5)}
    report = compare(before, make_lut(entries=ops))
    for name in NETWORKS:
        architecture = published(name, space=SPACE)
        part = sum(before.corrected_ms(op) for op in architecture.ops if op == slow)
        whole = before.offset_ms + sum(map(before.corrected_ms, architecture.ops))
        change = network(report, name).change
        assert change.ratio == pytest.approx(1 + 0.5 * part / whole)
        assert change.low < change.ratio < change.high
    assert network(report, "fbnet_c").change.ratio > 1.005


def test_boundary_costs_change_as_the_ops_do_together() -> None:
    costs = {Boundary.TO_GROUPED: 100.0, Boundary.FROM_GROUPED: 50.0}
    correction = Correction(
        scale=1.0, offset_ms=0.1, residual=0.01, networks=1, boundary_costs=costs
    )
    before = make_lut(correction=correction)
    slower = {key: entry(1.2 * one.ms) for key, one in before.entries.items()}
    report = compare(before, make_lut(entries=slower))
    ops = published("fbnet_a", space=SPACE).ops
    whole = before.network_ms(ops)
    assert whole > 1.1 * (0.1 + sum(map(before.corrected_ms, ops)))  # it has such boundaries
    found = network(report, "fbnet_a")
    assert found.current_ms == pytest.approx(0.1 + 1.2 * (whole - 0.1))


def test_the_uncertainty_of_ops_counts_for_networks() -> None:
    rng = np.random.default_rng(44)

    def wide() -> Lut:
        entries = {
            key: entry(one.ms * math.exp(0.02 * rng.normal()), one.macs, within=0.02)
            for key, one in make_lut().entries.items()
        }
        return make_lut(entries=entries)

    inside: list[bool] = []
    for _ in range(30):
        networks = compare(wide(), wide(), noise=replace(NOISE, unexplained_sd=0.002)).networks
        inside += [one.change.low < 1 < one.change.high for one in networks]
    assert sum(inside) >= 0.87 * len(inside)  # of 95 %; three networks of a pair share their ops


def test_a_network_lacking_an_op_is_not_predicted() -> None:
    rng = np.random.default_rng(38)
    ops = {name: {op.key for op in published(name, space=SPACE).ops} for name in NETWORKS}
    only_a = next(iter(ops["fbnet_a"] - ops["fbnet_b"] - ops["fbnet_c"]))
    report = compare(draw(rng), draw(rng, keys=set(KEYS) - {only_a}))
    assert [one.name for one in report.networks] == ["fbnet_b", "fbnet_c"]


# What else is different


def target(**changes: Any) -> Target:
    plain = {"device": "host", "runtime": Runtime.TFLITE, "precision": Precision.FP32}
    return Target(**(plain | changes))


def sentinel_of(name: str) -> Sentinel:
    layers = published(name, space=SPACE).notation
    return Sentinel(architecture=layers, head=1984, ms=9.0, ci95=(8.9, 9.1), visits=9, drift=0.01)


def with_entries(change: Callable[[Entry], dict[str, Any]]) -> dict[str, Any]:
    entries = make_lut().entries.items()
    return {"entries": {key: one.model_copy(update=change(one)) for key, one in entries}}


BLOCKING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "search space": ({}, {"space": SearchSpace.named("fbnet", input_size=128).to_dict()}),
    "device": ({}, {"target": target(device="pixel-6")}),
    "runtime": ({}, {"target": target(runtime=Runtime.ONNX)}),
    "precision": ({}, {"target": target(precision=Precision.INT8)}),
    "threads": ({}, {"target": target(threads=4)}),
    "accelerator": ({}, {"target": target(accelerator="gpu")}),
    "machine": ({"conditions": {"description": "an EPYC"}}, {"conditions": {"description": "a Xeon"}}),
    "provenance": ({}, {"provenance": "modelled"}),
    "emulated": ({"conditions": {"emulated": False}}, {"conditions": {"emulated": True}}),
    f"context of {len(KEYS)} ops": ({}, with_entries(lambda _: {"context": "sandwich"})),
    "intervals": ({}, with_entries(lambda one: {"ci95": (one.ms * 0.93, one.ms * 1.07)})),
}  # fmt: skip

REPORTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cores": ({}, {"target": target(cores=(2,))}),
    "runtime version": ({"tool": {"runtime_version": "2.1"}}, {"tool": {"runtime_version": "2.2"}}),
    "latbench version": (
        {"tool": {"measured_by_version": "0.1"}}, {"tool": {"measured_by_version": "0.2"}},
    ),
    "runner": ({"method": {"runner": "python"}}, {"method": {"runner": "native"}}),
    "operating system": ({"method": {"operating_system": "a"}}, {"method": {"operating_system": "b"}}),
    "ABI": ({"method": {"abi": "x86_64"}}, {"method": {"abi": "aarch64"}}),
    "statistic": ({"method": {"statistic": "median"}}, {"method": {"statistic": "mean"}}),
    "settings": ({"method": {"settings": {"ci": 0.01}}}, {"method": {"settings": {"ci": 0.02}}}),
    "system build": ({"conditions": {"build": "1"}}, {"conditions": {"build": "2"}}),
    "unit": ({"conditions": {"unit": "a"}}, {"conditions": {"unit": "b"}}),
    "governors": ({"conditions": {"governors": ["a"]}}, {"conditions": {"governors": ["b"]}}),
    "reference": ({"reference": reference(10.0)}, {"reference": reference(10.0, "others")}),
    "sentinel": ({"sentinel": sentinel_of("fbnet_b")}, {"sentinel": sentinel_of("fbnet_a")}),
    "model files": (
        with_entries(lambda _: {"artifact_sha256": "0" * 64}),
        with_entries(lambda _: {"artifact_sha256": "1" * 64}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BLOCKING)
def test_luts_of_different_things_are_not_compared(what: str) -> None:
    before, after = (make_lut(**fields) for fields in BLOCKING[what])
    for baseline, current in ((before, after), (after, before)):
        report = compare(baseline, current)
        (change,) = report.changes
        assert (change.what, change.blocks) == (what, True)
        assert change.baseline != change.current
        assert len(change.explanation) > 10
        assert (report.comparable, report.drifted) == (False, False)
        assert (report.overall, report.entries, report.networks) == (None, (), ())
    assert compare(after, after).comparable == (what != "intervals")


@pytest.mark.parametrize("what", REPORTED)
def test_other_differences_are_reported(what: str) -> None:
    before, after = (make_lut(**fields) for fields in REPORTED[what])
    report = compare(before, after)
    (change,) = report.changes
    assert (change.what, change.blocks) == (what, False)
    assert change.baseline != change.current
    assert len(change.explanation) > 10
    assert (report.comparable, report.drifted) == (True, False)
    assert compare(after, after).changes == ()


@pytest.mark.parametrize(
    "what", [what for what in REPORTED if what not in ("cores", "model files")]
)
def test_what_one_lut_does_not_record_is_no_difference(what: str) -> None:
    _, after = (make_lut(**fields) for fields in REPORTED[what])
    assert compare(make_lut(), after).changes == ()


def test_another_machine_is_another_device_only_where_machines_are_called_host() -> None:
    phones = [
        make_lut(target=target(device="pixel-6"), conditions={"description": text})
        for text in ("a Pixel 6, Android 14", "a Pixel 6, Android 15")
    ]
    assert compare(*phones).changes == ()


def test_what_blocks_a_comparison_comes_first() -> None:
    before = make_lut(tool={"runtime_version": "1"}, method={"settings": {"ci": 1, "x": 2}})
    after = make_lut(
        tool={"runtime_version": "2"},
        method={"settings": {"ci": 2, "x": 2}},
        target=target(threads=2),
        **with_entries(lambda _: {"context": "sandwich"}),
    )
    blocks = [change.blocks for change in compare(before, after).changes]
    assert blocks == [True, True, False, False]
