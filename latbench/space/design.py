"""Which whole networks to time: for calibration, and for validation."""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latbench.space.architecture import Architecture, published
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import CANDIDATES, SENTINEL

__all__ = ["SENTINEL", "calibration_architectures", "varied_architectures"]

_POOL = 400
_SKEW = 0.7

#: Every so many calibration networks one is designed; the others are drawn.
_DESIGNED_EVERY = 4

#: Relative prior standard deviations that the design is optimal for: of what all ops share, of each op, of
#: boundary costs, and of a network's noise. They are orders of magnitude, on which the design hardly depends.
_SHARED, _EACH, _BOUNDARY, _NOISE = 0.2, 0.05, 0.1, 0.008


def varied_architectures(space: SearchSpace, count: int, *, seed: int = 0) -> list[Architecture]:
    """Return `count` architectures of widely different latencies, reproducibly.

    Every other one draws its candidates uniformly. Such networks all have similar latencies, so the rest draw
    theirs with probabilities from a symmetric Dirichlet distribution.
    """
    rng = random.Random(f"varied:{seed}")
    found = []
    for number in range(count):
        weights = [1.0] * len(CANDIDATES)
        if number % 2:
            weights = [rng.gammavariate(_SKEW, 1.0) for _ in CANDIDATES]
        choices = rng.choices(CANDIDATES, weights, k=len(space.layers))
        found.append(Architecture(space, tuple(choices), rng.choice(space.heads)))
    return found


def calibration_architectures(space: SearchSpace, count: int) -> list[Architecture]:
    """Return `count` architectures to learn from how ops add up, the sentinel first.

    Most are drawn at random, like the networks of a validation: the errors of predictions for drawn networks,
    each left out of the fit, are then like those for other networks. With 24 designed networks alone, 95 %
    intervals covered 89 % of random networks of the same run (ONNX Runtime on a restless Xeon); with 24 drawn
    ones alone, 94 %, at the same mean error. Every `_DESIGNED_EVERY`th network is designed, since drawn ones
    resemble each other.

    A designed network is the one of a fixed pool whose latency is most uncertain given the networks before
    it, with errors common to all ops, of each op, and of boundary costs: a greedy Bayesian D-optimal design
    (Chaloner and Verdinelli, "Bayesian experimental design: a review", Statistical Science 10, 1995). MACs
    stand in for the latencies, which are not known yet.
    """
    pool = [published(SENTINEL, space=space), *varied_architectures(space, _POOL, seed=-1)]
    shares = _shares(space, pool)
    covariance = _SHARED**2 * np.outer(shares.sum(1), shares.sum(1))
    covariance += _EACH**2 * shares @ shares.T
    crossing = [boundary_values(architecture.ops) for architecture in pool]
    values = np.array([[one[kind] for kind in Boundary] for one in crossing], dtype=np.float64)
    values /= [[sum(math.prod(op.input_shape) for op in one.ops[1:])] for one in pool]
    covariance += _BOUNDARY**2 * values @ values.T
    # Networks of very different sizes separate the offset from the scale.
    sizes = np.array([architecture.macs for architecture in pool], dtype=np.float64)
    relative = sizes.mean() / sizes
    covariance += (_EACH * np.outer(relative, relative)) * _EACH
    chosen = [0]
    drawn = iter(range(1, len(pool)))
    while len(chosen) < min(count, len(pool)):
        if len(chosen) % _DESIGNED_EVERY:
            chosen.append(next(index for index in drawn if index not in chosen))
            continue
        known = covariance[np.ix_(chosen, chosen)] + _NOISE**2 * np.eye(len(chosen))
        across = covariance[:, chosen]
        left = np.diag(covariance) - np.einsum("ij,ij->i", across @ np.linalg.inv(known), across)
        left[chosen] = -np.inf
        chosen.append(int(left.argmax()))
    return [pool[index] for index in chosen[:count]]


def _shares(space: SearchSpace, networks: Sequence[Architecture]) -> NDArray[np.float64]:
    """The share of each op (column) in the MACs of each network (row)."""
    columns = {op: number for number, op in enumerate(space.unique_ops)}
    shares = np.zeros((len(networks), len(columns)))
    for row, network in enumerate(networks):
        for op in network.ops:
            shares[row, columns[op]] += op.macs
    total: NDArray[np.float64] = shares.sum(1, keepdims=True)
    return shares / total
