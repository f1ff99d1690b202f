"""Choose the network of a finished search: derive finalists from θ, rank and verify them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fbnet_search.choose.derive import finalists_on_all, sampled_on_all
from fbnet_search.choose.finalists import Finalist, best_finalist, verify_finalists
from fbnet_search.choose.program import Budget
from fbnet_search.choose.ranking import rank
from fbnet_search.cost.latency import LatencyModel
from fbnet_search.data.images import Split
from fbnet_search.latencies import TargetLatency, predicted_on
from fbnet_search.run.distributed import Peers
from fbnet_search.run.events import EventLog
from fbnet_search.run.recipe import Recipe
from fbnet_search.supernet.network import Supernet
from latbench.errors import LatbenchError
from latbench.lut import Lut
from latbench.space import Architecture

#: Called with a description of what is done next.
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Chosen:
    """The chosen network, its latency on each LUT's target, and the verified finalists, if any."""

    architecture: Architecture
    latencies: tuple[TargetLatency, ...]
    finalists: tuple[Finalist, ...] = ()


@dataclass(frozen=True)
class Selection:
    """How the networks of a search are chosen.

    Args:
        supernet: trained; its weights rank networks.
        luts: of one space.
        latencies: the latency model of each LUT.
        recipe: of the search; says how many networks to rank.
        images: the training images.
        numbers: the indices of those that trained θ, which rank networks.
        seed: of the sampling from θ.
        verify: how many finalists to time; 0 for none.
        peers: the processes of the run.
    """

    supernet: Supernet
    luts: Sequence[Lut]
    latencies: Sequence[LatencyModel]
    recipe: Recipe
    images: Split
    numbers: Tensor
    seed: int
    verify: int
    peers: Peers

    def choose(self, theta: Tensor, budget: Budget, log: EventLog, announce: Announce) -> Chosen:
        """Choose the network of one search.

        Args:
            theta: its logits, shape (layers, candidates).
            budget: what the network may cost.

        Raises:
            BadRequest: no network keeps the budget.
            LatbenchError: finalists cannot be timed.
        """
        announce("deriving networks from theta")
        count = max(self.verify, self.recipe.judged)
        networks = finalists_on_all(theta, self.latencies, self.luts, budget, count)
        if self.recipe.judged > 1:
            networks = self._ranked(networks, theta, budget, count, log, announce)
        networks = networks[: max(self.verify, 1)]
        if self.verify and budget.target_ms is not None:
            announce(f"verifying {len(networks)} finalist{'s' if len(networks) > 1 else ''}")
            verified = self._verified(networks)
            best = best_finalist(verified, budget.target_ms)
            return Chosen(best.architecture, best.latencies, tuple(verified))
        first = networks[0]
        return Chosen(first, tuple(predicted_on(lut, first) for lut in self.luts))

    def _ranked(
        self,
        networks: Sequence[Architecture],
        theta: Tensor,
        budget: Budget,
        count: int,
        log: EventLog,
        announce: Announce,
    ) -> list[Architecture]:
        """The `count` networks, of those given and of samples, that the supernet's weights rank first."""
        samples = sampled_on_all(
            theta, self.latencies, self.luts, budget, self.recipe.drawn, seed=self.seed
        )
        candidates = list(dict.fromkeys([*networks, *samples]))
        announce(f"ranking {len(candidates)} network{'s' if len(candidates) > 1 else ''}")
        ranked = self.peers.broadcast(
            rank(self.supernet, candidates, self.images, self.numbers, count)
        )
        log.write("judged", networks=[[one.notation, accuracy] for one, accuracy in ranked])
        return [one for one, _ in ranked]

    def _verified(self, networks: Sequence[Architecture]) -> list[Finalist]:
        """The finalists, timed by the first process."""
        if self.peers.alone:
            return verify_finalists(networks, self.luts)
        failed: LatbenchError | None = None
        verified: list[Finalist] = []
        if self.peers.first:
            try:
                verified = verify_finalists(networks, self.luts)
            except LatbenchError as error:  # the other processes wait for the broadcast
                failed = LatbenchError(error.message, details=error.details, hint=error.hint)
        failed, verified = self.peers.broadcast((failed, verified))
        if failed is not None:
            raise failed
        return verified
