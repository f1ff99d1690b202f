"""The search: w and θ in turn, epoch by epoch, until θ says which network to build.

Every epoch trains the supernet's weights w on one part of the training images, then θ on the other
(Wu et al., CVPR 2019, section 3.3). The same seed gives the same θ, whether or not the run was
interrupted and resumed, at whatever step, on the same machine with the same number of threads.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fbnet_search.choose.derive import Budget, drawn_on_all, finalists_on_all
from fbnet_search.choose.finalists import Finalist, pick, predicted_on, require_at_hand, verified
from fbnet_search.choose.judge import best_first
from fbnet_search.cost.latency import LatencyModel, latency_model
from fbnet_search.data.batches import batch_count
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData, some_classes
from fbnet_search.request import Luts, budgets_of, loaded, require_compute
from fbnet_search.result import Limit, SearchResult, answers_in, front_of, write_front_page
from fbnet_search.run.checkpoint import Checkpoints
from fbnet_search.run.distributed import Peers, is_first, joined
from fbnet_search.run.epochs import Run
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import Pass, cosine, threads, two_parts
from fbnet_search.run.recipe import OnProgress, Progress, Recipe
from fbnet_search.supernet.network import Supernet, probabilities
from fbnet_search.supernet.steps import Steps
from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut, predict_latency
from latbench.space import CANDIDATES, Architecture


def search(
    lut: Luts,
    data: str | ImageData,
    out: str | Path,
    *,
    target_ms: float | None = None,
    **options: Any,
) -> SearchResult:
    """Search the LUT's space and write what is found to the folder `out`.

    Args:
        lut: a LUT or its file; or several of one space, whose slowest target then counts.
        data: `digits`, `imagefolder:PATH`, `webdataset:PATH`, or data at the space's input size. If
            it has another number of classes than the space, the supernet's classifier has the data's
            and the predicted latency is that of the space's.
        out: gets `architecture.json` (at the end), `events.jsonl`, `tensorboard/` and
            `checkpoint.pt` with the two before it. An earlier search there is overwritten.
        target_ms: what the found network's predicted latency may be at most, milliseconds; it is
            at least the recipe's `target_share` of that, if any network's is. Without it the paper's
            loss trades accuracy for latency.
        options: as `search_front`'s.

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
    seed: int = 0,
    constraints: Mapping[str, float] | None = None,
    verify: int = 0,
    resume: bool = False,
    checkpoint_s: float = 600.0,
    compute: str = "cpu",
    progress: OnProgress | None = None,
) -> list[SearchResult]:
    """Search for a network for each of several targets with one supernet; see `search`.

    Under torchrun it is one search of all its processes (`fbnet_search.run.distributed`).

    Args:
        lut, data: as `search`.
        out: as `search`; with several targets each network's `architecture.json` is in a folder named
            like `12.5ms`, and `front.json` and its plot, `front.html`, tell of all.
        targets_ms: rising; each costs θ-steps of its own, while w-steps are shared.
        recipe: its name or file (`Recipe.named`); by default the one that suits the data.
        epochs: instead of the recipe's; its schedules stretch with it.
        constraints: what else the found network may cost, by kind (`fbnet_search.cost.constraints`).
            They take part in the derivation, not in the loss. With LUTs of several formats the file
            of each must keep the `bytes`.
        verify: how many of the most probable networks within the target to time at the end, on the
            device of every LUT that is at hand; the first that was measured to keep the target on all
            is the one that is found.
        resume: go on from `out`'s checkpoint, which must be of the same search.
        checkpoint_s: seconds between checkpoints; there is one after every epoch besides.
        compute: the type of PyTorch's device: `cpu`, or that of an accelerator such as `cuda`, where
            networks compute in bfloat16.
        progress: called after every step.

    Raises:
        LutRefused, MissingOps: a LUT cannot be read, or lacks ops.
        UnknownName, BadRequest: data, recipe, constraints or checkpoint make no sense; no network
            is as fast as a target (the message names the fastest).
        LatbenchError: the search diverged again and again; the message says when, and which number.
        DeviceUnavailable, RunnerFailed: finalists cannot be timed on the device of any LUT.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    luts = loaded(lut)
    name = data if isinstance(data, str) else data.name
    if not isinstance(recipe, Recipe):
        recipe = Recipe.for_data(name) if recipe is None else Recipe.named(recipe)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    latencies = [latency_model(one) for one in luts]
    budgets = budgets_of(targets_ms, dict(constraints or {}), recipe, luts, latencies)
    if verify and None in targets_ms:
        raise BadRequest("what is measured must be held against something", hint="give --target-ms")
    if verify and is_first():
        require_at_hand(luts)
    require_compute(compute)
    images = open_data(data, luts[0].search_space.input_size) if isinstance(data, str) else data
    images = some_classes(images, recipe.classes)
    with threads(recipe.threads), joined(compute) as peers:
        run = _Search(luts, latencies, images, recipe, seed, budgets, Path(out), peers)
        there = peers.broadcast((Path(out) / "checkpoint.pt").exists())
        resume = resume or (peers.restarted and there)
        return run.run(resume, checkpoint_s, verify, progress)


class _Search(Run):
    """One search with its state.

    Besides what every run has, that is the `phase` of the epoch, w or theta, and what its w-phase
    `told`.
    """

    def __init__(
        self,
        luts: Sequence[Lut],
        latencies: Sequence[LatencyModel],
        data: ImageData,
        recipe: Recipe,
        seed: int,
        budgets: Sequence[Budget],
        out: Path,
        peers: Peers,
    ) -> None:
        self.luts, self.latencies, self.data, self.recipe = luts, latencies, data, recipe
        self.seed, self.budgets, self.out = seed, budgets, out
        self.phase = "w"
        self.told: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(luts[0].search_space, len(data.classes), len(budgets))
        generator = torch.Generator().manual_seed(seed)
        targets = [budget.target_ms for budget in budgets]
        self.steps = Steps(self.supernet, recipe, latencies, targets, generator, peers)
        weight_part, theta_part = two_parts(data.train, recipe.weight_share, seed)
        self.parts = {"w": weight_part, "theta": theta_part}
        self.counts = {
            name: batch_count(len(part), recipe.batch) for name, part in self.parts.items()
        }
        for name, part in self.parts.items():
            if len(part) // self.counts[name] < peers.world:
                raise BadRequest(
                    f"batches of {recipe.batch} are too small for {peers.world} processes"
                )
        hashes = [lut.content_sha256 for lut in luts]
        identity = {
            "lut_sha256": hashes[0] if len(hashes) == 1 else hashes,
            "data": data.name,
            "training images": len(data.train),
            "classes": list(data.classes),
            "seed": seed,
            "target_ms": targets[0] if len(targets) == 1 else targets,
            "recipe": recipe.to_dict(),
        }
        super().__init__(
            "a search",
            Checkpoints(out / "checkpoint.pt", "a search", identity),
            self.supernet,
            {"w": self.steps.weight_optimizer, "theta": self.steps.theta_optimizer},
            generator,
            peers,
        )

    @property
    def searching(self) -> bool:
        """Whether θ learns in this epoch."""
        return self.epoch >= self.recipe.warmup_epochs

    def run(
        self, resume: bool, checkpoint_s: float, verify: int, progress: OnProgress | None
    ) -> list[SearchResult]:
        checkpoint = self.resume().name if resume else None
        if not resume:
            self.begin(*answers_in(self.out))
        folder = self.out if self.peers.first else None
        log = EventLog(folder, resume_after=self.epoch if resume else None)
        try:
            log.write(
                "resume" if resume else "start",
                epoch=self.epoch,
                checkpoint=checkpoint,
                targets_ms=[budget.target_ms for budget in self.budgets],
                limits=dict(self.budgets[0].limits),
                lut_sha256=[lut.content_sha256 for lut in self.luts],
                seed=self.seed,
                recipe=self.recipe.to_dict(),
                data=self.data.to_dict(),
                fastest_ms=max(one.fastest_ms for one in self.latencies),
                slowest_ms=max(one.slowest_ms for one in self.latencies),
                processes=self.peers.world,
                compute=self.peers.device.type,
            )
            self.epochs(self.recipe.epochs, log, checkpoint_s, progress)
            results = [self._result(number, verify, log) for number in range(len(self.budgets))]
            if self.peers.first:
                self._write(results)
            for result in results:
                log.write(
                    "end",
                    layers=result.architecture.notation,
                    target_ms=result.target_ms,
                    predicted_ms=result.prediction.ms,
                    expected_ms=result.expected_ms,
                    measured_ms=result.measured and result.measured.ms,
                    finalists=[one.to_dict() for one in result.finalists],
                )
        finally:
            log.close()
        return results

    # One epoch

    def one_epoch(self, log: EventLog) -> None:
        started = time.perf_counter()
        if self.phase == "w":
            means, taken = self._one_pass()
            self.told = dict(zip(("w_loss", "w_accuracy"), means, strict=True))
            self.phase, self.current = "theta", None
        if self.searching:
            with self.supernet.frozen_weights():
                means, taken = self._one_pass()
            names = ("theta_loss", "theta_cross_entropy", "theta_accuracy")
            tags = [name for n in range(len(self.budgets)) for name in self._tagged(names, n)]
            self.told |= dict(zip(tags, means, strict=True))
        told = self.told | {
            "temperature": self.recipe.temperature_in(self.epoch),
            "paths": self.recipe.paths_in(self.epoch),
        }
        likeliest: dict[str, str | float] = {}
        for number, (theta, budget) in enumerate(
            zip(self.supernet.thetas, self.budgets, strict=True)
        ):
            chances = probabilities(theta)
            entropy = float(torch.special.entr(chances).sum(1).mean())
            values = float(self.steps.latency_of(chances)), entropy
            tags = self._tagged(("expected_ms", "entropy"), number)
            told |= dict(zip(tags, values, strict=True))
            one = finalists_on_all(theta, self.latencies, self.luts, budget, 1)[0]
            facts = one.notation, max(predict_latency(lut, one).ms for lut in self.luts)
            tags = self._tagged(("layers", "predicted_ms"), number)
            likeliest |= dict(zip(tags, facts, strict=True))
            log.heat_map(self.epoch + 1, self._tagged(("theta",), number)[0], chances.numpy())
        phase = "search" if self.searching else "warm-up"
        self.epoch, self.phase, self.current, self.told = self.epoch + 1, "w", None, {}
        log.scalars(self.epoch, told)
        log.write(
            "epoch",
            epoch=self.epoch,
            phase=phase,
            seconds=time.perf_counter() - started,
            input=taken,
            **likeliest,
            **told,
        )

    def _tagged(self, names: Sequence[str], number: int) -> list[str]:
        """Names of what is told of one search; where there are several, they name its target too."""
        if len(self.budgets) == 1:
            return list(names)
        return [f"{name}@{self.budgets[number].target_ms:g}ms" for name in names]

    def _one_pass(self) -> tuple[list[float], dict[str, float]]:
        """Train what the phase trains, on what is left of its pass.

        Returns:
            the means it tells, and how fast its images came.
        """
        if self.current is None:
            self.current = Pass.shuffled(self.parts[self.phase], self.generator)
        current, recipe = self.current, self.recipe
        part = self.peers.rank, self.peers.world
        self.supernet.train()
        for images, labels in current.batches(
            self.data, recipe.batch, recipe.crop_area, part, pinned=self.peers.device.type != "cpu"
        ):
            x, y = (one.to(self.peers.device, non_blocking=True) for one in (images, labels))
            when = f"{self.phase}-step {current.done + 1} of epoch {self.epoch + 1}"
            if self.phase == "w":
                step, total = self.epoch * self.counts["w"], recipe.epochs * self.counts["w"]
                step += current.done
                rate = cosine(recipe.weight_rate, step, total) * self.caution
                told = self.steps.weight_step(x, y, self.epoch, step, rate, when)
            else:
                rate = recipe.theta_rate * self.caution
                told = self.steps.theta_step(x, y, self.epoch, rate, when)
            current.tell(told[0], *told[1])
            self.step_done()
        return current.means(), current.intake.to_dict()

    def progress(self) -> Progress:
        per_epoch = [
            self.counts["w"] + (self.counts["theta"] if epoch >= self.recipe.warmup_epochs else 0)
            for epoch in range(self.recipe.epochs)
        ]
        assert self.current is not None
        done = sum(per_epoch[: self.epoch]) + self.current.done
        done += self.counts["w"] if self.phase == "theta" else 0
        phase = "search" if self.searching else "warm-up"
        waits = self.current.intake.told
        doing = f"epoch {self.epoch + 1} of {self.recipe.epochs}, {phase}{waits}"
        return Progress(done, sum(per_epoch), doing)

    def _now(self, doing: str) -> None:
        """Show what is done after the last step."""
        self.tell(Progress(0, None, doing))

    # State and result

    def own_state(self) -> dict[str, Any]:
        return {"phase": self.phase, "told": self.told}

    def restore_own(self, state: dict[str, Any]) -> None:
        self.phase, self.told = state["phase"], state["told"]

    def _result(self, number: int, verify: int, log: EventLog) -> SearchResult:
        theta, budget = self.supernet.thetas[number], self.budgets[number]
        count, drawn = max(verify, self.recipe.judged), self.recipe.drawn
        self._now("deriving networks from theta")
        found = finalists_on_all(theta, self.latencies, self.luts, budget, count)
        if self.recipe.judged > 1:
            more = drawn_on_all(theta, self.latencies, self.luts, budget, drawn, seed=self.seed)
            every = list(dict.fromkeys([*found, *more]))
            self._now(f"judging {len(every)} networks")
            found = self._judged(every, count, log)
        found = found[: max(verify, 1)]
        architecture, timed = found[0], list[Finalist]()
        latencies = tuple(predicted_on(lut, architecture) for lut in self.luts)
        if verify and budget.target_ms is not None:
            self._now(f"timing {len(found)} finalists")
            timed = self._timed(found)
            chosen = pick(timed, budget.target_ms)
            architecture, latencies = chosen.architecture, chosen.latencies
        choices = [CANDIDATES.index(choice) for choice in architecture.choices]
        return SearchResult(
            architecture=architecture,
            latencies=latencies,
            target_ms=budget.target_ms,
            expected_ms=float(self.steps.latency_of(probabilities(theta))),
            data=self.data.to_dict(),
            recipe=self.recipe,
            seed=self.seed,
            out=self._folder(budget),
            limits={
                kind: Limit(limit, budget.costs[kind].of(choices))
                for kind, limit in budget.limits.items()
            },
            finalists=tuple(timed),
        )

    def _judged(
        self, found: Sequence[Architecture], count: int, log: EventLog
    ) -> list[Architecture]:
        """The `count` networks that are right most often with the supernet's weights, best first."""
        judged = self.peers.broadcast(
            best_first(self.supernet, found, self.data.train, self.parts["theta"], count)
        )
        log.write("judged", networks=[[one.notation, share] for one, share in judged])
        return [one for one, _ in judged]

    def _timed(self, found: Sequence[Architecture]) -> list[Finalist]:
        """The finalists, timed by the first process."""
        if self.peers.alone:
            return verified(found, self.luts)
        failed: LatbenchError | None = None
        timed: list[Finalist] = []
        if self.peers.first:
            try:
                timed = verified(found, self.luts)
            except LatbenchError as error:  # the others wait for an answer
                failed = LatbenchError(error.message, details=error.details, hint=error.hint)
        failed, timed = self.peers.broadcast((failed, timed))
        if failed is not None:
            raise failed
        return timed

    def _folder(self, budget: Budget) -> Path:
        return self.out if len(self.budgets) == 1 else self.out / f"{budget.target_ms:g}ms"

    def _write(self, results: Sequence[SearchResult]) -> None:
        for result in results:
            content = json.dumps(result.to_dict(), indent=1) + "\n"
            write_atomically(result.out / "architecture.json", content)
        if len(results) > 1:
            write_atomically(
                self.out / "front.json", json.dumps(front_of(results), indent=1) + "\n"
            )
            write_front_page(self.out, self.luts)
