"""The training loop of a search: epochs of w-steps and θ-steps on the supernet.

Every epoch trains the supernet's weights w on one part of the training images, then θ on the other (Wu et
al., CVPR 2019, section 3.3). The loop can be interrupted at any step; the same seed gives the same θ on the
same machine with the same number of threads, whether or not the search was resumed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fbnet_search.choose.derive import finalists_on_all
from fbnet_search.choose.program import Budget
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.data.batches import batch_count
from fbnet_search.data.images import ImageData
from fbnet_search.run.checkpoint import Checkpoints
from fbnet_search.run.distributed import Peers
from fbnet_search.run.epochs import Run
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import Pass, cosine, two_parts
from fbnet_search.run.recipe import Progress, Recipe
from fbnet_search.supernet.network import Supernet, probabilities
from fbnet_search.supernet.steps import Steps
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency


class SearchLoop(Run):
    """A search's supernet in training.

    Besides the state of every run it has the `phase` of the current epoch, w or theta, and the `metrics` of
    its finished phase.

    Args:
        luts: of one space.
        latencies: the latency model of each LUT.
        data: the images to train on, and their classes.
        recipe: of the search.
        seed: of all random numbers.
        budgets: one for each search that shares the supernet's weights.
        out: the folder of the checkpoints.
        peers: the processes of the run.

    Raises:
        BadRequest: a batch of the recipe has fewer images than there are processes.
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
        self.budgets = budgets
        self.phase = "w"
        self.metrics: dict[str, float] = {}
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
                    f"batch must be at least {peers.world}, the number of processes, in every step; "
                    f"batches of {recipe.batch} are too small"
                )
        super().__init__(
            "a search",
            Checkpoints(out / "checkpoint.pt", "a search", self._identity(seed)),
            self.supernet,
            {"w": self.steps.weight_optimizer, "theta": self.steps.theta_optimizer},
            generator,
            peers,
        )

    def _identity(self, seed: int) -> dict[str, Any]:
        hashes = [lut.content_sha256 for lut in self.luts]
        targets = [budget.target_ms for budget in self.budgets]
        identity = {
            "lut_sha256": hashes[0] if len(hashes) == 1 else hashes,
            "data": self.data.name,
            "training images": len(self.data.train),
            "classes": list(self.data.classes),
            "seed": seed,
            "target_ms": targets[0] if len(targets) == 1 else targets,
            "recipe": self.recipe.to_dict(),
        }
        # Checkpoints of versions without this key are of images at the space's input size.
        if self.data.image_size != self.luts[0].search_space.input_size:
            identity["image_size"] = self.data.image_size
        return identity

    @property
    def trains_theta(self) -> bool:
        """Whether this epoch has a θ-phase, being after the warm-up."""
        return self.epoch >= self.recipe.warmup_epochs

    def one_epoch(self, log: EventLog) -> None:
        started = time.perf_counter()
        if self.phase == "w":
            means, input_stats = self._one_pass()
            self.metrics = dict(zip(("w_loss", "w_accuracy"), means, strict=True))
            self.phase, self.current = "theta", None
        if self.trains_theta:
            with self.supernet.frozen_weights():
                means, input_stats = self._one_pass()
            names = ("theta_loss", "theta_cross_entropy", "theta_accuracy")
            tags = [
                tag for number in range(len(self.budgets)) for tag in self._tagged(names, number)
            ]
            self.metrics |= dict(zip(tags, means, strict=True))
        phase = "search" if self.trains_theta else "warm-up"
        metrics = self.metrics | {
            "temperature": self.recipe.temperature_in(self.epoch),
            "paths": self.recipe.paths_in(self.epoch),
        }
        most_probable: dict[str, str | float] = {}
        for number in range(len(self.budgets)):
            metrics |= self._theta_metrics(number)
            most_probable |= self._most_probable(number)
            chances = probabilities(self.supernet.logits(number)).numpy()
            log.heat_map(self.epoch + 1, self._tagged(("theta",), number)[0], chances)
        self.epoch, self.phase, self.current, self.metrics = self.epoch + 1, "w", None, {}
        log.scalars(self.epoch, metrics)
        log.write(
            "epoch",
            epoch=self.epoch,
            phase=phase,
            seconds=time.perf_counter() - started,
            input=input_stats,
            **most_probable,
            **metrics,
        )

    def _theta_metrics(self, number: int) -> dict[str, float]:
        """Expected latency, ms, and mean entropy of a layer, nats, of one search's θ."""
        chances = probabilities(self.supernet.logits(number))
        entropy = float(torch.special.entr(chances).sum(1).mean())
        values = float(self.steps.latency_of(chances)), entropy
        return dict(zip(self._tagged(("expected_ms", "entropy"), number), values, strict=True))

    def _most_probable(self, number: int) -> dict[str, str | float]:
        """The most probable network of one search within its budget, and its predicted latency, ms."""
        theta, budget = self.supernet.logits(number), self.budgets[number]
        one = finalists_on_all(theta, self.latencies, self.luts, budget, 1)[0]
        predicted_ms = max(predict_latency(lut, one).ms for lut in self.luts)
        tags = self._tagged(("layers", "predicted_ms"), number)
        return dict(zip(tags, (one.notation, predicted_ms), strict=True))

    def _tagged(self, names: Sequence[str], number: int) -> list[str]:
        """The metrics' names of one search; with several, they end with its target."""
        if len(self.budgets) == 1:
            return list(names)
        return [f"{name}@{self.budgets[number].target_ms:g}ms" for name in names]

    def _one_pass(self) -> tuple[list[float], dict[str, float]]:
        """Run the rest of the current phase's pass; returns the means of its metrics, and input figures."""
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
                rate = cosine(recipe.weight_rate, step, total) * self.lr_scale
                count, metrics = self.steps.weight_step(x, y, self.epoch, step, rate, when)
            else:
                rate = recipe.theta_rate * self.lr_scale
                count, metrics = self.steps.theta_step(x, y, self.epoch, rate, when)
            current.record(count, *metrics)
            self.step_done()
        return current.means(), current.input_stats.to_dict()

    def progress(self) -> Progress:
        per_epoch = [
            self.counts["w"] + (self.counts["theta"] if epoch >= self.recipe.warmup_epochs else 0)
            for epoch in range(self.recipe.epochs)
        ]
        assert self.current is not None
        done = sum(per_epoch[: self.epoch]) + self.current.done
        done += self.counts["w"] if self.phase == "theta" else 0
        phase = "search" if self.trains_theta else "warm-up"
        note = self.current.input_stats.bottleneck_note
        doing = f"epoch {self.epoch + 1} of {self.recipe.epochs}, {phase}{note}"
        return Progress(done, sum(per_epoch), doing)

    def own_state(self) -> dict[str, Any]:
        return {"phase": self.phase, "metrics": self.metrics}

    def restore_own(self, state: dict[str, Any]) -> None:
        # Earlier checkpoints call the metrics "told".
        self.phase = state["phase"]
        self.metrics = state["metrics"] if "metrics" in state else state["told"]
