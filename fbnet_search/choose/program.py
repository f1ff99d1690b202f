"""The most probable networks within a budget, by integer programming.

θ makes the probability of a network a product over its layers. Maximising it under limits of costs is a
multiple-choice knapsack problem (Sinha and Zoltners, Operations Research 27, 1979): a 0-1 program with one
variable for each candidate, and three more for each layer where the LUT has boundary costs
(`fbnet_search.cost.boundaries`). HiGHS solves it by branch and cut.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from fbnet_search.cost.boundaries import BoundaryProgram
from fbnet_search.cost.constraints import Cost
from fbnet_search.cost.latency import LatencyModel
from latbench.errors import LatbenchError

Floats = NDArray[np.float64]

#: Sums of the same latencies in another order differ by less than this, relatively.
ROUNDING = 1e-12

#: HiGHS keeps limits to 1e-6; with rows scaled to this size that is 1e-10 of the limit.
_ROW = 1e4

#: HiGHS stops at a log-probability within this share of the optimum, or after this many nodes. Ordinary θ
#: need one or two nodes. Only where θ is almost proportional to latency, and thousands of networks differ
#: by a millionth, does it stop by the first criterion, and rarely by the second.
_GAP, _NODES = 1e-7, 5000

#: Standard output is shared by all threads.
_OUTPUT = threading.Lock()


@dataclass(frozen=True)
class Budget:
    """Limits of a network: `least_ms` <= latency <= `target_ms`, and limits of other costs.

    The latency is the LUT's prediction, milliseconds. `limits` are by kind
    (`fbnet_search.cost.constraints`), and `costs` holds the cost of each kind.
    """

    target_ms: float | None = None
    least_ms: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)


def most_probable_first(
    logits: Floats, latency: LatencyModel, budget: Budget, least_ms: float = 0.0
) -> Iterator[tuple[int, ...]]:
    """Yield networks within `budget`, each the most probable of those not yielded before.

    Args:
        logits: log-probabilities, shape (layers, candidates); -inf where a layer lacks a candidate.
        least_ms: the least latency, in place of the budget's.

    Yields:
        one candidate index for each layer. Limits are kept to 1e-10, relatively, and to 1e-6 of the
        boundary costs; the log-probability is optimal to 1e-7, relatively.

    Raises:
        LatbenchError: the solver reached its limit of nodes.
    """
    layers, candidates = logits.shape
    possible = np.isfinite(logits)
    logits = np.where(possible, logits, 0.0)
    limited = [(budget.costs[kind], limit, 0.0) for kind, limit in budget.limits.items()]
    if budget.target_ms is not None:
        limited.insert(0, (latency.cost, budget.target_ms, least_ms))
    # The LUTs of a search share the space, and so which candidates are grouped.
    known = next((cost.boundaries for cost, _, _ in limited if cost.boundaries is not None), None)
    program = None if known is None else BoundaryProgram(known.grouped.numpy(), known.plain.numpy())
    count = program.count if program else logits.size

    def row(choices: Floats, low: float | Floats, high: float | Floats) -> LinearConstraint:
        padding = [(0, 0)] * (choices.ndim - 1) + [(0, count - logits.size)]
        return LinearConstraint(np.pad(choices, padding), low, high)

    rows = [row(np.repeat(np.eye(layers), candidates, axis=1), 1, 1)]
    rows += program.constraints() if program else []
    allowed = np.ones(count)
    allowed[: logits.size] = possible.ravel()
    for cost, limit, floor in limited:
        if cost.peak:
            allowed[: logits.size][cost.layers.ravel() > limit] = 0
        else:
            rows.append(_limit(cost, limit, floor, program))
    while True:
        with _silent_stdout():
            solved = milp(
                np.pad(-logits.ravel(), (0, count - logits.size)),
                integrality=np.ones(count),
                bounds=Bounds(0, allowed),
                constraints=rows,
                options={"mip_rel_gap": _GAP, "node_limit": _NODES},
            )
        if solved.x is None:
            _require_infeasible(solved)
            return
        choices = solved.x[: logits.size].reshape(logits.shape).argmax(1)
        yield tuple(choices.tolist())
        found = np.zeros_like(logits)
        found[np.arange(layers), choices] = 1
        rows.append(row(found.ravel(), 0, layers - 1))  # excludes this network


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Discard what C code prints to standard output, which `--json` reserves for one document.

    HiGHS 1.12 prints a debugging line whatever its options are (HiGHS.jl, issue 312). Output of other
    threads within this context is lost too.
    """
    if sys.platform == "win32":
        yield  # ctypes.CDLL(None) is not available there
        return
    with _OUTPUT:
        try:
            kept = os.dup(1)
        except OSError:  # standard output is closed
            yield
            return
        c = ctypes.CDLL(None)
        if sys.__stdout__ is not None and not sys.__stdout__.closed:
            sys.__stdout__.flush()
        c.fflush(None)
        devnull = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(devnull, 1)
            yield
        finally:
            c.fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            os.close(devnull)


def _limit(
    cost: Cost, limit: float, floor: float, program: BoundaryProgram | None
) -> LinearConstraint:
    """`floor` <= cost <= `limit`, scaled so that HiGHS's tolerance is a small share of the limit."""
    scale = _ROW / limit
    slack = 1 + ROUNDING
    coefficients = cost.layers.ravel()
    if program:
        coefficients = np.pad(coefficients, (0, program.count - coefficients.size))
        if cost.boundaries is not None:
            coefficients = coefficients + program.coefficients(cost.boundaries.costs.numpy())
    return LinearConstraint(
        coefficients * scale,
        (floor - cost.fixed) * scale,
        (limit * slack - cost.fixed) * scale,
    )


def _require_infeasible(solved: OptimizeResult) -> None:
    """Raise unless the solver proved that no network is left."""
    infeasible = 2
    if solved.status != infeasible:
        raise LatbenchError(
            f"the solver found no network within {_NODES} nodes: {solved.message}",
            hint="raise a limit a little",
        )
