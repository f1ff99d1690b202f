"""Which whole networks to time: for calibration, and for validation."""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latbench.space.architecture import (
    Architecture,
    published,
    random_architectures,
    random_channels,
)
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.candidate import Candidate, Layer
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import published_networks

__all__ = [
    "calibration_architectures",
    "landmark_networks",
    "sentinel_of",
    "varied_architectures",
]

_POOL = 400
_SKEW = 0.7

#: How many random networks the middle one is chosen from.
_DRAWN = 201

#: How often a network that may be known already is drawn for each that is wanted.
_DRAWS_FOR_EACH = 20

#: Every so many calibration networks one is designed; the others are drawn.
_DESIGNED_EVERY = 4

#: Relative prior standard deviations that the design is optimal for: of what all ops share, of each op, of
#: boundary costs, and of a network's noise. They are orders of magnitude, on which the design hardly depends.
_SHARED, _EACH, _BOUNDARY, _NOISE = 0.2, 0.05, 0.1, 0.008


def sentinel_of(space: SearchSpace) -> Architecture:
    """The network that runs in `space` watch the device with: its definition's, or one of average size."""
    sentinel = space.definition.sentinel
    if sentinel is not None:
        return Architecture.parse(sentinel.layers, space, name=sentinel.name)
    drawn = random_architectures(space, _DRAWN, seed=-1)
    drawn.sort(key=lambda one: (one.macs, one.notation))
    return replace(drawn[_DRAWN // 2], head=space.heads[0], name=f"{space.name}-middle")


def landmark_networks(space: SearchSpace) -> dict[str, Architecture]:
    """Networks of `space` by name, whose predictions show how it changed.

    They are the published networks with an official file; in a space without any, the network with the fewest
    MACs, the sentinel, and the network with the most.
    """
    known = published_networks()
    official = {
        name: published(name, space=space)
        for name, network in space.networks.items()
        if name in known and not network.transcription
    }
    if official:
        return official

    def macs(layer: Layer, candidate: Candidate) -> int:
        op = space.op(layer, candidate)
        return op.macs if op is not None else 0

    found = {}
    for name, choose in (("smallest", min), ("middle", None), ("largest", max)):
        if choose is None:
            found[name] = sentinel_of(space)
            continue
        channels = tuple(choose(stage.channels) for stage in space.definition.stages)
        choices = (
            choose(layer.candidates, key=functools.partial(macs, layer))
            for layer in space.layers_of(channels)
        )
        found[name] = Architecture(space, tuple(choices), space.heads[0], name, channels)
    return found


def varied_architectures(space: SearchSpace, count: int, *, seed: int = 0) -> list[Architecture]:
    """Return up to `count` different architectures of widely different latencies, reproducibly.

    Every other one draws its candidates uniformly. Such networks all have similar latencies, so the rest draw
    theirs with probabilities from a symmetric Dirichlet distribution. A small space may have fewer.
    """
    rng = random.Random(f"varied:{seed}")
    found: dict[tuple[str, int], Architecture] = {}
    for number in range(_DRAWS_FOR_EACH * count):
        weights = dict.fromkeys(space.candidates, 1.0)
        if number % 2:
            weights = {one: rng.gammavariate(_SKEW, 1.0) for one in space.candidates}
        channels = random_channels(space, rng)
        choices = tuple(
            rng.choices(at.candidates, [weights[one] for one in at.candidates])[0]
            for at in space.layers_of(channels)
        )
        drawn = Architecture(space, choices, rng.choice(space.heads), channels=channels)
        found.setdefault((drawn.notation, drawn.head), drawn)
        if len(found) == count:
            break
    return list(found.values())


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
    sentinel = sentinel_of(space)
    drawn_ones = varied_architectures(space, _POOL, seed=-1)
    same = sentinel.notation, sentinel.head
    pool = [sentinel, *(one for one in drawn_ones if (one.notation, one.head) != same)]
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
