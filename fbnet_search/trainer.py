"""The search: w and θ in turn, epoch by epoch, until θ says which network to build.

Every epoch trains the supernet's weights w on one part of the training images, then θ on the other
(Wu et al., CVPR 2019, section 3.3). The same seed gives the same θ, whether or not the run was
interrupted and resumed, at whatever step, on the same machine with the same number of threads.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fbnet_search.checkpoint import Checkpoints
from fbnet_search.constraints import costs_of, require_affordable, spent
from fbnet_search.data import ImageData, batch_count, open_data, some_classes
from fbnet_search.derive import Budget, derive_architecture, finalists, require_reachable
from fbnet_search.events import EventLog
from fbnet_search.latency import LatencyModel, latency_model
from fbnet_search.loss import paper_loss, target_loss
from fbnet_search.passes import (
    Pass,
    correct,
    cosine,
    require_finite,
    require_sane,
    set_rate,
    threads,
    two_parts,
)
from fbnet_search.recipe import OnProgress, Progress, Recipe
from fbnet_search.relaxation import gumbel_softmax, temperature_at
from fbnet_search.result import Limit, SearchResult, lut_facts
from fbnet_search.run import Run
from fbnet_search.supernet import Supernet, probabilities
from fbnet_search.verify import Verified, pick, verified
from latbench.errors import BadRequest
from latbench.files import write_atomically
from latbench.lut import Lut, predict_latency


def search(
    lut: Lut | str | Path,
    data: str | ImageData,
    out: str | Path,
    *,
    recipe: Recipe | str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    target_ms: float | None = None,
    constraints: Mapping[str, float] | None = None,
    verify: int = 0,
    resume: bool = False,
    checkpoint_s: float = 600.0,
    progress: OnProgress | None = None,
) -> SearchResult:
    """Search the LUT's space and write what is found to the folder `out`.

    Args:
        lut: a LUT or its file.
        data: `digits`, `imagefolder:PATH`, or data at the space's input size. If it has another
            number of classes than the space, the supernet's classifier has the data's and the
            predicted latency is that of the space's.
        out: gets `architecture.json` (at the end), `events.jsonl`, `tensorboard/` and
            `checkpoint.pt` with the two before it. An earlier search there is overwritten.
        recipe: its name or file (`Recipe.named`); by default the one that suits the data.
        epochs: instead of the recipe's; its schedules stretch with it.
        target_ms: what the found network's predicted latency may be at most, milliseconds; it is
            at least the recipe's `target_share` of that, if any network's is. Without it the paper's
            loss trades accuracy for latency.
        constraints: what else the found network may cost, by kind (`fbnet_search.constraints`).
            They take part in the derivation, not in the loss.
        verify: how many of the most probable networks within the target to time on the LUT's device
            at the end; the first that was measured to keep the target is the one that is found.
        resume: go on from `out`'s checkpoint, which must be of the same search.
        checkpoint_s: seconds between checkpoints; there is one after every epoch besides.
        progress: called after every step.

    Raises:
        LutRefused, MissingOps: the LUT cannot be read, or lacks ops.
        UnknownName, BadRequest: data, recipe, constraints or checkpoint make no sense; no network
            is as fast as `target_ms` (the message names the fastest).
        LatbenchError: the search diverged again and again; the message says when, and which number.
        OutputFailed: `out` cannot be written to; earlier files are intact.
    """
    if not isinstance(lut, Lut):
        lut = Lut.load(lut)
    if target_ms is not None and not (math.isfinite(target_ms) and target_ms > 0):
        raise BadRequest(f"a target of {target_ms:g} ms makes no sense")
    if verify and target_ms is None:
        raise BadRequest("what is measured must be held against something", hint="give --target-ms")
    name = data if isinstance(data, str) else data.name
    if not isinstance(recipe, Recipe):
        recipe = Recipe.for_data(name) if recipe is None else Recipe.named(recipe)
    if epochs is not None:
        recipe = recipe.stretched(epochs)
    latency, space, target = latency_model(lut), lut.search_space, lut.target
    limits = dict(constraints or {})
    costs = costs_of(limits, space, target.runtime, target.precision)
    require_affordable(limits, costs)
    if target_ms is not None:
        require_reachable(target_ms, latency)
    budget = Budget(target_ms, (target_ms or 0.0) * recipe.target_share, limits, costs)
    images = open_data(data, space.input_size) if isinstance(data, str) else data
    images = some_classes(images, recipe.classes)
    with threads(recipe.threads):
        run = _Search(lut, latency, images, recipe, seed, budget, Path(out))
        return run.run(resume, checkpoint_s, verify, progress)


class _Search(Run):
    """One search with its state.

    Besides what every run has, that is the `phase` of the epoch, w or theta, and what its w-phase
    `told`.
    """

    def __init__(
        self,
        lut: Lut,
        latency: LatencyModel,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        budget: Budget,
        out: Path,
    ) -> None:
        self.lut, self.latency, self.data, self.recipe = lut, latency, data, recipe
        self.seed, self.budget, self.out = seed, budget, out
        self.phase = "w"
        self.told: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(lut.search_space, len(data.classes))
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weight_part, theta_part = two_parts(data.train, recipe.weight_share, seed)
        self.parts = {"w": weight_part, "theta": theta_part}
        self.steps = {
            name: batch_count(len(part), recipe.batch) for name, part in self.parts.items()
        }
        self.weight_optimizer = torch.optim.SGD(
            self.supernet.weights(),
            lr=recipe.weight_rate,
            momentum=recipe.weight_momentum,
            weight_decay=recipe.weight_decay,
        )
        self.theta_optimizer = torch.optim.Adam(
            [self.supernet.theta], lr=recipe.theta_rate, weight_decay=recipe.theta_decay
        )
        identity = {
            "lut_sha256": lut.content_sha256,
            "data": data.name,
            "training images": len(data.train),
            "classes": list(data.classes),
            "seed": seed,
            "target_ms": budget.target_ms,
            "recipe": recipe.to_dict(),
        }
        super().__init__(
            "a search",
            Checkpoints(out / "checkpoint.pt", "a search", identity),
            self.supernet,
            {"w": self.weight_optimizer, "theta": self.theta_optimizer},
            torch.Generator().manual_seed(seed),
        )

    @property
    def searching(self) -> bool:
        """Whether θ learns in this epoch."""
        return self.epoch >= self.recipe.warmup_epochs

    def run(
        self, resume: bool, checkpoint_s: float, verify: int, progress: OnProgress | None
    ) -> SearchResult:
        checkpoint = self.resume().name if resume else None
        log = EventLog(self.out, resume_after=self.epoch if resume else None)
        try:
            log.write(
                "resume" if resume else "start",
                epoch=self.epoch,
                checkpoint=checkpoint,
                target_ms=self.budget.target_ms,
                limits=dict(self.budget.limits),
                lut_sha256=self.lut.content_sha256,
                seed=self.seed,
                recipe=self.recipe.to_dict(),
                data=self.data.to_dict(),
                fastest_ms=self.latency.fastest_ms,
                slowest_ms=self.latency.slowest_ms,
            )
            if not resume:
                self.save()
            self.epochs(self.recipe.epochs, log, checkpoint_s, progress)
            result = self._result(verify)
            content = json.dumps(result.to_dict(), indent=1) + "\n"
            write_atomically(self.out / "architecture.json", content)
            log.write(
                "end",
                layers=result.architecture.notation,
                predicted_ms=result.prediction.ms,
                expected_ms=result.expected_ms,
                finalists=[one.to_dict() for one in result.finalists],
            )
        finally:
            log.close()
        return result

    # One epoch

    def one_epoch(self, log: EventLog) -> None:
        started = time.perf_counter()
        temperature = temperature_at(
            self.epoch, self.recipe.temperature, self.recipe.temperature_decay
        )
        if self.phase == "w":
            loss, accuracy = self._one_pass(temperature)
            self.told = {"w_loss": loss, "w_accuracy": accuracy}
            self.phase, self.current = "theta", None
        if self.searching:
            with self.supernet.frozen_weights():
                loss, cross_entropy, accuracy = self._one_pass(temperature)
            self.told |= {
                "theta_loss": loss,
                "theta_cross_entropy": cross_entropy,
                "theta_accuracy": accuracy,
            }
        chances = probabilities(self.supernet.theta)
        told = self.told | {
            "expected_ms": float(self.latency.of(chances)),
            "entropy": float(torch.special.entr(chances).sum(1).mean()),
            "temperature": temperature,
        }
        likeliest = derive_architecture(self.supernet.theta, self.latency, self.lut, self.budget)
        phase = "search" if self.searching else "warm-up"
        self.epoch, self.phase, self.current, self.told = self.epoch + 1, "w", None, {}
        log.scalars(self.epoch, told)
        log.write(
            "epoch",
            epoch=self.epoch,
            phase=phase,
            seconds=time.perf_counter() - started,
            layers=likeliest.notation,
            predicted_ms=predict_latency(self.lut, likeliest).ms,
            **told,
        )

    def _one_pass(self, temperature: float) -> list[float]:
        """Train what the phase trains, on what is left of its pass; returns the means it tells."""
        if self.current is None:
            self.current = Pass.shuffled(self.parts[self.phase], self.generator)
        step = self._weight_step if self.phase == "w" else self._theta_step
        self.supernet.train()
        for images, labels in self.current.batches(self.data, self.recipe.batch, self.generator):
            self.current.tell(len(labels), *step(images, labels, temperature))
            self.step_done()
        return self.current.means()

    def _weight_step(self, images: Tensor, labels: Tensor, temperature: float) -> list[Tensor]:
        """One step of w; returns loss and accuracy."""
        assert self.current is not None
        step, total = self.epoch * self.steps["w"], self.recipe.epochs * self.steps["w"]
        rate = cosine(self.recipe.weight_rate, step + self.current.done, total)
        set_rate(self.weight_optimizer, rate * self.caution)
        with torch.no_grad():
            mix = gumbel_softmax(self.supernet.theta, temperature, self.generator)
        logits = self.supernet(images, mix, self.recipe.paths)
        loss = functional.cross_entropy(logits, labels)
        require_sane(loss, len(self.data.classes), self._when)
        self.weight_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.weight_optimizer.step()
        return [loss, correct(logits, labels)]

    def _theta_step(self, images: Tensor, labels: Tensor, temperature: float) -> list[Tensor]:
        """One step of θ; returns loss, cross-entropy and accuracy."""
        set_rate(self.theta_optimizer, self.recipe.theta_rate * self.caution)
        mix = gumbel_softmax(self.supernet.theta, temperature, self.generator)
        logits = self.supernet(images, mix, self.recipe.paths)
        cross_entropy = functional.cross_entropy(logits, labels)
        require_sane(cross_entropy, len(self.data.classes), self._when)
        loss = self._search_loss(cross_entropy, mix)
        self.theta_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.theta_optimizer.step()
        require_finite({"theta": self.supernet.theta}, self._when)
        return [loss, cross_entropy, correct(logits, labels)]

    def _search_loss(self, cross_entropy: Tensor, mix: Tensor) -> Tensor:
        target_ms = self.budget.target_ms
        if target_ms is None:
            latency = self.latency.of(mix)
            return paper_loss(cross_entropy, latency, self.recipe.alpha, self.recipe.beta)
        # A budget is for the network that θ will give, so what meets it is the expectation over
        # softmax(θ); that over m is drawn to the middle of the space while the temperature is high.
        latency = self.latency.of(torch.softmax(self.supernet.theta, dim=-1))
        return target_loss(cross_entropy, latency, target_ms, self.recipe.target_strength)

    def progress(self) -> Progress:
        per_epoch = [
            self.steps["w"] + (self.steps["theta"] if epoch >= self.recipe.warmup_epochs else 0)
            for epoch in range(self.recipe.epochs)
        ]
        assert self.current is not None
        done = sum(per_epoch[: self.epoch]) + self.current.done
        done += self.steps["w"] if self.phase == "theta" else 0
        phase = "search" if self.searching else "warm-up"
        doing = f"epoch {self.epoch + 1} of {self.recipe.epochs}, {phase}"
        return Progress(done, sum(per_epoch), doing)

    @property
    def _when(self) -> str:
        assert self.current is not None
        return f"{self.phase}-step {self.current.done + 1} of epoch {self.epoch + 1}"

    # State and result

    def own_state(self) -> dict[str, Any]:
        return {"phase": self.phase, "told": self.told}

    def restore_own(self, state: dict[str, Any]) -> None:
        self.phase, self.told = state["phase"], state["told"]

    def _result(self, verify: int) -> SearchResult:
        theta, lut, budget = self.supernet.theta, self.lut, self.budget
        found = finalists(theta, self.latency, lut, budget, max(verify, 1))
        timed: list[Verified] = []
        architecture = found[0]
        if verify and budget.target_ms is not None:
            timed = verified(found, lut)
            architecture = pick(timed, budget.target_ms).architecture
        costs = spent(budget.limits, architecture, lut.target.runtime, lut.target.precision)
        return SearchResult(
            architecture=architecture,
            prediction=predict_latency(lut, architecture),
            target_ms=budget.target_ms,
            expected_ms=float(self.latency.of(probabilities(theta))),
            data=self.data.to_dict(),
            recipe=self.recipe,
            seed=self.seed,
            out=self.out,
            limits={kind: Limit(limit, costs[kind]) for kind, limit in budget.limits.items()},
            finalists=tuple(timed),
            **lut_facts(lut),
        )
