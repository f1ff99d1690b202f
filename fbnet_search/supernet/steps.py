"""One w-step and one θ-step, for one search or for several that share the supernet's weights.

Searches for several latency targets have a θ each. Their w-steps take turns: each draws its mixture from
the next θ. In a θ-step every θ is trained on the batch. With several LUTs, the latency of a network is that
on its slowest target.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fbnet_search.cost.latency import LatencyModel
from fbnet_search.run.distributed import Peers, share_batch_norms
from fbnet_search.run.passes import correct, require_finite, require_sane, set_rate
from fbnet_search.run.recipe import Recipe
from fbnet_search.supernet.loss import paper_loss, target_loss
from fbnet_search.supernet.network import MixedLayer, Supernet
from fbnet_search.supernet.relaxation import gumbel_softmax


class Steps:
    """The supernet with its two optimizers, the latency models and the targets.

    Args:
        supernet: on the CPU; it is moved to the compute device of `peers`.
        recipe: of the search.
        latencies: the latency model of each LUT.
        targets: the latency target of each search, ms; None for the paper's loss.
        generator: of the Gumbel noise, in the same state in all processes.
        peers: the processes of the run.
    """

    def __init__(
        self,
        supernet: Supernet,
        recipe: Recipe,
        latencies: Sequence[LatencyModel],
        targets: Sequence[float | None],
        generator: torch.Generator,
        peers: Peers,
    ) -> None:
        self.supernet = supernet.computed_on(peers.device)
        self.recipe, self.peers = recipe, peers
        self._latencies, self._targets, self._generator = latencies, targets, generator
        if not peers.alone:
            share_batch_norms(supernet)
            for layer in supernet.layers:
                assert isinstance(layer, MixedLayer)
                layer.fused = False  # fused blocks compute BN per process
        self._parallel = peers.parallel(supernet)
        self.weight_optimizer = torch.optim.SGD(
            supernet.weights(),
            lr=recipe.weight_rate,
            momentum=recipe.weight_momentum,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        self.theta_optimizer = torch.optim.Adam(
            supernet.thetas,
            lr=recipe.theta_rate,
            betas=(recipe.theta_beta1, recipe.theta_beta2),
            weight_decay=recipe.theta_decay,
        )

    def weight_step(
        self, images: Tensor, labels: Tensor, epoch: int, number: int, rate: float, when: str
    ) -> tuple[int, list[Tensor]]:
        """Train w on a batch, and return its number of images and its metrics: mean loss and accuracy.

        Args:
            images: this process's part of the batch, (N, 3, S, S).
            labels: of the images, (N,).
            epoch: from 0; decides temperature and paths.
            number: of the step; decides which search's θ the mixture is drawn from.
            rate: the learning rate.
            when: the step, for messages.

        Raises:
            Diverged: the cross-entropy is not finite or out of range.
        """
        set_rate(self.weight_optimizer, rate)
        theta = self.supernet.logits(number % len(self.supernet.thetas))
        with torch.no_grad():
            mix = gumbel_softmax(theta, self.recipe.temperature_in(epoch), self._generator)
        share, count = self.peers.share(len(labels))
        logits, loss = self._cross_entropy(self._parallel, images, labels, mix, epoch)
        metrics = self._means(share, loss, correct(logits, labels))
        require_sane(metrics[0], logits.shape[1], when)
        self.weight_optimizer.zero_grad()
        (loss * share).backward()  # type: ignore[no-untyped-call]
        if self.recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.supernet.weights(), self.recipe.gradient_clip)
        self.weight_optimizer.step()
        return count, metrics

    def theta_step(
        self, images: Tensor, labels: Tensor, epoch: int, rate: float, when: str
    ) -> tuple[int, list[Tensor]]:
        """Train every θ on a batch, within `Supernet.frozen_weights`.

        Returns:
            the batch's number of images, and the metrics of each θ in turn: mean loss, cross-entropy and
            accuracy.

        Raises:
            Diverged: a cross-entropy is not finite or out of range, or θ is not finite.
        """
        set_rate(self.theta_optimizer, rate)
        share, count = self.peers.share(len(labels))
        self.theta_optimizer.zero_grad()
        metrics = []
        for number, target_ms in enumerate(self._targets):
            theta = self.supernet.logits(number)
            mix = gumbel_softmax(theta, self.recipe.temperature_in(epoch), self._generator)
            logits, cross_entropy = self._cross_entropy(self.supernet, images, labels, mix, epoch)
            [of_all, accuracy] = self._means(share, cross_entropy, correct(logits, labels))
            require_sane(of_all, logits.shape[1], when)
            self._loss(cross_entropy.cpu() * share, mix, theta, target_ms).backward()  # type: ignore[no-untyped-call]
            loss = self._loss(of_all, mix.detach(), theta.detach(), target_ms)
            metrics += [loss, of_all, accuracy]
        self.peers.average_gradients(list(self.supernet.thetas))
        self.theta_optimizer.step()
        require_finite({f"theta {n}": one for n, one in enumerate(self.supernet.thetas)}, when)
        return count, metrics

    def latency_of(self, weights: Tensor) -> Tensor:
        """The latency on the slowest target, a scalar in ms, of weights (layers, candidates)."""
        return torch.stack([latency.of(weights) for latency in self._latencies]).max()

    def _cross_entropy(
        self, network: torch.nn.Module, images: Tensor, labels: Tensor, mix: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor]:
        kind = self.peers.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu"):
            logits = network(images, mix, self.recipe.paths_in(epoch), self.recipe.changing_paths)
        return logits, functional.cross_entropy(logits.float(), labels)

    def _means(self, share: float, *values: Tensor) -> list[Tensor]:
        """The means of `values` over all processes' images, on the CPU."""
        return list(self.peers.mean(torch.stack(values) * share).cpu().unbind())

    def _loss(
        self, cross_entropy: Tensor, mix: Tensor, theta: Tensor, target_ms: float | None
    ) -> Tensor:
        if target_ms is None:
            latency = self.latency_of(mix)
            return paper_loss(cross_entropy, latency, self.recipe.alpha, self.recipe.beta)
        # The target is for the derived network, so the loss uses the expectation over softmax(θ): at a
        # high temperature that over m is close to the mean of the space, whatever θ is.
        latency = self.latency_of(torch.softmax(theta, dim=-1))
        return target_loss(cross_entropy, latency, target_ms, self.recipe.target_strength)
