"""From θ to an architecture.

θ makes every architecture's probability a product over its layers. Without a budget the most
probable one takes each layer's best candidate. With a budget it is a multiple-choice knapsack
(Sinha and Zoltners, Operations Research 27, 1979), solved by dynamic programming over the layers:
of all partial networks, only those are kept for which no other is both faster and more probable.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbnet_search.latency import LatencyModel
from fbnet_search.supernet import probabilities
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency
from latbench.space import CANDIDATES, Architecture, SearchSpace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Sums of the same latencies in another order differ by less than this, relatively.
_ROUNDING = 1e-12

#: Partial networks kept exactly. Where θ is all but proportional to latency their number would
#: grow without bound; beyond this many, those of all but equal probability are thinned out.
_MOST_KEPT = 200_000


def derive_architecture(
    theta: Tensor, latency: LatencyModel, lut: Lut, target_ms: float | None = None
) -> Architecture:
    """Return the most probable architecture, among those within `target_ms` if it is given.

    Args:
        theta: logits, shape (layers, candidates).
        latency: the latency model of `lut`.
        target_ms: what `predict_latency(lut, architecture).ms` must not exceed.

    Raises:
        BadRequest: no architecture is that fast; the message names the fastest possible.
    """
    space = lut.search_space
    if target_ms is None:
        return architecture_of(space, theta.argmax(1).tolist())
    require_reachable(target_ms, latency)
    logits = probabilities(theta).clamp_min(1e-300).log().numpy()
    budget = (target_ms - latency.fixed_ms) + _ROUNDING * max(target_ms, abs(latency.fixed_ms))
    for choices in most_probable_first(logits, latency.layer_ms.numpy(), budget):
        architecture = architecture_of(space, choices)
        # The same sum in the order of predict_latency may be a rounding error above the target.
        if predict_latency(lut, architecture).ms <= target_ms * (1 + _ROUNDING):
            return architecture
    raise _unreachable(target_ms, latency)


def require_reachable(target_ms: float, latency: LatencyModel) -> None:
    """Make sure that some network is as fast as `target_ms`.

    Raises:
        BadRequest: none is; the message names the fastest possible.
    """
    if not target_ms * (1 + _ROUNDING) >= latency.fastest_ms:
        raise _unreachable(target_ms, latency)


def _unreachable(target_ms: float, latency: LatencyModel) -> BadRequest:
    fastest = np.ceil(latency.fastest_ms * 1e4) / 1e4  # rounded up, so that it can be typed in
    return BadRequest(
        f"no network of this space is as fast as {target_ms:g} ms: "
        f"the fastest takes {fastest:.4f} ms",
        hint=f"give --target-ms {fastest:.4f} or more; "
        f"the slowest takes {latency.slowest_ms:.4f} ms",
    )


def most_probable_first(
    log_probabilities: Floats, layer_ms: Floats, budget_ms: float
) -> list[tuple[int, ...]]:
    """Return the Pareto-optimal choices within a budget, most probable (and slowest) first.

    The first is the most probable of all choices within the budget; the list is empty if there is
    none. Exact as long as at most 200,000 partial networks are Pareto-optimal at a layer; beyond,
    the log-probability found is within 1/200,000 of its range, a layer, of the best.

    Args:
        log_probabilities, layer_ms: shape (layers, candidates); latencies are not negative.
        budget_ms: what the sum of the chosen `layer_ms` must not exceed.
    """
    remaining = np.append(np.cumsum(layer_ms.min(1)[::-1])[::-1], 0.0)
    ms, logs = np.zeros(1), np.zeros(1)
    steps: list[tuple[Integers, Integers]] = []
    for layer, (layer_logs, costs) in enumerate(zip(log_probabilities, layer_ms, strict=True)):
        ms = (ms[:, None] + costs).ravel()
        logs = (logs[:, None] + layer_logs).ravel()
        origins = np.flatnonzero(ms + remaining[layer + 1] <= budget_ms)
        front = origins[_pareto_front(ms[origins], logs[origins])]
        ms, logs = ms[front], logs[front]
        parents, choices = np.divmod(front, len(costs))
        steps.append((parents, choices))
    if len(ms) == 0:
        return []
    state = np.arange(len(ms))[::-1]
    columns: list[Integers] = []
    for parents, choices in reversed(steps):
        columns.append(choices[state])
        state = parents[state]
    return [tuple(row) for row in np.stack(columns[::-1], axis=1).tolist()]


def _pareto_front(ms: Floats, logs: Floats) -> Integers:
    """Indices of the points for which none is as fast and as probable, fastest first."""
    order = np.lexsort((-logs, ms))
    best = np.maximum.accumulate(logs[order])
    front: Integers = order[np.append(True, best[1:] > best[:-1])[: len(order)]]
    if len(front) <= _MOST_KEPT:
        return front
    levels = logs[front]
    bins = np.floor((levels - levels[0]) / (levels[-1] - levels[0]) * _MOST_KEPT)
    thinned: Integers = front[np.append(True, bins[1:] != bins[:-1])]
    return thinned


def sample_architectures(
    theta: Tensor, space: SearchSpace, count: int, *, seed: int = 0
) -> list[Architecture]:
    """Return `count` architectures drawn from softmax(θ), as the paper does after its search."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.multinomial(probabilities(theta), count, replacement=True, generator=generator)
    return [architecture_of(space, column) for column in draws.T.tolist()]


def architecture_of(space: SearchSpace, choices: Sequence[int]) -> Architecture:
    """Return the architecture with the candidates at these indices, and the default head."""
    return Architecture(space, tuple(CANDIDATES[choice] for choice in choices), space.heads[0])
