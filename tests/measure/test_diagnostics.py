import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latbench.measure.diagnostics import WARNINGS, warnings_of
from latbench.measure.modes import Outliers, modes, outliers, within_rounds
from latbench.measure.order import autocorrelation, change_point, change_points

BENCH = Path(__file__).parents[2] / "bench" / "interval_coverage.py"

ordered_values = st.lists(st.integers(1, 10**9), min_size=1, max_size=300)
rounds_of_samples = st.lists(
    st.lists(st.integers(1_000, 10**10), min_size=1, max_size=30), min_size=1, max_size=20
)


def rounds_at(levels: NDArray[np.float64], rng: np.random.Generator, samples: int = 20) -> list:
    """Rounds at relative `levels` around 1 ms, their samples log-normal with 1 %."""
    noise = np.exp(rng.normal(0, 0.01, (levels.size, samples)))
    return list(np.rint(1e6 * levels[:, None] * noise).astype(np.int64))


def share_warned(levels: NDArray[np.float64], rng: np.random.Generator) -> Counter[str]:
    """How often each warning is given, over draws of levels (draws, rounds)."""
    counted = Counter(kind for row in levels for kind in warnings_of(rounds_at(row, rng)))
    return Counter({kind: count / len(levels) for kind, count in counted.items()})


# change_point


def test_shift_is_found_where_it_is_and_as_large_as_it_is() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(100, 1, 24), rng.normal(110, 1, 16)])
    found = change_point(values)
    assert found is not None
    assert found.index == 24
    assert found.shift == pytest.approx(0.10, abs=0.02)  # 4 standard errors of each median
    assert found.p < 1e-4


@pytest.mark.parametrize("n", [13, 20, 40, 200])
def test_a_shift_that_is_none_is_seldom_taken_for_one(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = 1500
    for values in (rng.exponential(1, (draws, n)) + 1, rng.integers(1, 6, (draws, n))):  # ties
        false = np.mean([(found := change_point(v)) is not None and found.p < 0.01 for v in values])
        assert false <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / draws)


def test_few_values_show_no_shift_however_large() -> None:
    clear = change_point([1, 1.1, 1.2, 9, 9.1, 9.2])
    assert clear is not None
    assert clear.index == 3
    assert clear.p == pytest.approx(0.1, abs=0.03)  # exactly 2 of the C(6, 3) orders
    assert change_point([1, 2, 3]) is None
    assert change_point([5] * 50) is None


def test_long_samples_are_judged_by_blocks() -> None:
    rng = np.random.default_rng(2)
    found = change_point(np.concatenate([rng.normal(100, 5, 6000), rng.normal(105, 5, 4000)]))
    assert found is not None
    assert found.index == pytest.approx(6000, abs=2 * 157)  # blocks of 10 000 / 64
    bursts = np.repeat(rng.normal(100, 1, (300, 50)), 4, axis=1)  # neighbours are alike
    assert np.mean([change_point(b).p < 0.01 for b in bursts]) < 0.03  # type: ignore[union-attr]


def test_several_shifts_are_found() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(np.repeat([100, 120, 105], [20, 20, 20]), 1)
    found = change_points(values)
    assert [cut.index for cut in found] == pytest.approx([20, 40], abs=1)
    assert [cut.shift for cut in found] == pytest.approx([0.2, -0.125], abs=0.02)
    assert change_points(rng.normal(100, 1, 60)) == ()


# autocorrelation


def test_autocorrelation_is_estimated() -> None:
    rng = np.random.default_rng(3)
    independent = autocorrelation(rng.exponential(size=20_000))
    assert independent.lag1 == pytest.approx(0, abs=4 / math.sqrt(20_000))
    noise = rng.standard_normal(20_000)
    values = np.empty(20_000)
    values[0] = noise[0]
    for i in range(1, values.size):
        values[i] = 0.6 * values[i - 1] + noise[i]
    found = autocorrelation(np.exp(values))  # ranks do not care for the scale
    # Spearman's correlation of normal values is 6 / pi arcsin(r / 2).
    assert found.lag1 == pytest.approx(6 / math.pi * math.asin(0.3), abs=0.03)
    assert found.effective_size == pytest.approx(20_000 * 0.4 / 1.6, rel=0.1)
    assert autocorrelation([1, 2] * 20).lag1 == pytest.approx(-1, abs=0.06)
    assert autocorrelation([1, 2] * 20).effective_size == 40
    assert autocorrelation([7] * 20).lag1 == 0


@pytest.mark.parametrize("n", [6, 8, 12, 40])
def test_z_of_autocorrelation_is_standard_where_there_is_none(n: int) -> None:
    draws = 3000
    rng = np.random.default_rng(n)
    z = np.array([autocorrelation(values).z for values in rng.standard_normal((draws, n))])
    assert z.mean() == pytest.approx(0, abs=4 / math.sqrt(draws))
    assert z.std() == pytest.approx(1, abs=0.06)
    assert np.mean(z > 2.6) <= 0.0047 + 3 * math.sqrt(0.0047 / draws)


# modes


@pytest.mark.parametrize(
    ("n", "distance", "share", "seen"),
    [(12, 8, 0.5, 0.5), (40, 8, 0.2, 0.7), (100, 5, 0.2, 0.7), (200, 5, 0.2, 0.9)],
)
def test_separate_modes_are_seen(n: int, distance: float, share: float, seen: float) -> None:
    rng = np.random.default_rng(n)
    values = 100 + rng.standard_normal((200, n)) + distance * (rng.random((200, n)) < share)
    found = [modes(row) for row in values]
    assert np.mean([len(each) > 1 for each in found]) > seen
    both = [each for each in found if len(each) == 2]
    assert np.median([each[0].centre for each in both]) == pytest.approx(100, abs=0.5)
    assert np.median([each[1].centre for each in both]) == pytest.approx(100 + distance, abs=0.5)
    assert np.median([each[1].share for each in both]) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("n", [8, 20, 40, 200])
def test_one_mode_is_seldom_taken_for_two(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = 400
    shapes = {
        "uniform": rng.random((draws, n)),
        "log-normal": rng.lognormal(0, 0.5, (draws, n)),
        "gamma": rng.gamma(2, size=(draws, n)),
        "exponential": rng.exponential(size=(draws, n)),
        "Student 3": rng.standard_t(3, (draws, n)),
    }
    for shape, values in shapes.items():
        false = np.mean([len(modes(row)) > 1 for row in values])
        assert false <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / draws), shape


def test_three_modes_are_seen() -> None:
    rng = np.random.default_rng(4)
    found = modes(rng.normal(np.repeat([100, 110, 120], [30, 40, 30]), 1))
    assert [mode.centre for mode in found] == pytest.approx([100, 110, 120], abs=1)
    assert [mode.share for mode in found] == pytest.approx([0.3, 0.4, 0.3], abs=0.02)


def test_rare_wild_values_neither_are_nor_hide_a_mode() -> None:
    rng = np.random.default_rng(5)
    calm = rng.normal(100, 1, 200)
    calm[:6] = 5000
    assert len(modes(calm)) == 1
    two = rng.normal(np.repeat([100, 110], 100), 1)
    two[::50] = 5000
    assert [mode.centre for mode in modes(two)] == pytest.approx([100, 110], abs=1)


def test_a_long_tail_is_no_mode() -> None:
    rng = np.random.default_rng(6)
    tails = rng.random((200, 400)) < 0.15
    values = 100 + rng.standard_normal((200, 400)) + tails * rng.exponential(30, (200, 400))
    assert np.mean([len(modes(row)) > 1 for row in values]) < 0.05


def test_ticks_of_a_coarse_clock_are_no_modes() -> None:
    rng = np.random.default_rng(7)
    ticks = np.rint(rng.normal(50, 0.8, (200, 8, 50))).astype(np.int64) * 1000
    assert sum("bimodal" in warnings_of(list(rounds)) for rounds in ticks) <= 2
    assert len(modes(ticks[0].ravel())) == 1
    assert modes([5] * 40) == (modes([5])[0],)


@given(ordered_values)
def test_modes_are_of_all_values(values: list[int]) -> None:
    found = modes(values)
    assert 1 <= len(found) <= 3
    assert sum(mode.share for mode in found) == pytest.approx(1)
    centres = [mode.centre for mode in found]
    assert centres == sorted(centres)
    assert min(values) <= centres[0]
    assert centres[-1] <= max(values)


# outliers


def test_outliers_are_counted_on_both_sides_and_nothing_is_changed() -> None:
    values = np.random.default_rng(8).normal(100, 1, 200)
    values[[3, 90]] = 150
    values[7] = 60
    before = values.copy()
    assert outliers(values) == Outliers(low=1, high=2)
    assert (values == before).all()


def test_skew_alone_makes_few_outliers() -> None:
    rng = np.random.default_rng(9)
    found = outliers(rng.exponential(size=20_000))
    assert found.low == 0
    # 0.5 ** (1 + 7), the share beyond log 2 + 7 log 2, with the quartiles' own error.
    assert found.high / 20_000 == pytest.approx(0.5**8, rel=0.4)
    assert outliers(rng.standard_normal(20_000)) == Outliers(0, 0)


def test_ticks_next_to_the_median_are_no_outliers() -> None:
    assert outliers([50] * 90 + [51] * 10) == Outliers(0, 0)
    assert outliers([50] * 90 + [51] * 9 + [90]) == Outliers(0, 1)
    assert outliers([50] * 9) == Outliers(0, 0)


# within_rounds and warnings_of


def test_samples_are_relative_to_the_centre_of_their_round() -> None:
    fast = [np.array([90, 99, 101, 130, 160]), np.array([200, 198, 202, 170, 240])]
    assert sorted(within_rounds(fast)) == pytest.approx(
        [0.85, 0.9, 0.99, 0.99, 1, 1.01, 1.01, 1.2, 1.3, 1.6], abs=0.06
    )
    # Of two speeds the centre is one, never the middle between them.
    two = within_rounds([[100, 101, 102, 103, 150, 152, 154, 156]])
    assert sorted(two)[:4] == pytest.approx([1] * 4, abs=0.02)
    assert sorted(two)[4:] == pytest.approx([1.5] * 4, abs=0.05)
    # Equal samples are spread over the tick of 1, which is 1 % here.
    ties = within_rounds([[100] * 4 + [101], [100] * 4])
    assert len(set(ties)) == 9
    assert min(ties) > 0.995
    assert max(ties) == pytest.approx(1.01)


@pytest.mark.parametrize("n", [6, 14, 40])
def test_clean_rounds_are_seldom_warned_of(n: int) -> None:
    draws = 400
    rng = np.random.default_rng(n)
    warned = share_warned(np.exp(rng.normal(0, 0.01, (draws, n))), rng)
    for kind in WARNINGS:
        assert warned[kind] <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / draws), kind


def test_dependent_rounds_are_warned_of() -> None:
    draws, n = 150, 20
    rng = np.random.default_rng(10)
    noise = rng.normal(0, 0.01, (draws, n))
    assert share_warned(1 + noise + np.linspace(0, 0.1, n), rng)["trend"] > 0.95
    assert share_warned(1 + noise - np.linspace(0, 0.1, n), rng)["trend"] > 0.95
    assert share_warned(1 + noise + 0.1 * (np.arange(n) >= 10), rng)["step"] > 0.95
    lasting = 3 * noise
    for i in range(1, n):
        lasting[:, i] = 0.9 * lasting[:, i - 1] + 3 * math.sqrt(1 - 0.9**2) * noise[:, i]
    warned = sum(bool(warnings_of(rounds_at(1 + row, rng))) for row in lasting)
    assert warned / draws > 0.65
    assert share_warned(1 + lasting, rng)["autocorrelated"] > 0.6


def test_slow_drift_shows_in_few_rounds_too() -> None:
    rng = np.random.default_rng(11)
    levels = np.linspace(1, 1.2, 6) * np.exp(rng.normal(0, 0.005, (100, 6)))
    assert share_warned(levels, rng)["trend"] > 0.95


def test_two_speeds_are_warned_of_inside_and_between_rounds() -> None:
    rng = np.random.default_rng(12)
    # An inference is slow three times in ten, or every other time: then a round's median is now
    # the one speed, now the other.
    for share, seen in ((0.3, 0.95), (0.5, 0.85)):
        slow = 1 + 0.1 * (rng.random((50, 8, 50)) < share)
        rounds = np.rint(1e6 * slow * np.exp(rng.normal(0, 0.01, slow.shape))).astype(np.int64)
        assert np.mean(["bimodal" in warnings_of(list(each)) for each in rounds]) > seen
    between = 1 + 0.2 * (rng.random((100, 20)) < 0.5)
    assert share_warned(between * np.exp(rng.normal(0, 0.01, (100, 20))), rng)["bimodal"] > 0.9


def test_few_rounds_are_warned_of_and_levels_are_no_modes() -> None:
    rng = np.random.default_rng(13)
    assert warnings_of(rounds_at(np.array([1.0]), rng)) == ("few-rounds",)
    assert warnings_of(rounds_at(np.array([1.0, 1.5, 2.0, 3.0, 5.0]), rng)) == ("few-rounds",)
    assert warnings_of(rounds_at(np.array([1.0, 1.5, 2.0, 1.2, 5.0, 1.1]), rng)) == ()


@given(rounds_of_samples)
def test_warnings_are_known_words_in_order(rounds: list[list[int]]) -> None:
    found = warnings_of(rounds)
    assert list(found) == [kind for kind in WARNINGS if kind in found]
    assert warnings_of([np.array(samples) for samples in rounds]) == found
    assert ("few-rounds" in found) == (len(rounds) < 6)


@pytest.mark.parametrize("rounds", [[], [[1, 2], []]])
def test_no_samples_have_no_warnings(rounds: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one round"):
        warnings_of(rounds)


@pytest.mark.parametrize("function", [modes, outliers])
def test_no_values_have_no_modes_and_no_outliers(function: object) -> None:
    with pytest.raises(ValueError, match="no values"):
        function([])  # type: ignore[operator]


def test_benchmark_prints_tables_and_json() -> None:
    command = [sys.executable, str(BENCH), "--draws", "8"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "coverage of ci95" in table
    printed = subprocess.run(
        [*command, "--json"], check=True, capture_output=True, text=True
    ).stdout
    result = json.loads(printed)
    assert result["about"]["draws"] == 8
    for row in result["coverage"]:
        assert row["warned"] == 1 or row["rounds"] >= 6
        assert set(row["warnings"]) == set(WARNINGS)
