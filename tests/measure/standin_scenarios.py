"""What a stand-in machine does to latencies that are known: the scenarios of `standin`.

Times are in seconds since the run began. A calm run of the whole space takes about 3 s of them, so what
changes part-way changes then. The truth of a workload is its latency on the machine undisturbed, times
`Scenario.truth`: where the machine has several speeds it is the fastest that it has for a quarter of the
time, and where samples are of a distribution it is the median. A truth is a range where the median of a
distribution is one, such as between two equally frequent modes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

#: Every sample of a calm machine has this noise, relative.
NOISE = 0.01

_MS = 1e6


class Kind(StrEnum):
    """What a workload is, as `latbench.measure.Role` calls it."""

    OP = "op"
    FRAME = "frame"
    NETWORK = "network"
    SENTINEL = "sentinel"
    REFERENCE = "reference"


@dataclass(frozen=True)
class Workload:
    """What a machine sees of a visit.

    Attributes:
        kind, number: of the workload; numbers count from 0 within a kind.
        luck: in [0, 1), of the place of the loaded model in memory.
        unit: the number of the unit.
    """

    kind: Kind
    number: int
    luck: float
    unit: int


def everything(workload: Workload) -> bool:
    return True


def every(n: int, *, kind: Kind = Kind.OP) -> Callable[[Workload], bool]:
    """Every n-th workload of a kind."""
    return lambda workload: workload.kind is kind and workload.number % n == 0


def a_share(share: float) -> Callable[[Workload], bool]:
    """A share of all ops, in no order."""
    return lambda workload: (
        workload.kind is Kind.OP and (0.618034 * workload.number + 0.3) % 1.0 < share
    )


def only(*kinds: Kind) -> Callable[[Workload], bool]:
    return lambda workload: workload.kind in kinds


def all_but(*kinds: Kind) -> Callable[[Workload], bool]:
    return lambda workload: workload.kind not in kinds


def on_unit(number: int) -> Callable[[Workload], bool]:
    return lambda workload: workload.unit == number


# Speeds of the machine: how much slower it is at a moment

Level = Callable[[float], float]


def steady(now: float) -> float:
    return 1.0


def step(at: float, before: float, after: float) -> Level:
    return lambda now: before if now < at else after


def throttle(period: float, slow: float, factor: float, phase: float = 0.0) -> Level:
    """Slower by `factor` for the first `slow` seconds of every period."""
    return lambda now: factor if (now + phase) % period < slow else 1.0


def ramp(factor: float, over: float) -> Level:
    """From 1 to `factor`, and no further."""
    return lambda now: 1 + (factor - 1) * min(1.0, now / over)


def waves(*each: tuple[float, float]) -> Level:
    """Sines of relative sizes and periods; 1 is the fastest."""
    most = sum(size for size, _ in each)
    return lambda now: math.exp(
        most + sum(size * math.sin(2 * math.pi * now / period) for size, period in each)
    )


def walk(size: float, seed: int) -> Level:
    """A random walk of steps of `size` every 50 ms; 1 is the fastest."""
    steps = size * np.random.default_rng(seed).standard_normal(2000)
    path = np.cumsum(steps)
    path -= np.quantile(path[:80], 0.05)
    return lambda now: math.exp(float(path[min(path.size - 1, int(now / 0.05))]))


def spikes(share: float, factor: float, seed: int) -> Level:
    """Slower by `factor` in a share of all tenths of a second."""
    slow = np.random.default_rng(seed).random(2000) < share
    return lambda now: factor if slow[min(slow.size - 1, int(now / 0.1))] else 1.0


# Samples of a visit: from a latency, ns

Draw = Callable[[float, int, Workload, float, np.random.Generator], Samples]


def clean(
    latency: float, count: int, workload: Workload, now: float, rng: np.random.Generator
) -> Samples:
    return latency * np.exp(NOISE * rng.standard_normal(count))


def noisy(spread: float) -> Draw:
    return lambda latency, count, workload, now, rng: (
        latency * np.exp(spread * rng.standard_normal(count))
    )


def equal(
    latency: float, count: int, workload: Workload, now: float, rng: np.random.Generator
) -> Samples:
    return np.full(count, latency)


def quantised(tick_ns: float, *, down: bool = False) -> Draw:
    """A timer of so many nanoseconds, which rounds to the nearest tick, or down; at least one tick."""

    def draw(
        latency: float, count: int, workload: Workload, now: float, rng: np.random.Generator
    ) -> Samples:
        ticks = clean(latency, count, workload, now, rng) / tick_ns
        return tick_ns * np.maximum(1, np.floor(ticks) if down else np.rint(ticks))

    return draw


def two_speeds(share: float, factor: float) -> Draw:
    """A share of all inferences is slower."""
    return lambda latency, count, workload, now, rng: (
        clean(latency, count, workload, now, rng) * np.where(rng.random(count) < share, factor, 1.0)
    )


def two_places(share: float, factor: float) -> Draw:
    """A share of all loaded models is slower."""
    return lambda latency, count, workload, now, rng: (
        clean(latency, count, workload, now, rng) * (factor if workload.luck < share else 1.0)
    )


def heavy(shape: float) -> Draw:
    """Square roots of Pareto's distribution."""
    return lambda latency, count, workload, now, rng: (
        clean(latency, count, workload, now, rng) * np.sqrt(1 + rng.pareto(shape, count))
    )


def heating(rise: float) -> Draw:
    """Samples rise by so much within every visit."""
    return lambda latency, count, workload, now, rng: (
        clean(latency, count, workload, now, rng) * (1 + rise * np.arange(count) / count)
    )


def some(group: Callable[[Workload], bool], draw: Draw) -> Draw:
    """`draw` for a group of workloads only."""
    return lambda latency, count, workload, now, rng: (draw if group(workload) else clean)(
        latency, count, workload, now, rng
    )


def lasting(within: float, between: float) -> Draw:
    """Autocorrelated samples within a visit, and a workload's own waves between visits."""

    def draw(
        latency: float, count: int, workload: Workload, now: float, rng: np.random.Generator
    ) -> Samples:
        steps = rng.standard_normal(count)
        for place in range(1, count):
            steps[place] = 0.9 * steps[place - 1] + math.sqrt(1 - 0.81) * steps[place]
        phase = 2.4 * (workload.number + 31 * len(workload.kind))
        wave = math.sin(2 * math.pi * now / 3.1 + phase) + math.sin(2 * math.pi * now / 1.3 - phase)
        return latency * np.exp(within * steps + between * wave)

    return draw


def one(draw: Draw) -> Draw:
    """Of every visit only one sample."""
    return lambda latency, count, workload, now, rng: draw(latency, 1, workload, now, rng)


@dataclass(frozen=True)
class Scenario:
    """What happens on a machine, and what is true of it.

    Attributes:
        about: what happens.
        level: how much slower the machine is at a moment.
        hits: which workloads that slows down.
        spread: sensitivities to it are between 1 - spread and 1 + spread.
        group, change: these workloads are slower by `change` of the moment, on top.
        samples: what a visit tells.
        truth: the range of the truth, relative to the undisturbed latency.
        continuous: the machine has no speed that lasts. The truth is then any speed of the run's fastest
            quarter.
        units: the number of units.
    """

    about: str
    level: Level = steady
    hits: Callable[[Workload], bool] = everything
    spread: float = 0.0
    group: Callable[[Workload], bool] = everything
    change: Level = steady
    samples: Draw = clean
    truth: tuple[float, float] = (1.0, 1.0)
    continuous: bool = False
    units: int = 1

    def truth_of(self, run_s: float) -> tuple[float, float]:
        """The range of the truth in a run of `run_s` seconds."""
        if not self.continuous:
            return self.truth
        levels = [self.level(run_s * place / 400) for place in range(401)]
        low, high = float(np.min(levels)), float(np.quantile(levels, 0.25))
        return low ** (1 - self.spread), high ** (1 + self.spread)

    def slowness(self, workload: Workload, now: float) -> float:
        """How much slower a workload is at a moment."""
        slowness = 1.0
        if self.hits(workload):
            place = (0.618 * (workload.number + 7 * len(workload.kind))) % 1.0
            slowness *= self.level(now) ** (1 + self.spread * (2 * place - 1))
        if self.group(workload):
            slowness *= self.change(now)
        return slowness


_PARETO_MEDIAN = 2 ** (0.5 / 1.2)

SCENARIOS: dict[str, Scenario] = {
    # Nothing happens
    "calm": Scenario("nothing"),
    "noisy": Scenario("samples spread by 4 %", samples=noisy(0.04)),
    # The whole machine changes its speed
    "step-up": Scenario("3 times slower after 1.2 s", step(1.2, 1, 3)),
    "step-up-small": Scenario("1.2 times slower after 1.2 s", step(1.2, 1, 1.2)),
    "step-down": Scenario("3 times slower until 1.2 s", step(1.2, 3, 1)),
    "step-down-small": Scenario("1.25 times slower until 1.2 s", step(1.2, 1.25, 1)),
    "throttled-first": Scenario("2.5 times slower for the first 0.6 of 2 s", throttle(2, 0.6, 2.5)),
    "throttled-last": Scenario("the same for the last 0.6", throttle(2, 0.6, 2.5, 0.6)),
    "throttled-middle": Scenario("the same in the middle", throttle(2, 0.6, 2.5, 1.3)),
    "throttled-quickly": Scenario("for 0.1 of 0.33 s", throttle(0.33, 0.1, 2.5)),
    "throttled-at-once": Scenario("for 12 of 40 ms, a few visits", throttle(0.04, 0.012, 2.5)),
    "throttled-slowly": Scenario("for 1.5 of 3 s", throttle(3, 1.5, 2)),
    "throttled-mostly": Scenario("for 1.2 of 1.8 s", throttle(1.8, 1.2, 2.5)),
    "throttled-little": Scenario("1.25 times slower for half of 1 s", throttle(1, 0.5, 1.25)),
    "seldom-fast": Scenario("2.5 times slower but for 0.2 of 2 s", throttle(2, 1.8, 2.5)),
    "walk": Scenario("a random walk of 5 % each 50 ms", walk(0.05, 3), continuous=True),
    "wide-walk": Scenario("a random walk of 10 % each 50 ms", walk(0.1, 4), continuous=True),
    "waves": Scenario("waves of 25 and 15 %", waves((0.25, 7.0), (0.15, 1.6)), continuous=True),
    "ripples": Scenario("waves of 4 %", waves((0.04, 0.9)), continuous=True),
    "ramp": Scenario("slower by 45 % in the end", ramp(1.45, 4.0), continuous=True),
    "small-ramp": Scenario("slower by 10 % in the end", ramp(1.1, 4.0), continuous=True),
    "true-ramp": Scenario("slower by 15 % in the end; the truth is the beginning", ramp(1.15, 4.0)),
    "ramp-down": Scenario(
        "1.4 times slower at first", lambda now: max(1.0, 1.4 - 0.2 * now), continuous=True
    ),
    "slow-start": Scenario("2.5 times slower for 1 s", step(1.0, 2.5, 1)),
    "slow-moment": Scenario("2.5 times slower for 0.2 s", step(0.2, 2.5, 1)),
    "fast-start": Scenario("2.5 times slower after 1 s", step(1.0, 1, 2.5)),
    "fast-moment": Scenario("2.5 times slower after 0.2 s", step(0.2, 1, 2.5)),
    "calm-last": Scenario("3 times slower for 1.8 s", step(1.8, 3, 1)),
    "bursts": Scenario("4 times slower in one of 10 tenths of a second", spikes(0.1, 4, 5)),
    # Sensitivities
    "step-uneven": Scenario("3 times slower, some ops more", step(1.2, 1, 3), spread=0.4),
    "throttled-uneven": Scenario("2.5 times, some more", throttle(2, 0.6, 2.5), spread=0.4),
    "little-uneven": Scenario("1.25 times, some more", throttle(1, 0.5, 1.25), spread=0.4),
    "waves-uneven": Scenario(
        "waves of 8 %, some more", waves((0.08, 1.7)), spread=0.4, continuous=True
    ),
    # Some workloads only
    "sentinel-alone": Scenario(
        "the sentinel is 3 times slower after 1 s", step(1, 1, 3), only(Kind.SENTINEL)
    ),
    "sentinel-spared": Scenario(
        "all but the sentinel are 3 times slower after 1.2 s",
        step(1.2, 1, 3),
        all_but(Kind.SENTINEL),
    ),
    "sentinel-spared-throttled": Scenario(
        "all but the sentinel are 2.5 times slower for 0.6 of 2 s",
        throttle(2, 0.6, 2.5),
        all_but(Kind.SENTINEL),
    ),
    "reference-alone": Scenario(
        "the reference is 2 times slower after 1 s", step(1, 1, 2), only(Kind.REFERENCE)
    ),
    "fifth-slower": Scenario(
        "every 5th op is 1.5 times slower after 1.2 s", group=every(5), change=step(1.2, 1, 1.5)
    ),
    "fifth-slower-early": Scenario(
        "every 5th op is 1.5 times slower after 0.9 s, in noise",
        group=every(5),
        change=step(0.9, 1, 1.5),
        samples=noisy(0.03),
    ),
    "fourth-little-slower": Scenario(
        "every 4th op is 1.12 times slower after 1 s, in noise",
        group=every(4),
        change=step(1.0, 1, 1.12),
        samples=noisy(0.02),
    ),
    "sixth-faster": Scenario(
        "every 6th op is 1.5 times slower until 1.2 s", group=every(6), change=step(1.2, 1.5, 1)
    ),
    "fifth-heats": Scenario(
        "every 5th op gets 30 % slower over 4 s", group=every(5), change=ramp(1.3, 4.0)
    ),
    "fifth-switches": Scenario(
        "every 5th op is 1.3 times slower for 0.8 of 2 s",
        group=every(5),
        change=throttle(2, 0.8, 1.3, 1.3),
    ),
    "third-slower": Scenario(
        "every 3rd op is 1.4 times slower after 1.1 s", group=every(3), change=step(1.1, 1, 1.4)
    ),
    "fourth-heats": Scenario(
        "every 4th op gets 20 % slower over 3 s", group=every(4), change=ramp(1.2, 3.0)
    ),
    "half-slower": Scenario(
        "half of all ops are 1.5 times slower after 1.2 s", group=every(2), change=step(1.2, 1, 1.5)
    ),
    "half-slower-early": Scenario(
        "half of all ops are 2.5 times slower after 0.5 s",
        group=a_share(0.5),
        change=step(0.5, 1, 2.5),
    ),
    "half-little-slower": Scenario(
        "half of all ops are 1.15 times slower after 1 s, in noise",
        group=a_share(0.5),
        change=step(1.0, 1, 1.15),
        samples=noisy(0.02),
    ),
    "half-slower-awhile": Scenario(
        "60 % of all ops are 1.4 times slower from 0.6 to 1.4 s",
        group=a_share(0.6),
        change=lambda now: 1.4 if 0.6 <= now < 1.4 else 1.0,
    ),
    "half-faster": Scenario(
        "half of all ops are 1.3 times slower until 0.8 s",
        group=every(2),
        change=step(0.8, 1.3, 1),
    ),
    "some-faster-late": Scenario(
        "40 % of all ops are 2 times slower until 1.7 s",
        group=a_share(0.4),
        change=step(1.7, 2, 1),
    ),
    "most-slower": Scenario(
        "80 % of all ops are 1.2 times slower after 0.8 s",
        group=a_share(0.8),
        change=step(0.8, 1, 1.2),
    ),
    "most-faster": Scenario(
        "85 % of all ops are 3 times slower until 1.3 s",
        group=a_share(0.85),
        change=step(1.3, 3, 1),
    ),
    "some-slower-early": Scenario(
        "35 % of all ops are 2.5 times slower after 0.4 s",
        group=a_share(0.35),
        change=step(0.4, 1, 2.5),
    ),
    "frames-slower": Scenario(
        "every 3rd pair of frames is 1.5 times slower after 1.2 s",
        group=every(3, kind=Kind.FRAME),
        change=step(1.2, 1, 1.5),
    ),
    # Samples
    "two-speeds": Scenario(
        "every other sample is 1.3 times slower", samples=two_speeds(0.5, 1.3), truth=(1.0, 1.3)
    ),
    "seldom-slow": Scenario("a fifth of samples is 1.5 times slower", samples=two_speeds(0.2, 1.5)),
    "two-places": Scenario(
        "every other model is 1.15 times slower", samples=two_places(0.5, 1.15), truth=(1.0, 1.15)
    ),
    "bad-places": Scenario("3 of 10 models are 1.2 times slower", samples=two_places(0.3, 1.2)),
    "heavy": Scenario("heavy tails", samples=heavy(1.2), truth=(_PARETO_MEDIAN, _PARETO_MEDIAN)),
    "wide": Scenario("samples spread by 20 %", samples=noisy(0.2)),
    "equal": Scenario("all samples are equal", samples=equal),
    "1us": Scenario("a timer of 1 us", samples=quantised(1e3)),
    "1us-down": Scenario("a timer of 1 us, rounding down", samples=quantised(1e3, down=True)),
    "100us": Scenario("a timer of 0.1 ms", samples=quantised(1e5)),
    "1ms": Scenario("a timer of 1 ms", samples=quantised(_MS)),
    "1ms-down": Scenario("a timer of 1 ms, rounding down", samples=quantised(_MS, down=True)),
    "15ms": Scenario("a timer of 15.625 ms", samples=quantised(15.625 * _MS)),
    "15ms-down": Scenario(
        "a timer of 15.625 ms, rounding down", samples=quantised(15.625 * _MS, down=True)
    ),
    "lasting": Scenario("autocorrelated samples in a visit", samples=lasting(0.02, 0.0)),
    "wandering": Scenario("every workload has waves of its own", samples=lasting(0.005, 0.02)),
    "one": Scenario("one sample a visit", samples=one(clean)),
    "one-heavy": Scenario(
        "one sample a visit, heavy tails",
        samples=one(heavy(4.0)),
        truth=(2 ** (0.5 / 4), 2 ** (0.5 / 4)),
    ),
    "heating": Scenario("samples rise by 4 % within a visit", samples=heating(0.04)),
    "heating-little": Scenario("samples rise by 2 % within a visit", samples=heating(0.02)),
    "heating-much": Scenario("samples rise by 10 % within a visit", samples=heating(0.10)),
    "third-heating": Scenario(
        "samples of every 3rd op rise by 15 % within a visit", samples=some(every(3), heating(0.15))
    ),
    "half-heating": Scenario(
        "samples of half of all ops rise by 12 % within a visit",
        samples=some(a_share(0.5), heating(0.12)),
    ),
    "fourth-heating": Scenario(
        "samples of every 4th op rise by 25 % within a visit", samples=some(every(4), heating(0.25))
    ),
    # Several units
    "unlike-units": Scenario(
        "one of two units is 1.4 times slower",
        lambda now: 1.4,
        on_unit(1),
        truth=(1.2, 1.2),  # the median of two units
        units=2,
    ),
    "one-throttled-unit": Scenario(
        "one of three units is 2.5 times slower for 0.6 of 2 s",
        throttle(2, 0.6, 2.5),
        on_unit(1),
        units=3,
    ),
    "one-stepping-unit": Scenario(
        "one of two units is 1.3 times slower after 1 s", step(1.0, 1, 1.3), on_unit(1), units=2
    ),
}
