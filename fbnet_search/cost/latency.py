"""The latency of a relaxed network, from a LUT.

A LUT predicts the latency of a network as the corrected sum of its entries plus boundary costs:

    ms(m) = fixed + sum over layers l, candidates i of m[l, i] * layer_ms[l, i] + boundaries(m)

where `fixed` comprises stem, head, pool, classifier and the correction's offset, and every entry is
multiplied by the correction's scale and its own factor. With one-hot m this equals
`latbench.lut.predict_latency`; with probabilities it is the exact expectation over independent choices.
Most LUTs have no boundary costs; then it is linear in m.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fbnet_search.cost.boundaries import BoundaryCosts, boundary_costs
from fbnet_search.cost.choices import op_table
from fbnet_search.cost.constraints import Cost
from latbench.errors import LutRefused
from latbench.lut import Lut

_MICROSECOND = 1e-3  # in milliseconds


@dataclass(frozen=True)
class LatencyModel:
    """Corrected latencies, ms: `layer_ms` of shape (layers, candidates), float64, and `fixed_ms`."""

    layer_ms: Tensor
    fixed_ms: float
    boundaries: BoundaryCosts | None = None

    def of(self, weights: Tensor) -> Tensor:
        """Return the latency, a scalar in ms, of weights of shape (layers, candidates).

        It is differentiable in `weights`.
        """
        summed = self.fixed_ms + (weights * self.layer_ms).sum()
        return summed if self.boundaries is None else summed + self.boundaries.of(weights)

    def of_choices(self, choices: Sequence[int]) -> float:
        """Return the latency in ms of the network with these candidate indices, one for each layer."""
        return self.cost.of(choices)

    @property
    def cost(self) -> Cost:
        """The latency as a cost, ms."""
        return Cost(self.layer_ms.numpy(), self.fixed_ms, peak=False, boundaries=self.boundaries)

    @property
    def fastest_ms(self) -> float:
        """The latency of the fastest network, ms."""
        return self.cost.least

    @property
    def slowest_ms(self) -> float:
        """The latency of the slowest network, ms."""
        return self.cost.most


def latency_model(lut: Lut) -> LatencyModel:
    """Return the latency model of the LUT's own space, with the space's default head.

    Raises:
        MissingOps: the LUT lacks ops; the message lists them and the command that measures them.
        LutRefused: it predicts at most a microsecond for the fastest network.
    """
    space = lut.search_space
    table = op_table(space)
    around = [*space.stem_ops, *space.head_ops()]
    ops = [*space.stem_ops, *(op for row in table for op in row if op), *space.head_ops()]
    lut.require(ops, f"the search space {space}")
    # An identity skip is no op and takes no time.
    entries = [[lut.corrected_ms(op) if op else 0.0 for op in row] for row in table]
    layer_ms = torch.tensor(entries, dtype=torch.float64)
    fixed_ms = lut.offset_ms + sum(map(lut.corrected_ms, around))
    model = LatencyModel(layer_ms, fixed_ms, boundary_costs(lut))
    if model.fastest_ms <= _MICROSECOND:
        raise LutRefused(
            f"the LUT of {lut.target} predicts {model.fastest_ms:.4g} ms for the fastest network",
            hint="its correction does not hold for small networks; "
            f"measure it again with: {lut.command}",
        )
    return model
