"""The tick of the clock that timed a run, as far as its samples show it.

A tick is a property of a clock, so all samples of a unit tell it together: a few samples of one workload may
be far apart by chance, which is no tick.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int64]
Rounds = Sequence[Sequence[int] | Samples]

#: Differences of so many nanoseconds are roundings of a tick that is no whole number of them.
_ROUNDING_NS = 2

#: A tick shows in so many steps between different values, none longer than so many ticks: roundings add up in
#: longer ones.
_STEPS = 2
_LONGEST = 20

#: So few different values of one workload may be multiples of a number by chance.
_FEW_VALUES = 3


def tick_of(workloads: Sequence[Rounds]) -> float:
    """The tick of the clock that timed the visits to `workloads`, nanoseconds, at least 1.

    It is the smallest step between two values of all samples, beyond roundings, if the steps about as short
    as this are multiples of it. If there are too few for that, every sample is a multiple of it: it is their
    greatest common divisor, or if there are fewer different values than workloads, which then take equally
    long, the smallest step or value. The few values of a workload that is alone, as where a program reports
    rounded averages, need not be multiples of a tick: then it is the decimal place that all of them end at.

    Args:
        workloads: for each, the samples of its visits, nanoseconds.
    """
    each = [np.concatenate(visits) for visits in workloads if len(visits)]
    values = np.unique(np.concatenate(each)) if each else np.empty(0, np.int64)
    if values.size == 0:
        return 1.0
    steps = np.diff(values)
    tick = _step_of(steps[steps > _ROUNDING_NS])
    if tick is not None:
        return tick
    ticks = values[np.diff(values, prepend=-_ROUNDING_NS - 1) > _ROUNDING_NS]
    if ticks.size < len(each):
        return float(np.diff(ticks, prepend=0).min())
    common = int(np.gcd.reduce(values))
    if len(each) == 1 and ticks.size <= _FEW_VALUES:
        return float(10 ** (len(str(common)) - len(str(common).rstrip("0"))))
    return float(common)


def _step_of(steps: Samples) -> float | None:
    """The smallest of `steps`, if those about as short are multiples of it but for roundings."""
    if steps.size < _STEPS:
        return None
    least = int(steps.min())
    short = steps[steps <= _LONGEST * least]
    counts = np.rint(short / least)
    if short.size < _STEPS or np.any(np.abs(short - counts * least) > _ROUNDING_NS + counts):
        return None
    return float(least)
