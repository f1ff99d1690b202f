"""From θ to architectures: the most probable ones within a budget, and samples.

Without a budget the most probable architecture takes each layer's best candidate; with one it is the
solution of a 0-1 program (`fbnet_search.choose.program`). A budget of latency has a lower bound too,
`least_ms`, since θ does not encode the target exactly and a network that leaves much of it unused is
seldom the best; the bound is dropped if no network reaches it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fbnet_search.choose.program import ROUNDING, Budget, most_probable_first
from fbnet_search.cost.choices import architecture_of, choices_of
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.supernet.network import probabilities
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency
from latbench.space import Architecture

#: The largest number of samples from θ to find some within a budget, and how many are drawn at a time.
_MAX_SAMPLES, _SAMPLE_BATCH = 100_000, 1000


def derive_architecture(
    theta: Tensor, latency: LatencyModel, lut: Lut, budget: Budget | None = None
) -> Architecture:
    """Return the most probable architecture within `budget`.

    Args:
        theta: logits, shape (layers, candidates).
        latency: the latency model of `lut`.
        budget: none by default. Its lower bound is kept if some network keeps it.

    Raises:
        BadRequest: no architecture keeps the budget; where the latency is the cause, the message gives
            that of the fastest.
    """
    return finalists(theta, latency, lut, budget, 1)[0]


def finalists(
    theta: Tensor, latency: LatencyModel, lut: Lut, budget: Budget | None, count: int
) -> list[Architecture]:
    """Return the `count` most probable architectures within `budget`, or all if fewer keep it.

    The most probable is first.

    Raises:
        BadRequest: as `derive_architecture`.
    """
    budget = budget or Budget()
    space = lut.search_space
    if budget.target_ms is not None:
        require_reachable(budget.target_ms, latency)
    logits = probabilities(theta).clamp_min(1e-300).log()
    logits[torch.isneginf(theta.detach().cpu())] = -torch.inf
    for least_ms in dict.fromkeys((budget.least_ms, 0.0)):
        found: list[Architecture] = []
        for choices in most_probable_first(logits.numpy(), latency, budget, least_ms):
            architecture = architecture_of(space, choices)
            # HiGHS keeps limits to a tolerance; here they are checked exactly.
            if _within(architecture, choices, lut, budget):
                found.append(architecture)
            if len(found) == count:
                break
        if found:
            return found
    raise BadRequest(
        "no network of this space keeps all limits together",
        hint="each limit alone can be kept; raise one of them",
    )


def _within(architecture: Architecture, choices: Sequence[int], lut: Lut, budget: Budget) -> bool:
    slack = 1 + ROUNDING
    if budget.target_ms is not None and (
        predict_latency(lut, architecture).ms > budget.target_ms * slack
    ):
        return False
    return all(
        budget.costs[kind].of(choices) <= limit * slack for kind, limit in budget.limits.items()
    )


def finalists_on_all(
    theta: Tensor,
    latencies: Sequence[LatencyModel],
    luts: Sequence[Lut],
    budget: Budget,
    count: int,
) -> list[Architecture]:
    """Return the `count` most probable architectures that keep `budget` on the targets of all LUTs.

    The lower bound of latency applies to a network's slowest target.

    Raises:
        BadRequest: as `derive_architecture`.
    """
    if len(luts) == 1 or budget.target_ms is None:
        return finalists(theta, latencies[0], luts[0], budget, count)
    logits = torch.log_softmax(theta.detach().double(), 1).numpy()
    found: dict[Architecture, tuple[bool, float]] = {}
    # One program for each target, whose latency has the lower bound; their solutions are then merged.
    for latency, lut in zip(latencies, luts, strict=True):
        others = {
            f"ms on {other.target}": model.cost
            for other, model in zip(luts, latencies, strict=True)
            if other is not lut
        }
        limits = {**budget.limits, **dict.fromkeys(others, budget.target_ms)}
        costs = {**budget.costs, **others}
        own = Budget(budget.target_ms, budget.least_ms, limits, costs)
        for one in finalists(theta, latency, lut, own, count):
            choices = choices_of(one)
            slowest_ms = max(model.of_choices(choices) for model in latencies)
            log_probability = float(
                sum(logits[layer, choice] for layer, choice in enumerate(choices))
            )
            found[one] = slowest_ms >= budget.least_ms, log_probability
    return sorted(found, key=lambda one: found[one], reverse=True)[:count]


def require_reachable(target_ms: float, latency: LatencyModel) -> None:
    """Check that some network is predicted to take at most `target_ms`.

    Raises:
        BadRequest: none is; the message gives the latency of the fastest.
    """
    if not target_ms * (1 + ROUNDING) >= latency.fastest_ms:
        fastest = np.ceil(latency.fastest_ms * 1e4) / 1e4  # rounded up, so that it can be typed in
        raise BadRequest(
            f"no network of this space is as fast as {target_ms:g} ms: "
            f"the fastest takes {fastest:.4f} ms",
            hint=f"give --target-ms {fastest:.4f} or more; "
            f"the slowest takes {latency.slowest_ms:.4f} ms",
        )


def sampled_on_all(
    theta: Tensor,
    latencies: Sequence[LatencyModel],
    luts: Sequence[Lut],
    budget: Budget,
    count: int,
    *,
    seed: int = 0,
) -> list[Architecture]:
    """Return `count` different architectures sampled from softmax(θ) that keep `budget`.

    The paper samples networks after its search too, without a budget. Fewer than `count` are returned if
    100,000 samples hold no more. The budget's lower bound applies to a network's slowest target, and is
    dropped if no network is as slow.
    """
    generator = torch.Generator().manual_seed(seed)
    chances = probabilities(theta)
    most_ms = np.inf if budget.target_ms is None else budget.target_ms * (1 + ROUNDING)
    slowest_ms = max(latency.slowest_ms for latency in latencies)
    least_ms = budget.least_ms if budget.least_ms <= slowest_ms else 0.0
    seen: set[tuple[int, ...]] = set()
    found: list[Architecture] = []
    for _ in range(_MAX_SAMPLES // _SAMPLE_BATCH):
        if len(found) >= count:
            break
        drawn = torch.multinomial(chances, _SAMPLE_BATCH, replacement=True, generator=generator)
        for choices in map(tuple, drawn.T.tolist()):
            if choices in seen:
                continue
            seen.add(choices)
            ms = max(latency.of_choices(choices) for latency in latencies)
            if least_ms <= ms <= most_ms:
                architecture = architecture_of(luts[0].search_space, choices)
                if all(_within(architecture, choices, lut, budget) for lut in luts):
                    found.append(architecture)
    return found[:count]
