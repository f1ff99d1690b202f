"""What a search was asked for: which LUTs, which targets, where to compute."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from fbnet_search.choose.derive import Budget, finalists_on_all, require_reachable
from fbnet_search.cost.constraints import KINDS, in_formats, require_affordable
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.run.recipe import Recipe
from latbench.errors import BadRequest, UnknownName
from latbench.lut import Lut

Luts = Lut | str | Path | Sequence[Lut | str | Path]


def loaded(lut: Luts) -> list[Lut]:
    """The LUTs of one space, each of another target.

    Raises:
        LutRefused: one cannot be read.
        BadRequest: they are of different spaces, or two are of one target.
    """
    several = [lut] if isinstance(lut, Lut | str | Path) else list(lut)
    luts = [one if isinstance(one, Lut) else Lut.load(one) for one in several]
    for one in luts[1:]:
        if one.space != luts[0].space:
            raise BadRequest(
                f"the LUTs are of different spaces: {luts[0].search_space} and {one.search_space}",
                hint="profile the same space on every device",
            )
        if one.target == luts[0].target:
            raise BadRequest(f"there are two LUTs of {one.target}")
    return luts


def budgets_of(
    targets_ms: Sequence[float | None],
    limits: dict[str, float],
    recipe: Recipe,
    luts: Sequence[Lut],
    latencies: Sequence[LatencyModel],
) -> list[Budget]:
    """What the network of each target may cost.

    Raises:
        UnknownName: there is no such cost.
        BadRequest: a target or a limit makes no sense, or no network keeps them.
    """
    for kind, limit in limits.items():
        if kind not in KINDS:
            raise UnknownName("constraint", kind, KINDS)
        if not (math.isfinite(limit) and limit > 0):
            raise BadRequest(f"a limit of {limit:g} {kind} makes no sense")
    formats = [(lut.target.runtime, lut.target.precision) for lut in luts]
    limits, costs = in_formats(limits, luts[0].search_space, formats)
    require_affordable(limits, costs)
    if not targets_ms or (None in targets_ms and len(targets_ms) > 1):
        raise BadRequest("there is no target, or it is not one of several")
    names = [f"{target_ms:g}" for target_ms in targets_ms if target_ms is not None]
    if len(set(names)) < len(names):  # folders are called so
        raise BadRequest("a target stands twice, or two agree to six digits")
    budgets = []
    for target_ms in targets_ms:
        if target_ms is not None:
            if not (math.isfinite(target_ms) and target_ms > 0):
                raise BadRequest(f"a target of {target_ms:g} ms makes no sense")
            for latency in latencies:
                require_reachable(target_ms, latency)
        least_ms = (target_ms or 0.0) * recipe.target_share
        budgets.append(Budget(target_ms, least_ms, limits, costs))
    undecided = torch.zeros_like(latencies[0].layer_ms)
    for budget in budgets:  # each limit can be kept; whether all together, nobody has looked
        finalists_on_all(undecided, latencies, luts, budget, 1)
    return budgets


def require_compute(compute: str) -> None:
    """Make sure that PyTorch can compute there.

    Raises:
        BadRequest: it cannot.
    """
    if compute == "cpu":
        return
    there = torch.accelerator.current_accelerator()
    if there is None or there.type != compute:
        what = "no accelerator" if there is None else f"{there.type} only"
        raise BadRequest(f"PyTorch finds {what} here, and not {compute}", hint="compute on the cpu")
