"""The small search space of the payoff bench, and networks of one latency in it."""

import functools
import math
from collections.abc import Sequence
from itertools import islice

import numpy as np

from fbnet_search.choose.program import Budget, most_probable_first
from fbnet_search.cost.choices import architecture_of
from fbnet_search.cost.latency import LatencyModel
from latbench.space import Architecture, Candidate, SearchSpace
from latbench.space.definition import read_definition
from latbench.space.families.inverted_residual import InvertedResidualCandidate

#: FBNet's space with narrower and fewer layers, and its sentinel cut to them.
SMALL = """
name = "fbnet-small"
classes = 10
input = { size = 32, multiple = 8 }
stem = { channels = 8, stride = 2 }
stages = [
  { channels = 8, layers = 1 },
  { channels = 16, layers = 2, stride = 2 },
  { channels = 16, layers = 2 },
  { channels = 32, layers = 2 },
  { channels = 56, layers = 2 },
  { channels = 96, layers = 2, stride = 2 },
  { channels = 176, layers = 1 },
]
head = 256
candidates = ["k3e1", "k3e1g2", "k3e3", "k3e6", "k5e1", "k5e1g2", "k5e3", "k5e6", "skip"]
skip_projection = true
sentinel = { name = "fbnet_b", layers = "k3e1|k3e6 k5e1|k5e6 k5e3|k5e6 k5e6|k5e6 k3e1|k5e6 k5e1|k3e6" }
"""
FORBIDDEN = -1e3
ALTERNATIVES = 6  # of a rival network, of which one is chosen by measurement


@functools.cache
def space() -> SearchSpace:
    """The small space."""
    definition, problems, lines = read_definition(SMALL)
    assert definition is not None, [problem.located(lines) for problem in problems]
    return SearchSpace.of(definition.definition)


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
    row = [prefer.get(str(candidate), FORBIDDEN) for candidate in space().candidates]
    return [row for _ in space().layers]


def log_macs() -> list[list[float]]:
    """The logarithm of every candidate's MACs; an identity, which has none, counts as one."""
    ops = [
        [space().op(layer, candidate) for candidate in space().candidates]
        for layer in space().layers
    ]
    return [[math.log(op.macs) if op else 0.0 for op in row] for row in ops]


def _is_plain(one: Candidate) -> bool:
    return isinstance(one, InvertedResidualCandidate) and one.groups == 1


def random_networks(
    model: LatencyModel, target: float, count: int, seed: int
) -> list[Architecture]:
    """Networks without grouped blocks and skips that take [0.98, 1] of the target."""
    plain = [n for n, one in enumerate(space().candidates) if _is_plain(one)]
    drawn = np.random.default_rng(seed).choice(plain, size=(200_000, len(space().layers)))
    times = model.fixed_ms + model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    within = drawn[(times <= target) & (times >= 0.98 * target)]
    return [architecture_of(space(), row.tolist()) for row in within[:count]]


def middle(model: LatencyModel) -> float:
    """The median latency of networks without grouped blocks and skips, ms."""
    plain = [n for n, one in enumerate(space().candidates) if _is_plain(one)]
    drawn = np.random.default_rng(0).choice(plain, size=(20_000, len(space().layers)))
    times = model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    return float(model.fixed_ms + np.median(times))
