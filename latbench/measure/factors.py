"""The factor that each trial of a run is normalised by.

It is the slowdown of the unit at that moment (`latbench.measure.moments`), as far as the trial's workload is
sensitive to it, times the factor of the unit: if several units take part, one may be faster than another at
everything. The ratio is that of their sentinels.

The reference uses no runtime: its neighbours estimate its slowdown, which counts as far as it is sensitive to
it, and it does not estimate theirs.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latbench.measure.moments import SENSITIVITY_BOUNDS, estimate_moments
from latbench.measure.plan import Role
from latbench.measure.records import Trial

#: Two trials of the reference tell its sensitivity if their slowdowns, in logarithms, are this far apart, and
#: if there are so many such pairs. Over five runs of ONNX Runtime and four of LiteRT on a restless Xeon,
#: whole networks relative to the reference had a standard deviation of 0.59 and 0.83 %, and of 0.35 and
#: 0.71 % with the reference's own sensitivity.
_APART = 0.05
_MIN_PAIRS = 20


@dataclass(frozen=True)
class Factors:
    """`trial_slowdowns`; the slowdown of the unit alone; the error of a trial's slowdown, relative, that all
    trials of its workload have in common; the sensitivity of each workload and its error; and the error of a
    moment's slowdown, relative.
    """

    factors: dict[int, float]
    levels: dict[int, float]
    shared_errors: dict[int, float]
    sensitivities: dict[str, tuple[float, float]]
    error: float


def unit_factors(trials: Iterable[Trial]) -> dict[str, float]:
    """The slowdown of each unit of a run relative to the median unit, estimated from its sentinel.

    It is the median of a unit's best visits to the sentinel over the median of all units' medians, so 1
    for a single unit. A unit whose sentinel was never timed is left out.
    """
    visits: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.role is Role.SENTINEL and trial.failure is None:
            visits[trial.unit].append(trial)
    medians = {
        unit: statistics.median(trial.median_ms for trial in best_trials(of_unit))
        for unit, of_unit in visits.items()
    }
    middle = statistics.median(medians.values()) if medians else 1.0
    return {unit: median / middle for unit, median in medians.items()}


def best_trials(trials: Iterable[Trial]) -> list[Trial]:
    """The successful trials of one workload that are trusted, or all successful ones if none is."""
    timed = [trial for trial in trials if trial.failure is None]
    return [trial for trial in timed if trial.taint is None] or timed


def trial_slowdowns(trials: Iterable[Trial]) -> dict[int, float]:
    """The slowdown at each successful trial, by the trial's id, relative to the baseline quarter.

    It is the product of the unit's factor and the unit's slowdown at that moment. Tainted trials count. The
    reference uses no runtime: its neighbours estimate its slowdown, which counts as far as it is sensitive to
    it, and it does not estimate theirs.
    """
    return estimate_factors(trials).factors


def estimate_factors(trials: Iterable[Trial]) -> Factors:
    timed = [trial for trial in trials if trial.failure is None]
    timed.sort(key=lambda trial: (trial.unit, trial.started, trial.id))
    units = unit_factors(timed)
    factors = {trial.id: units.get(trial.unit, 1.0) for trial in timed}
    ordinary = [trial for trial in timed if trial.role is not Role.REFERENCE]
    found = estimate_moments(ordinary, factors)
    logs = found.logs
    for trial, factor in zip(ordinary, np.exp(found.sensitivities * logs), strict=True):
        factors[trial.id] *= float(factor)
    references = [trial for trial in timed if trial.role is Role.REFERENCE]
    levels = dict(zip((trial.id for trial in ordinary), np.exp(logs).tolist(), strict=True))
    at_references = _interpolated(references, ordinary, logs)
    sensitivity = _reference_sensitivity(references, at_references, factors)
    for trial, log in zip(references, at_references, strict=True):
        levels[trial.id] = math.exp(log)
        factors[trial.id] *= math.exp(sensitivity * log)
    # A unit's baseline may be another state than its sentinel's median. Compare the units once more, by
    # normalised sentinels.
    sentinels = [trial for trial in timed if trial.role is Role.SENTINEL]
    left = unit_factors(normalised(trial, factors) for trial in sentinels)
    return Factors(
        {trial.id: factors[trial.id] * left.get(trial.unit, 1.0) for trial in timed},
        levels,
        dict(zip((one.id for one in ordinary), (found.uncertain * logs).tolist(), strict=True)),
        dict(
            zip(
                (one.workload for one in ordinary),
                zip(found.sensitivities.tolist(), found.uncertain.tolist(), strict=True),
                strict=True,
            )
        ),
        found.error,
    )


def normalised(trial: Trial, factors: Mapping[int, float]) -> Trial:
    """`trial` with its samples divided by its slowdown, rounded to whole nanoseconds above 0."""
    factor = factors.get(trial.id, 1.0)
    if factor == 1:
        return trial
    return replace(
        trial, samples_ns=np.maximum(1, np.rint(trial.samples_ns / factor)).astype(np.int64)
    )


def _interpolated(
    references: Sequence[Trial], ordinary: Sequence[Trial], logs: NDArray[np.float64]
) -> list[float]:
    """The log slowdown at each reference trial, linear in time between the ordinary trials of its unit."""
    found = np.zeros(len(references))
    for unit in {trial.unit for trial in references}:
        own = [number for number, trial in enumerate(references) if trial.unit == unit]
        known = [number for number, trial in enumerate(ordinary) if trial.unit == unit]
        if known:
            times = [ordinary[number].started for number in known]
            found[own] = np.interp(
                [references[number].started for number in own], times, logs[known]
            )
    return found.tolist()


def _reference_sensitivity(
    references: Sequence[Trial], logs: Sequence[float], factors: Mapping[int, float]
) -> float:
    """How sensitive the reference is to the slowdowns of the runtime's workloads, whose logs are `logs`.

    It is Theil and Sen's slope over the pairs of trials of a unit whose slowdowns differ enough; 1 if there
    are few such pairs. `factors` are divided out first.
    """
    slopes: list[NDArray[np.float64]] = []
    units = np.array([trial.unit for trial in references])
    values = np.log([trial.median_ms / factors[trial.id] for trial in references])
    for unit in set(units.tolist()):
        x, y = np.array(logs)[units == unit], values[units == unit]
        first, second = np.triu_indices(x.size, k=1)
        apart = np.abs(x[second] - x[first]) > _APART
        slopes.append((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    found = np.concatenate([*slopes, np.zeros(0)])
    if found.size < _MIN_PAIRS:
        return 1.0
    return float(np.clip(np.median(found), *SENSITIVITY_BOUNDS))
