"""The innermost loop, on a clock that moves only while something runs or sleeps."""

from types import SimpleNamespace
from typing import Any

import pytest

from latbench.device.host import timing
from latbench.device.protocol.messages import RunRequest


class Machine:
    """A clock in nanoseconds, a model that takes 1 ms, and the times at which it ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.runs: list[int] = []
        clock = SimpleNamespace(perf_counter_ns=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(timing, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now += round(1e9 * seconds)

    def run(self) -> None:
        self.runs.append(self.now)
        self.now += 1_000_000

    def sample(self, **settings: Any) -> list[int]:
        samples, clocks = timing.sample(self.run, RunRequest(handle="m1", **settings), None)
        assert clocks is None
        return samples


@pytest.mark.parametrize(
    ("settings", "warmups", "samples"),
    [
        ({"warmups": 3, "min_samples": 2}, 3, 2),
        ({"warmups": 1, "warmup_seconds": 0.005, "min_samples": 2}, 5, 2),
        ({"warmups": 9, "warmup_seconds": 0.005, "min_samples": 2}, 9, 2),
        ({"warmups": 0, "min_samples": 2, "seconds": 0.007}, 0, 7),
        ({"warmups": 0, "min_samples": 9, "seconds": 0.007}, 0, 9),
        ({"warmups": 0, "min_samples": 2, "seconds": 0.007, "max_samples": 4}, 0, 4),
    ],
)
def test_all_limits_of_a_run_are_kept(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], warmups: int, samples: int
) -> None:
    machine = Machine(monkeypatch)
    assert machine.sample(**settings) == [1_000_000] * samples
    assert len(machine.runs) == warmups + samples


def test_a_pause_is_before_each_sample_and_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    assert machine.sample(warmups=1, min_samples=3, idle_ms=20.0) == [1_000_000] * 3
    assert machine.runs == [0, 21_000_000, 42_000_000, 63_000_000]
