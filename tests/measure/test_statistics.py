import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.statistics import (
    MIN_ROUNDS,
    drift,
    median_ci95,
    robust_spread,
    summarise,
    trend,
)

positive = st.floats(min_value=1e-3, max_value=1e6)
rounds_of_samples = st.lists(
    st.lists(st.integers(1_000, 10**10), min_size=1, max_size=30), min_size=1, max_size=20
)


@pytest.mark.parametrize("n", [6, 7, 10, 16, 25])
@pytest.mark.parametrize("shape", ["normal", "laplace", "exponential"])
def test_interval_covers_the_median_95_percent_of_the_time(n: int, shape: str) -> None:
    rng = np.random.default_rng(n)
    draw = {"normal": rng.standard_normal, "laplace": rng.laplace, "exponential": rng.exponential}
    median = math.log(2) if shape == "exponential" else 0.0
    trials = 4000
    intervals = [median_ci95(sample) for sample in draw[shape](size=(trials, n))]
    covered = np.mean([low <= median <= high for low, high in intervals])
    # Four standard errors of a share of 4000, and 1 % for the interpolation: its
    # weight depends, a little, on the distribution.
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials) + 0.01)


@pytest.mark.parametrize("n", [6, 8, 12, 40])
@pytest.mark.parametrize("shape", ["log-normal", "gamma", "contaminated", "bimodal"])
def test_interval_covers_within_two_points_whatever_the_shape(n: int, shape: str) -> None:
    rng = np.random.default_rng(n)
    trials = 3000
    size = (trials, n)
    if shape == "log-normal":
        draws, median = rng.lognormal(0, 1, size), 1.0
    elif shape == "gamma":
        draws, median = rng.gamma(2, size=size), 1.678347  # (1 + x) exp(-x) = 1/2
    elif shape == "contaminated":  # one in ten is half as slow again
        draws = rng.normal(1, 0.01, size) * (1 + 0.5 * (rng.random(size) < 0.1))
        median = 1 + 0.01 * NormalDist().inv_cdf(0.5 / 0.9)
    else:  # 5 standard deviations between two modes
        draws = rng.standard_normal(size) + 5 * (rng.random(size) < 0.4)
        median = NormalDist().inv_cdf(0.5 / 0.6)
    intervals = [median_ci95(sample) for sample in draws]
    covered = np.mean([low <= median <= high for low, high in intervals])
    # Two points, of which three standard errors of a share of 3000 are 1.2.
    assert covered == pytest.approx(0.95, abs=0.02)


def test_interval_of_a_summary_is_that_of_its_round_medians() -> None:
    rng = np.random.default_rng(8)
    rounds = list(rng.integers(10**6, 2 * 10**6, (9, 21)))
    low, high = median_ci95([np.median(samples) / 1e6 for samples in rounds])
    assert summarise(rounds).ci95 == pytest.approx((low, high))


def test_dependence_between_rounds_costs_coverage_and_inside_them_it_does_not() -> None:
    rng = np.random.default_rng(9)
    steps = rng.standard_normal((1000, 20))
    levels = steps.copy()
    for i in range(1, 20):  # stationary, autocorrelation 0.9, standard deviation 1
        levels[:, i] = 0.9 * levels[:, i - 1] + math.sqrt(1 - 0.9**2) * steps[:, i]
    intervals = [median_ci95(sample) for sample in levels]
    assert np.mean([low <= 0 <= high for low, high in intervals]) < 0.6
    rounds = np.rint(1e6 * np.exp(0.01 * levels)).astype(np.int64)  # now each row is one round
    medians = [summarise(list(rounds[i : i + 8])).ci95 for i in range(0, 1000, 8)]
    covered = np.mean([low <= 1 <= high for low, high in medians])
    assert covered == pytest.approx(0.95, abs=0.02 + 3 * math.sqrt(0.95 * 0.05 / 125))


def test_interval_of_six_is_the_published_interpolation() -> None:
    # gamma_1 = 31/32, gamma_2 = 25/32: I = 0.1, lambda = 5 * 0.1 / (1 + 4 * 0.1) = 5/14.
    assert median_ci95([1, 2, 3, 4, 5, 6]) == pytest.approx((1 + 5 / 14, 6 - 5 / 14))


def test_fewer_than_six_have_no_interval() -> None:
    with pytest.raises(ValueError, match="no distribution-free"):
        median_ci95(range(MIN_ROUNDS - 1))


@given(st.lists(positive, min_size=6, max_size=60), st.integers(-8, 8))
def test_interval_encloses_the_median_and_scales(values: list[float], power: int) -> None:
    low, high = median_ci95(values)
    tolerance = 1e-9 * max(values)
    assert min(values) - tolerance <= low <= np.median(values) + tolerance
    assert np.median(values) - tolerance <= high <= max(values) + tolerance
    scale = 2.0**power  # exact in floating point
    assert median_ci95([scale * value for value in values]) == (scale * low, scale * high)


def test_interval_narrows_with_the_square_root_of_the_rounds() -> None:
    rng = np.random.default_rng(1)
    few, many = (
        np.mean([np.diff(median_ci95(sample)) for sample in rng.standard_normal((400, n))])
        for n in (25, 400)
    )
    assert few / many == pytest.approx(4, rel=0.15)


def test_very_many_values_have_an_interval() -> None:
    low, high = median_ci95(np.arange(20_001))
    # The normal approximation of the ranks: n/2 -+ 1.96 sqrt(n)/2.
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(20_001) / 2, rel=0.02)


@given(rounds_of_samples)
def test_summary_counts_and_encloses(rounds: list[list[int]]) -> None:
    summary = summarise(rounds)
    low, high = summary.ci95
    assert 0 < low <= summary.ms <= high
    assert summary.rounds == len(rounds)
    assert summary.samples == sum(map(len, rounds))
    assert summary.ms == pytest.approx(np.median([np.median(r) for r in rounds]) / 1e6)
    assert summary.spread >= 0


def test_one_wild_round_does_not_move_the_summary() -> None:
    calm = [[1_000_000 + 1000 * n] * 8 for n in range(9)]
    wild = [*calm[:8], [80_000_000] * 8]
    assert summarise(wild).ms == pytest.approx(summarise(calm).ms, rel=0.001)


def test_few_rounds_have_a_wider_interval_than_more() -> None:
    rng = np.random.default_rng(3)
    noisy = rng.lognormal(math.log(1e6), 0.02, (400, 12, 1)).astype(int)
    width = {
        n: np.mean([summarise(list(rounds[:n])).relative_half_width for rounds in noisy])
        for n in (2, 3, 5, 6, 12)
    }
    assert width[2] > width[3] > width[5] > width[12]
    assert width[6] > width[12]


def test_a_few_rounds_have_students_interval_of_their_logarithms() -> None:
    summary = summarise([[1_000_000], [2_000_000], [4_000_000]])
    # Mean and standard deviation of the logarithms are ln 2; t with 2 degrees of freedom is 4.303.
    width = math.exp(4.3027 * math.log(2) / math.sqrt(3))
    assert summary.ms == 2
    assert summary.ci95 == pytest.approx((2 / width, 2 * width), rel=1e-4)


@pytest.mark.parametrize("rounds", [[], [[1, 2], []]])
def test_no_samples_have_no_summary(rounds: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one round"):
        summarise(rounds)


def test_spread_estimates_the_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(10, 0.5, 20_000)
    assert robust_spread(values) == pytest.approx(0.05, rel=0.05)


def test_trend_is_seen_and_noise_is_not() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(1e6, 2e4, (500, 40))
    assert np.mean([trend(samples).z > 3 for samples in noise]) < 0.01
    rising = trend(noise[0] * np.linspace(1, 1.3, 40))
    assert rising.z > 3
    assert rising.rise == pytest.approx(0.26, abs=0.05)  # 0.3 over a median of 1.15
    assert trend(noise[0] * np.linspace(1.3, 1, 40)).z < -3


def test_trend_is_standard_normal_where_there_is_none() -> None:
    rng = np.random.default_rng(6)
    scores = [trend(samples).z for samples in rng.integers(1000, 1020, (1500, 30))]  # many ties
    assert np.mean(scores) == pytest.approx(0, abs=4 / math.sqrt(1500))
    assert np.std(scores) == pytest.approx(1, abs=0.1)


def test_ties_reduce_the_variance_of_a_trend() -> None:
    # Mann and Kendall's S is 12 less 1 for continuity; three pairs of ties take 3 * 18 from 6 * 5 * 17.
    assert trend([1, 1, 2, 2, 3, 3]).z == pytest.approx(11 / math.sqrt((510 - 54) / 18))


@given(st.lists(st.integers(1, 10**9), min_size=0, max_size=300))
def test_trend_of_anything_is_finite(samples: list[int]) -> None:
    found = trend(samples)
    assert math.isfinite(found.z)
    assert math.isfinite(found.rise)


def test_drift_ignores_one_bad_visit_and_sees_a_lasting_shift() -> None:
    assert drift([10, 10, 30, 10, 10]) == 0
    assert drift([10, 10, 10, 11, 11, 11]) == pytest.approx(1 / 10.5, rel=0.06)
    assert drift([10]) == 0
    assert drift([10, 12]) == pytest.approx(2 / 11)
