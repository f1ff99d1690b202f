"""Search for networks: check the request, train the supernet, choose the networks, write the files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbnet_search.choose.finalists import require_device
from fbnet_search.choose.program import Budget
from fbnet_search.choose.select import Chosen, Selection
from fbnet_search.cost.choices import choices_of
from fbnet_search.cost.latency import latency_model
from fbnet_search.data.datasets import open_or_check
from fbnet_search.data.images import ImageData, some_classes
from fbnet_search.loop import SearchLoop
from fbnet_search.output import result_files, write_results
from fbnet_search.request import (
    Luts,
    budgets_of,
    load_luts,
    require_compute,
    require_searchable,
    resolve_recipe,
)
from fbnet_search.result import Limit, SearchResult
from fbnet_search.run.distributed import is_first, joined
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import threads
from fbnet_search.run.recipe import OnProgress, Progress, Recipe
from fbnet_search.supernet.network import probabilities
from latbench.errors import BadRequest


def search(
    lut: Luts,
    data: str | ImageData,
    out: str | Path,
    *,
    target_ms: float | None = None,
    **options: Any,
) -> SearchResult:
    """Search the LUT's space for one network, and write the result to the folder `out`.

    Args:
        lut: a LUT or its file; or several of one space, of which each network's slowest target counts.
        data: `digits`, `imagefolder:PATH`, `webdataset:PATH`, or open data. The supernet's classifier has
            as many outputs as the data have classes; predicted latencies are for the classes of the space.
        out: gets `architecture.json` (at the end), `events.jsonl`, `tensorboard/`, `checkpoint.pt` and the
            two checkpoints before it. An earlier search there is overwritten.
        target_ms: limit of the network's predicted latency, ms. The network spends at least the recipe's
            `target_share` of it, if any does. None trades accuracy for latency by the paper's loss.
        options: as `search_front`.

    Raises:
        LatbenchError: as `search_front`.
    """
    return search_front(lut, data, out, targets_ms=[target_ms], **options)[0]


def search_front(
    lut: Luts,
    data: str | ImageData,
    out: str | Path,
    *,
    targets_ms: Sequence[float | None],
    recipe: Recipe | str | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    constraints: Mapping[str, float] | None = None,
    verify: int = 0,
    resume: bool = False,
    checkpoint_s: float = 600.0,
    compute: str = "cpu",
    progress: OnProgress | None = None,
) -> list[SearchResult]:
    """Search for a network for each of several latency targets with one supernet; see `search`.

    Under torchrun it is one search of all its processes (`fbnet_search.run.distributed`).

    Args:
        lut, data: as `search`.
        out: as `search`; with several targets, each network's `architecture.json` is in a subfolder such as
            `12.5ms`, and `front.json` and its plot, `front.html`, list all.
        targets_ms: rising; each has its own θ-steps, while w-steps are shared.
        recipe: a recipe, its name or its file; by default the one for the data (`Recipe.for_data`).
        epochs: replaces the recipe's; the schedules stretch with it.
        image_size: height and width of the training images, pixels; a multiple of the space's total stride
            up to its input. By default the space's input, at most 64 for `digits`. Latencies and the
            architecture keep the space's input.
        constraints: limits of other costs, by kind (`fbnet_search.cost.constraints`). They restrict the
            derivation and are not in the loss. With LUTs of several formats, `bytes` limits each file.
        verify: how many of the most probable networks to time at the end, on every LUT's device that is
            reachable; the first that keeps the target everywhere is chosen.
        resume: continue from the checkpoint in `out`, which must be of the same search.
        checkpoint_s: seconds between checkpoints; one more follows every epoch.
        compute: PyTorch's device type, such as `cpu` or `cuda`; on accelerators w is trained in bfloat16.
        progress: called after every step.

    Raises:
        LutRefused, MissingOps: a LUT cannot be read, or lacks ops.
        UnknownName, BadRequest: data, image size, recipe, constraints or checkpoint are invalid; or no
            network is as fast as a target (the message gives the fastest).
        LatbenchError: the search diverged repeatedly; the message says in which step.
        DeviceUnavailable, RunnerFailed: finalists cannot be timed on the device of any LUT.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    luts, out = load_luts(lut), Path(out)
    space = luts[0].search_space
    require_searchable(space)
    recipe = resolve_recipe(recipe, epochs, data if isinstance(data, str) else data.name)
    latencies = [latency_model(one) for one in luts]
    budgets = budgets_of(targets_ms, dict(constraints or {}), recipe, luts, latencies)
    if verify and None in targets_ms:
        raise BadRequest("verify needs a latency target", hint="add --target-ms MS")
    if verify and is_first():
        require_device(luts)
    require_compute(compute)
    images = open_or_check(data, image_size, space.input_size, space.definition.input.multiple)
    images = some_classes(images, recipe.classes)
    with threads(recipe.threads), joined(compute) as peers:
        loop = SearchLoop(luts, latencies, images, recipe, seed, budgets, out, peers)
        exists = peers.broadcast((out / "checkpoint.pt").exists())
        log = _begin(loop, out, seed, resume or (peers.restarted and exists))
        try:
            loop.run_epochs(recipe.epochs, log, checkpoint_s, progress)
            selection = Selection(
                loop.supernet, luts, latencies, recipe, images.train, loop.parts["theta"], seed,
                verify, peers,
            )  # fmt: skip
            results = [
                _result(loop, number, _chosen(loop, selection, number, log), seed, out)
                for number in range(len(budgets))
            ]
            if peers.first:
                write_results(results, out, luts)
            for result in results:
                _log_end(log, result)
        finally:
            log.close()
    return results


def _begin(loop: SearchLoop, out: Path, seed: int, resume: bool) -> EventLog:
    """Resume or begin the loop, and open its log."""
    checkpoint = loop.resume().name if resume else None
    if not resume:
        loop.begin(*result_files(out))
    log = EventLog(out if loop.peers.first else None, resume_after=loop.epoch if resume else None)
    log.write(
        "resume" if resume else "start",
        epoch=loop.epoch,
        checkpoint=checkpoint,
        targets_ms=[budget.target_ms for budget in loop.budgets],
        limits=dict(loop.budgets[0].limits),
        lut_sha256=[lut.content_sha256 for lut in loop.luts],
        seed=seed,
        recipe=loop.recipe.to_dict(),
        data=loop.data.to_dict(),
        image_size=loop.data.image_size,
        fastest_ms=max(one.fastest_ms for one in loop.latencies),
        slowest_ms=max(one.slowest_ms for one in loop.latencies),
        processes=loop.peers.world,
        compute=loop.peers.device.type,
    )
    return log


def _chosen(loop: SearchLoop, selection: Selection, number: int, log: EventLog) -> Chosen:
    theta, budget = loop.supernet.logits(number), loop.budgets[number]
    return selection.choose(theta, budget, log, lambda doing: loop.report(Progress(0, None, doing)))


def _result(loop: SearchLoop, number: int, chosen: Chosen, seed: int, out: Path) -> SearchResult:
    budget = loop.budgets[number]
    choices = choices_of(chosen.architecture)
    return SearchResult(
        architecture=chosen.architecture,
        latencies=chosen.latencies,
        target_ms=budget.target_ms,
        expected_ms=float(loop.steps.latency_of(probabilities(loop.supernet.logits(number)))),
        data=loop.data.to_dict(),
        image_size=loop.data.image_size,
        recipe=loop.recipe,
        seed=seed,
        out=_folder(out, budget, len(loop.budgets)),
        limits={
            kind: Limit(limit, budget.costs[kind].of(choices))
            for kind, limit in budget.limits.items()
        },
        finalists=chosen.finalists,
    )


def _folder(out: Path, budget: Budget, targets: int) -> Path:
    return out if targets == 1 else out / f"{budget.target_ms:g}ms"


def _log_end(log: EventLog, result: SearchResult) -> None:
    log.write(
        "end",
        layers=result.architecture.notation,
        target_ms=result.target_ms,
        predicted_ms=result.prediction.ms,
        expected_ms=result.expected_ms,
        measured_ms=result.measured and result.measured.ms,
        finalists=[one.to_dict() for one in result.finalists],
    )
