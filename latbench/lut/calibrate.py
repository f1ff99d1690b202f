"""Fit, to whole networks, how the entries of a LUT add up (`latbench.lut.regression` has the model).

Intervals are those of the regression, multiplied by the correction's interval factor: the root mean square of
the standardised errors of the calibration networks, each predicted by the others, and at least 1. That is the
jackknife's idea (Barber et al., "Predictive inference with the jackknife+", Annals of Statistics 49, 2021)
with a scale instead of a quantile, which a dozen networks would not determine. It holds for networks like
those of the calibration, so most of these are drawn at random (`latbench.space.design`).

With fewer than `MIN_AFFINE` networks, only a scale and deviations of entries are fitted. One network, the
sentinel, shows nothing of how networks differ; then the one disagreement observed, |1 - scale|, is used as
the unexplained part.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from latbench.lut.regression import MIN_AFFINE, Deviations, Fit, Network, fit, learn_deviations
from latbench.lut.schema import Correction, Entry, TimedNetwork
from latbench.space.architecture import Architecture
from latbench.space.search_space import SearchSpace
from latbench.space.traits import Trait

__all__ = ["MIN_AFFINE", "calibrate", "networks_of", "posterior_of"]

#: How much the latency of a network relative to that of others differs between two runs, relative: placement
#: in memory, and neighbours. The networks of one run cannot show it. Two sessions without load of ours
#: differed by 0.6 to 1.1 % on average (the floors of docs/accuracy.md), noise of both included.
_BETWEEN_RUNS = 0.006


def networks_of(timed: Sequence[TimedNetwork], space: SearchSpace) -> list[Network]:
    """The networks that a LUT's correction was fitted to."""
    return [
        Network(Architecture.parse(one.layers, space, head=one.head).ops, one.ms) for one in timed
    ]


def calibrate(
    entries: Mapping[str, Entry],
    timed: Sequence[TimedNetwork],
    space: SearchSpace,
    *,
    entry_factors: bool = True,
    traits: bool = True,
    boundary_costs: bool = True,
) -> Correction | None:
    """Return the correction fitted to `timed` networks; None if no network has all its entries.

    Args:
        entry_factors: let single entries deviate.
        traits: let ops that share a trait deviate together.
        boundary_costs: fit boundary costs. Without all three, only scale and offset are fitted.
    """
    timed = [
        one
        for one, network in zip(timed, networks_of(timed, space), strict=True)
        if all(op.key in entries for op in network.ops)
    ]
    if not timed:
        return None
    networks = networks_of(timed, space)
    if len(networks) == 1:
        scale = networks[0].ms / sum(entries[op.key].ms for op in networks[0].ops)
        return Correction(
            scale=scale, residual=abs(1 - scale), networks=1, calibration=tuple(timed)
        )
    kinds = [
        *(["entry"] if entry_factors else []),
        *(list(Trait) if traits else []),
        *(["boundary"] if boundary_costs else []),
    ]
    learnt = learn_deviations(entries, networks, kinds)
    found = fit(entries, networks, learnt.deviations)
    return Correction(
        scale=found.scale,
        offset_ms=found.offset_ms,
        residual=learnt.deviations.noise,
        networks=len(networks),
        entry_deviation=learnt.deviations.entry,
        trait_deviations=dict(learnt.deviations.traits),
        factors=found.factors,
        boundary_deviation=learnt.deviations.boundary,
        boundary_costs=found.boundary_costs,
        between_runs=_BETWEEN_RUNS,
        interval_factor=max(1.0, float(np.sqrt(np.mean(learnt.left_out**2)))),
        calibration=tuple(timed),
    )


def posterior_of(entries: Mapping[str, Entry], correction: Correction, space: SearchSpace) -> Fit:
    """The posterior whose mean is `correction`, which was fitted to two networks or more."""
    deviations = Deviations(
        noise=correction.residual,
        entry=correction.entry_deviation,
        traits=correction.trait_deviations,
        boundary=correction.boundary_deviation,
    )
    return fit(entries, networks_of(correction.calibration, space), deviations)
