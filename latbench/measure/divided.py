"""Whether some ops of a run changed their speed while others did not.

A slow moment affects all workloads, some more than others (`latbench.measure.moments`). If only a part of
them changes at one moment, a run cannot know which part shows the state of the machine, and the estimate of
the slowdown follows now the one, now the other. It shows in either of two ways:

    sensitivities  the estimate fits, because a part of the ops counts as hardly sensitive to slowdowns, or as
                   several times as sensitive as the others
    a change       the estimate does not fit: from one moment on, a part of the ops is faster or slower than
                   before at every visit, relative to the slowdown

In 42 runs of ONNX Runtime and LiteRT on a restless Xeon, at most 4 % of the ops had such sensitivities. At
most 11 % of 24 ops or more with visits on both sides of a moment changed at it, and at most 3 of fewer. If a
fifth of all ops or more change, it is more by one of the two (`bench/synthetic.py`).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.measure.modes import modes
from latbench.measure.plan import Role
from latbench.measure.records import Trial
from latbench.measure.slowdown import Slowdowns
from latbench.statistics import MAD_TO_SIGMA

#: An op is insensitive, or too sensitive, if its sensitivity is beyond these by so many standard errors.
#: A run with this share of them is divided.
_INSENSITIVE, _TOO_SENSITIVE = 0.5, 1.8
_CERTAIN = 3.0
_SENSITIVE_SHARE = 0.08

#: It is also divided if its sensitivities have several modes, the outer ones this far apart (a ratio). Nine
#: in ten of honest runs' are between 0.6 and 1.6, and have one.
_APART = 2.0

#: Sensitivities are known if the slowdowns' range, from 1 to 99 %, exceeds this quantile of ops' deviations.
_NOISE_SHARE = 0.8

#: An op has changed if all its visits after a moment differ from all those before by at least this much,
#: relative, and by so many standard deviations of the trials of all ops. The extremes of a dozen visits of
#: equal speed differ by three or four.
_LEAST_CHANGE = 0.05
_CLEAR = 6.0

#: A run is divided if, of the ops that were visited before and after a moment, at least this share and number
#: changed in one direction, those in the other direction subtracted. Fewer than `_MIN_SEEN` ops tell nothing,
#: nor do ops of fewer than `_MIN_VISITS`.
_CHANGED_SHARE = 0.15
_CHANGED = 5
_MIN_SEEN = 12
_MIN_VISITS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Visits:
    """The visits to one op on one unit, in the order taken: their times, and logs of their medians."""

    times: Floats
    logs: Floats

    @property
    def rise(self) -> tuple[float, int]:
        """The largest step from all earlier visits up to all later ones, and the visit before it."""
        steps = _lowest_after(self.logs)[1:] - np.maximum.accumulate(self.logs)[:-1]
        return float(steps.max()), int(steps.argmax())


def _lowest_after(logs: Floats) -> Floats:
    lowest: Floats = np.minimum.accumulate(logs[::-1])[::-1]
    return lowest


def is_divided(trials: Iterable[Trial], slowdowns: Slowdowns) -> bool:
    """Whether a part of the ops of a run changed their speed while others did not, on any unit."""
    by_unit: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for one in trials:
        if one.role is Role.OP and one.failure is None:
            by_unit[one.unit][one.workload].append(one)
    units = [
        [_visits(its, slowdowns) for its in by_op.values() if len(its) >= _MIN_VISITS]
        for by_op in by_unit.values()
    ]
    ops = {op for by_op in by_unit.values() for op, its in by_op.items() if len(its) >= _MIN_VISITS}
    if len(ops) < _MIN_SEEN:
        return False
    deviations = np.abs(
        np.concatenate([op.logs - np.median(op.logs) for of_unit in units for op in of_unit])
    )
    least = max(_LEAST_CHANGE, _CLEAR * MAD_TO_SIGMA * float(np.median(deviations)))
    lowest, highest = np.quantile(np.log(list(slowdowns.levels.values())), [0.01, 0.99])
    known = highest - lowest > np.quantile(deviations, _NOISE_SHARE)
    return (known and _unlike([slowdowns.sensitivities[op] for op in ops])) or any(
        _changed(of_unit, least) for of_unit in units
    )


def _unlike(sensitivities: Iterable[tuple[float, float]]) -> bool:
    """Whether sensitivities, each with its standard error, are too far apart to be those of one machine."""
    values, errors = np.array(list(sensitivities)).T
    beyond = (values + _CERTAIN * errors < _INSENSITIVE) | (
        values - _CERTAIN * errors > _TOO_SENSITIVE
    )
    found = modes(np.log(values))
    apart = found[-1].centre - found[0].centre > math.log(_APART)
    return apart or float(beyond.mean()) >= _SENSITIVE_SHARE


def _visits(trials: Sequence[Trial], slowdowns: Slowdowns) -> _Visits:
    ordered = sorted(trials, key=lambda trial: (trial.started, trial.id))
    return _Visits(
        np.array([trial.started for trial in ordered]),
        np.log([trial.median_ms / slowdowns.factor(trial) for trial in ordered]),
    )


def _changed(ops: Sequence[_Visits], least: float) -> bool:
    """Whether enough ops changed by more than `least` at one moment."""
    if len(ops) < _MIN_SEEN:
        return False
    moments = np.unique(np.concatenate([op.times for op in ops]))
    seen = _count([(op.times[0], op.times[-1]) for op in ops], moments)
    slower, faster = (
        _count(
            [
                (op.times[place], op.times[place + 1])
                for op in ops
                for step, place in (_Visits(op.times, sign * op.logs).rise,)
                if step > least
            ],
            moments,
        )
        for sign in (1, -1)
    )
    changed = np.abs(slower - faster)
    enough = (seen >= _MIN_SEEN) & (changed >= np.maximum(_CHANGED, _CHANGED_SHARE * seen))
    return bool(enough.any())


def _count(spans: Sequence[tuple[float, float]], moments: Floats) -> NDArray[np.intp]:
    """At each moment, the number of time spans that contain it, their last moment included."""
    starts, ends = np.array(spans, np.float64).reshape(-1, 2).T
    return np.searchsorted(np.sort(starts), moments) - np.searchsorted(np.sort(ends), moments)
