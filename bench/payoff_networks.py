"""The small search space of the payoff bench, and networks of one latency in it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from fbnet_search.choose.derive import architecture_of
from fbnet_search.choose.program import Budget, most_probable_first
from fbnet_search.cost.latency import LatencyModel
from latbench.space import CANDIDATES, Architecture, SearchSpace
from latbench.space.design import SENTINEL
from latbench.space.macro import MacroArchitecture, Stage
from latbench.space.shipped import MACRO_ARCHITECTURES, PUBLISHED

STAGES = tuple(
    map(Stage, (8, 12, 16, 32, 56, 92, 176), (1, 2, 2, 2, 2, 2, 1), (1, 2, 1, 1, 1, 2, 1))
)
SMALL = MacroArchitecture("fbnet-small", (32,), 8, 8, 2, STAGES, (256,), 10)
FORBIDDEN = -1e3
ALTERNATIVES = 6  # of a rival network, of which one is chosen by measurement


def space() -> SearchSpace:
    """The small space, registered in this process so that networks and LUTs can name it.

    The sentinel, which every run times, is reduced to the space's layers.
    """
    if SMALL.name not in MACRO_ARCHITECTURES:
        MACRO_ARCHITECTURES[SMALL.name] = SMALL
        published = PUBLISHED[SENTINEL]
        cut = [
            " ".join(stage.split()[: here.layers])
            for stage, here in zip(published.layers["2020"].split("|"), STAGES, strict=True)
        ]
        PUBLISHED[SENTINEL] = replace(published, layers={"2020": "|".join(cut)})
    return SearchSpace.named(SMALL.name)


def most_of(
    scores: Sequence[Sequence[float]], model: LatencyModel, target: float
) -> list[Architecture]:
    """The networks with the largest sums of scores that take [0.98, 1] of the target, largest first."""
    logits = np.array(scores, dtype=np.float64)
    budget = Budget(target, 0.98 * target)
    first = islice(most_probable_first(logits, model, budget, budget.least_ms), ALTERNATIVES)
    return [architecture_of(space(), choices) for choices in first]


def by_candidate(prefer: dict[str, float]) -> list[list[float]]:
    """The scores of the named candidates, equal in every layer; the others are forbidden."""
    row = [prefer.get(str(candidate), FORBIDDEN) for candidate in CANDIDATES]
    return [row for _ in space().layers]


def log_macs() -> list[list[float]]:
    """The logarithm of every candidate's MACs; an identity, which has none, counts as one."""
    ops = [[space().op(layer, candidate) for candidate in CANDIDATES] for layer in space().layers]
    return [[math.log(op.macs) if op else 0.0 for op in row] for row in ops]


def random_networks(
    model: LatencyModel, target: float, count: int, seed: int
) -> list[Architecture]:
    """Networks without grouped blocks and skips that take [0.98, 1] of the target."""
    plain = [n for n, one in enumerate(CANDIDATES) if one.kernel and one.groups == 1]
    drawn = np.random.default_rng(seed).choice(plain, size=(200_000, len(space().layers)))
    times = model.fixed_ms + model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    within = drawn[(times <= target) & (times >= 0.98 * target)]
    return [architecture_of(space(), row.tolist()) for row in within[:count]]


def middle(model: LatencyModel) -> float:
    """The median latency of networks without grouped blocks and skips, ms."""
    plain = [n for n, one in enumerate(CANDIDATES) if one.kernel and one.groups == 1]
    drawn = np.random.default_rng(0).choice(plain, size=(20_000, len(space().layers)))
    times = model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    return float(model.fixed_ms + np.median(times))
