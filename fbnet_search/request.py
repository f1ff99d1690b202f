"""What a search is asked for: the checked LUTs, targets, limits and compute device."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from fbnet_search.choose.derive import finalists_on_all, require_reachable
from fbnet_search.choose.program import Budget
from fbnet_search.cost.choices import allowed_choices, only_allowed
from fbnet_search.cost.constraints import KINDS, in_formats, require_affordable
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.run.recipe import Recipe
from latbench.errors import BadRequest, UnknownName
from latbench.lut import Lut
from latbench.space import SearchSpace

Luts = Lut | str | Path | Sequence[Lut | str | Path]


def load_luts(lut: Luts) -> list[Lut]:
    """Load the LUTs, which must be of one space and of different targets.

    Raises:
        LutRefused: a LUT cannot be read.
        BadRequest: two are of different spaces, or of one target.
    """
    several = [lut] if isinstance(lut, Lut | str | Path) else list(lut)
    luts = [one if isinstance(one, Lut) else Lut.load(one) for one in several]
    for one in luts[1:]:
        if one.space != luts[0].space:
            raise BadRequest(
                f"the LUTs must be of one space, got {luts[0].search_space} and {one.search_space}",
                hint=f"profile one space on both devices: {luts[0].command} and {one.command}, "
                "with the same --space, --input and --width",
            )
        if one.target == luts[0].target:
            raise BadRequest(f"the LUTs must be of different targets, got {one.target} twice")
    return luts


def resolve_recipe(recipe: Recipe | str | None, epochs: int | None, data: str) -> Recipe:
    """The recipe of a search: as given, or the default of the data set; over `epochs` if given.

    Raises:
        UnknownName, BadRequest: as `Recipe.named` and `Recipe.stretched`.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.for_data(data) if recipe is None else Recipe.named(recipe)
    return recipe if epochs is None else recipe.stretched(epochs)


def budgets_of(
    targets_ms: Sequence[float | None],
    limits: dict[str, float],
    recipe: Recipe,
    luts: Sequence[Lut],
    latencies: Sequence[LatencyModel],
) -> list[Budget]:
    """The budget of each target's network.

    Raises:
        UnknownName: a limit is of an unknown kind.
        BadRequest: a target or a limit is not a positive number, or no network keeps it.
    """
    for kind, limit in limits.items():
        if kind not in KINDS:
            raise UnknownName("constraint", kind, KINDS)
        if not (math.isfinite(limit) and limit > 0):
            raise BadRequest(f"the limit of {kind} must be a positive number, got {limit:g}")
    formats = [(lut.target.runtime, lut.target.precision) for lut in luts]
    limits, costs = in_formats(limits, luts[0].search_space, formats)
    require_affordable(limits, costs)
    if not targets_ms or (None in targets_ms and len(targets_ms) > 1):
        raise BadRequest(f"targets_ms must hold numbers, or None alone, got {list(targets_ms)}")
    names = [f"{target_ms:g}" for target_ms in targets_ms if target_ms is not None]
    if len(set(names)) < len(names):  # they name the output folders
        raise BadRequest(f"targets must differ in their first six digits, got {', '.join(names)}")
    budgets = []
    for target_ms in targets_ms:
        if target_ms is not None:
            if not (math.isfinite(target_ms) and target_ms > 0):
                raise BadRequest(
                    f"a target must be a positive number of milliseconds, got {target_ms:g}"
                )
            for latency in latencies:
                require_reachable(target_ms, latency)
        least_ms = (target_ms or 0.0) * recipe.target_share
        budgets.append(Budget(target_ms, least_ms, limits, costs))
    allowed = allowed_choices(luts[0].search_space)
    uniform = only_allowed(torch.zeros_like(latencies[0].layer_ms), allowed)
    for budget in budgets:  # raises if no network keeps all limits together
        finalists_on_all(uniform, latencies, luts, budget, 1)
    return budgets


def require_searchable(space: SearchSpace) -> None:
    """Check that networks of `space` can be trained on the data that a search takes.

    Raises:
        BadRequest: its input is not a square RGB image, one at a time, or a stage offers several channels.
    """
    if space.has_channel_choices:
        raise BadRequest(
            f"a search takes spaces of fixed channels, but stages of {space.name} offer several numbers",
            hint="write a space file with one number of channels for each stage, and profile it",
        )
    if space.input_height != space.input_width or space.input_channels != 3 or space.batch > 1:
        raise BadRequest(
            f"a search trains on square RGB images, one in a batch of the LUT, but its space is {space}",
            hint="search with a LUT of: latbench profile --input N --channels 3 --batch 1",
        )


def require_compute(compute: str) -> None:
    """Check that PyTorch can compute on a device of this type.

    Raises:
        BadRequest: it cannot.
    """
    if compute == "cpu":
        return
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or accelerator.type != compute:
        available = "cpu" if accelerator is None else f"cpu or {accelerator.type}"
        raise BadRequest(f"the compute device must be {available} on this machine, got {compute}")
