"""The tick of a clock, from the samples of all workloads of a unit."""

from fractions import Fraction

import numpy as np
import pytest

from latbench.measure.timer import tick_of


def samples(rng: np.random.Generator, workloads: int, visits: int, spread: float = 0.01) -> list:
    """For each workload, visits of 5 samples, nanoseconds, between 0.1 and 10 ms."""
    return [
        [np.exp(rng.normal(np.log(ns), spread, 5)) for _ in range(visits)]
        for ns in np.geomspace(1e5, 1e7, workloads)
    ]


def read(each: list, tick_ns: Fraction | int) -> list:
    """`each`, read from a clock of that tick, in whole nanoseconds."""
    tick = float(tick_ns)
    return [
        [np.rint(tick * np.rint(visit / tick)).astype(np.int64) for visit in visits]
        for visits in each
    ]


@pytest.mark.parametrize("tick_ns", [Fraction(10**9, 19_200_000), 1_000, 100_000, 1_000_000])
def test_the_tick_is_that_of_the_clock(tick_ns: Fraction | int) -> None:
    each = samples(np.random.default_rng(0), 60, 8)
    assert tick_of(read(each, tick_ns)) == pytest.approx(float(tick_ns), abs=1)


def test_a_timer_of_a_sixtieth_of_a_second_shows_in_two_values() -> None:
    each = samples(np.random.default_rng(1), 60, 8)
    late = [[20 * visit for visit in visits] for visits in each]
    assert tick_of(read(late, Fraction(10**9, 60))) == pytest.approx(10**9 / 60, abs=2)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("visits", [1, 2, 8])
def test_a_fine_clock_has_no_coarse_tick_however_few_the_values(seed: int, visits: int) -> None:
    """A few values of one workload are far apart by chance, which is no tick."""
    each = samples(np.random.default_rng(seed), 1, visits, spread=0.2)
    assert tick_of(read(each, 1)) <= 100


def test_no_samples_have_the_finest_tick() -> None:
    assert tick_of([]) == 1
    assert tick_of([[]]) == 1
