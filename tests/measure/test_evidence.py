"""What all trials of a run say of one entry."""

from dataclasses import replace

import numpy as np

from latbench.measure.evidence import Evidence
from latbench.measure.plan import Role
from latbench.measure.records import Trial


def trials(
    workload: str, visits: int, rise: float, rng: np.random.Generator, taint: str | None = None
) -> list[Trial]:
    """Visits of 20 samples around 1 ms that rise by `rise`, relative."""
    rising = 1e6 * (1 + rise * np.arange(20) / 20) * np.exp(rng.normal(0, 0.005, (visits, 20)))
    first = 1000 * sum(map(ord, workload))
    return [
        Trial(
            id=first + number,
            run=1,
            workload=workload,
            role=Role.OP,
            round=number,
            unit="a",
            slot=0,
            samples_ns=np.rint(samples).astype(np.int64),
            clocks_khz=None,
            started=0.3 * number + 1e-3 * len(workload),
            duration_s=0.02,
            warmups=0,
            taint=taint,
        )
        for number, samples in enumerate(rising)
    ]


def test_visits_that_are_tainted_because_their_samples_rise_show_that_they_do() -> None:
    """The trusted ones are those that rose least."""
    rng = np.random.default_rng(3)
    hot = trials("hot", 12, 0.0, rng)[:6]
    hot += trials("hot", 12, 0.15, rng, "trend: samples rose by 14%")[6:]
    others = [trials("a" * number, 12, 0.0, rng) for number in range(1, 10)]
    evidence = Evidence.of([*hot, *(one for its in others for one in its)])
    assert "heating" in evidence.warnings(hot)
    result = evidence.result(hot)
    assert result is not None
    assert result.ci95[0] < 0.95 * result.ms
    assert not any("heating" in evidence.warnings(its) for its in others)
    # Where a slow moment is the evidence, it says nothing of samples.
    slow = [*hot[:6], *trials("hot", 12, 0.15, rng, "stolen: the CPU was taken away")[6:]]
    assert "heating" not in evidence.warnings(slow)


def test_a_tick_is_that_of_the_clock_of_the_whole_unit() -> None:
    """A few samples of one workload are far apart by chance; those of all workloads are not."""
    rng = np.random.default_rng(4)
    others = [trials("a" * number, 8, 0.0, rng) for number in range(1, 10)]
    few = trials("few", 1, 0.0, rng)
    few = [replace(one, samples_ns=np.array([1_000_000, 1_050_000, 1_120_000])) for one in few]
    evidence = Evidence.of([*few, *(one for its in others for one in its)])
    assert evidence.ticks_ns["a"] <= 10
    assert "coarse-timer" not in evidence.warnings(few)


def test_no_interval_is_narrower_than_the_tick_of_its_clock() -> None:
    rng = np.random.default_rng(5)
    tick_ns = 100_000
    of_run = [
        replace(one, samples_ns=tick_ns * (number + one.samples_ns // tick_ns))
        for number in range(10)
        for one in trials("a" * (number + 1), 8, 0.0, rng)
    ]
    evidence = Evidence.of(of_run)
    assert evidence.ticks_ns == {"a": tick_ns}
    for number in range(10):
        result = evidence.result([one for one in of_run if one.workload == "a" * (number + 1)])
        assert result is not None
        assert result.ci95[0] <= result.ms - tick_ns / 1e6
        assert result.ci95[1] >= result.ms + tick_ns / 1e6
