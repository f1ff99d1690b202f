"""From θ to architectures.

θ makes every architecture's probability a product over its layers. Without a budget the most
probable one takes each layer's best candidate. With budgets, for latency and for whatever else a
network costs, it is a multiple-choice knapsack with several limits (Sinha and Zoltners, Operations
Research 27, 1979): a 0-1 program with one variable a candidate, and three a layer more where the LUT knows
what transitions take (`fbnet_search.cost.boundaries`). HiGHS solves it by branch and cut.

A network that leaves much of a latency budget unspent is seldom what was wanted, as θ does not know
the budget exactly. So the budget has a floor too: of the networks that take at least `least_ms`, if
there are any.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from torch import Tensor

from fbnet_search.cost.boundaries import Program
from fbnet_search.cost.constraints import Cost
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.supernet.network import probabilities
from latbench.errors import BadRequest, LatbenchError
from latbench.lut import Lut, predict_latency
from latbench.space import CANDIDATES, Architecture, SearchSpace

Floats = NDArray[np.float64]

#: Sums of the same latencies in another order differ by less than this, relatively.
_ROUNDING = 1e-12

#: HiGHS keeps limits to 1e-6; with rows of this size that is 1e-10 of the limit.
_ROW = 1e4

#: UnitSelector HiGHS stops: at a log-probability within this share of the best there can be, or after so many
#: nodes, of which ordinary θ need one or two. Only where θ is all but proportional to latency, and
#: thousands of networks differ by a millionth, does it end by the first, and rarely by the second.
_GAP, _NODES = 1e-7, 5000

#: Standard output is every thread's.
_OUTPUT = threading.Lock()

#: How many networks are drawn from θ at most, and at a time, to find some that keep a budget.
_DRAWS, _TOGETHER = 100_000, 1000


@dataclass(frozen=True)
class Budget:
    """What a network may cost: `least_ms` <= latency <= `target_ms`, and limits of other costs.

    The latency is what the LUT predicts. `limits` are by kind (`fbnet_search.cost.constraints`), and
    `costs` has the cost of every one of them.
    """

    target_ms: float | None = None
    least_ms: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)


def derive_architecture(
    theta: Tensor, latency: LatencyModel, lut: Lut, budget: Budget | None = None
) -> Architecture:
    """Return the most probable architecture within `budget`.

    Args:
        theta: logits, shape (layers, candidates).
        latency: the latency model of `lut`.
        budget: by default there is none. Its floor is kept if some network keeps it.

    Raises:
        BadRequest: no architecture keeps the budget; where the latency is why, the message names
            the fastest possible.
    """
    return finalists(theta, latency, lut, budget, 1)[0]


def finalists(
    theta: Tensor, latency: LatencyModel, lut: Lut, budget: Budget | None, count: int
) -> list[Architecture]:
    """Return the `count` most probable architectures within `budget`, the most probable first.

    They are fewer if there are no more that keep it.

    Raises:
        BadRequest: as `derive_architecture`.
    """
    budget = budget or Budget()
    space = lut.search_space
    if budget.target_ms is not None:
        require_reachable(budget.target_ms, latency)
    logits = probabilities(theta).clamp_min(1e-300).log().numpy()
    for least_ms in dict.fromkeys((budget.least_ms, 0.0)):
        found: list[Architecture] = []
        for choices in most_probable_first(logits, latency, budget, least_ms):
            architecture = architecture_of(space, choices)
            # What HiGHS keeps to a tolerance is checked to the last digit.
            if _keeps(architecture, choices, lut, budget):
                found.append(architecture)
            if len(found) == count:
                break
        if found:
            return found
    raise BadRequest(
        "no network of this space keeps all limits together",
        hint="each by itself can be kept; raise one of them",
    )


def _keeps(architecture: Architecture, choices: Sequence[int], lut: Lut, budget: Budget) -> bool:
    slack = 1 + _ROUNDING
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

    The floor is for the target on which a network takes the longest.

    Raises:
        BadRequest: as `derive_architecture`.
    """
    if len(luts) == 1 or budget.target_ms is None:
        return finalists(theta, latencies[0], luts[0], budget, count)
    logits = torch.log_softmax(theta.detach().double(), 1).numpy()
    found: dict[Architecture, tuple[bool, float]] = {}
    # Each target in turn is the one that the floor is for; what comes out of all is compared.
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
            choices = [CANDIDATES.index(choice) for choice in one.choices]
            slowest = max(model.of_choices(choices) for model in latencies)
            chance = float(sum(logits[layer, choice] for layer, choice in enumerate(choices)))
            found[one] = slowest >= budget.least_ms, chance
    return sorted(found, key=lambda one: found[one], reverse=True)[:count]


def require_reachable(target_ms: float, latency: LatencyModel) -> None:
    """Make sure that some network is as fast as `target_ms`.

    Raises:
        BadRequest: none is; the message names the fastest possible.
    """
    if not target_ms * (1 + _ROUNDING) >= latency.fastest_ms:
        fastest = np.ceil(latency.fastest_ms * 1e4) / 1e4  # rounded up, so that it can be typed in
        raise BadRequest(
            f"no network of this space is as fast as {target_ms:g} ms: "
            f"the fastest takes {fastest:.4f} ms",
            hint=f"give --target-ms {fastest:.4f} or more; "
            f"the slowest takes {latency.slowest_ms:.4f} ms",
        )


def most_probable_first(
    logits: Floats, latency: LatencyModel, budget: Budget, least_ms: float = 0.0
) -> Iterator[tuple[int, ...]]:
    """Yield the choices within `budget`, each the most probable of those not yielded before.

    Args:
        logits: log-probabilities, shape (layers, candidates).
        least_ms: the floor, in place of the budget's own.

    Yields:
        one candidate's index a layer. Limits are kept to 1e-10, relatively, and to 1e-6 of what
        transitions cost; the log-probability is the best to 1e-7 of itself.
    """
    layers, candidates = logits.shape
    limited = [(budget.costs[kind], limit, 0.0) for kind, limit in budget.limits.items()]
    if budget.target_ms is not None:
        limited.insert(0, (latency.cost, budget.target_ms, least_ms))
    # In every LUT's space of one search the same candidates are grouped.
    known = next((cost.transitions for cost, _, _ in limited if cost.transitions is not None), None)
    program = None if known is None else Program(known.grouped.numpy(), known.plain.numpy())
    count = program.count if program else logits.size

    def row(choices: Floats, low: float | Floats, high: float | Floats) -> LinearConstraint:
        padding = [(0, 0)] * (choices.ndim - 1) + [(0, count - logits.size)]
        return LinearConstraint(np.pad(choices, padding), low, high)

    rows = [row(np.repeat(np.eye(layers), candidates, axis=1), 1, 1)]
    rows += program.constraints() if program else []
    allowed = np.ones(count)
    for cost, limit, floor in limited:
        if cost.peak:
            allowed[: logits.size][cost.layers.ravel() > limit] = 0
        else:
            rows.append(_limit(cost, limit, floor, program))
    while True:
        with _silent():
            solved = milp(
                np.pad(-logits.ravel(), (0, count - logits.size)),
                integrality=np.ones(count),
                bounds=Bounds(0, allowed),
                constraints=rows,
                options={"mip_rel_gap": _GAP, "node_limit": _NODES},
            )
        if solved.x is None:
            _require_answer(solved)
            return
        choices = solved.x[: logits.size].reshape(logits.shape).argmax(1)
        yield tuple(choices.tolist())
        found = np.zeros_like(logits)
        found[np.arange(layers), choices] = 1
        rows.append(row(found.ravel(), 0, layers - 1))  # another one, next time


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what C code prints off standard output, which `--json` promises to programs.

    HiGHS 1.12 prints a line of its own debugging whatever its options say (HiGHS.jl, issue 312). What
    other threads print meanwhile is lost too.
    """
    if sys.platform == "win32":
        yield  # it has no such C library
        return
    with _OUTPUT:
        try:
            kept = os.dup(1)
        except OSError:  # there is no output
            yield
            return
        c = ctypes.CDLL(None)
        if sys.__stdout__ is not None and not sys.__stdout__.closed:
            sys.__stdout__.flush()
        c.fflush(None)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            c.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)


def _limit(cost: Cost, limit: float, floor: float, program: Program | None) -> LinearConstraint:
    """`floor` <= cost <= `limit`, scaled so that HiGHS's tolerance is a small share of it."""
    scale = _ROW / limit
    slack = 1 + _ROUNDING
    coefficients = cost.layers.ravel()
    if program:
        coefficients = np.pad(coefficients, (0, program.count - coefficients.size))
        if cost.transitions is not None:
            coefficients = coefficients + program.coefficients(cost.transitions.costs.numpy())
    return LinearConstraint(
        coefficients * scale,
        (floor - cost.fixed) * scale,
        (limit * slack - cost.fixed) * scale,
    )


def _require_answer(solved: OptimizeResult) -> None:
    infeasible = 2
    if solved.status != infeasible:
        raise LatbenchError(
            f"the solver found no network within {_NODES} nodes: {solved.message}",
            hint="raise a limit a little",
        )


def drawn_on_all(
    theta: Tensor,
    latencies: Sequence[LatencyModel],
    luts: Sequence[Lut],
    budget: Budget,
    count: int,
    *,
    seed: int = 0,
) -> list[Architecture]:
    """Return `count` different architectures drawn from softmax(θ), of those that keep `budget`.

    The paper draws networks after its search, too, without a budget. They are fewer than `count` if
    so many draws (100,000) hold no more. The budget's floor is for the target on which a network takes
    the longest, and it is kept if some network is as slow.
    """
    generator = torch.Generator().manual_seed(seed)
    chances = probabilities(theta)
    most_ms = np.inf if budget.target_ms is None else budget.target_ms * (1 + _ROUNDING)
    slowest_ms = max(latency.slowest_ms for latency in latencies)
    least_ms = budget.least_ms if budget.least_ms <= slowest_ms else 0.0
    seen: set[tuple[int, ...]] = set()
    found: list[Architecture] = []
    for _ in range(_DRAWS // _TOGETHER):
        if len(found) >= count:
            break
        drawn = torch.multinomial(chances, _TOGETHER, replacement=True, generator=generator)
        for choices in map(tuple, drawn.T.tolist()):
            if choices in seen:
                continue
            seen.add(choices)
            slowest = max(latency.of_choices(choices) for latency in latencies)
            if least_ms <= slowest <= most_ms:
                architecture = architecture_of(luts[0].search_space, choices)
                if all(_keeps(architecture, choices, lut, budget) for lut in luts):
                    found.append(architecture)
    return found[:count]


def architecture_of(space: SearchSpace, choices: Sequence[int]) -> Architecture:
    """Return the architecture with the candidates at these indices, and the default head."""
    return Architecture(space, tuple(CANDIDATES[choice] for choice in choices), space.heads[0])
