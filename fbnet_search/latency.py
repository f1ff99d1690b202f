"""The latency of a relaxed network, from a LUT.

What a LUT predicts for a network is the corrected sum of its entries, so it is linear in the
choices:

    ms(m) = fixed + sum over layers l, candidates i of m[l, i] * layer_ms[l, i]

where `fixed` is the stem, head, pool, classifier and the correction's offset, and every entry is
multiplied by the correction's scale and its own factor. With one-hot m this is
`latbench.lut.predict_latency`; with probabilities it is the exact expectation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latbench.errors import LutRefused
from latbench.lut import Lut
from latbench.space import CANDIDATES

_MICROSECOND = 1e-3  # in milliseconds


@dataclass(frozen=True)
class LatencyModel:
    """Corrected milliseconds: `layer_ms` of shape (layers, candidates), float64, and `fixed_ms`."""

    layer_ms: Tensor
    fixed_ms: float

    def of(self, weights: Tensor) -> Tensor:
        """Return the latency, a scalar in ms, of weights of shape (layers, candidates).

        It is differentiable in `weights`.
        """
        return self.fixed_ms + (weights * self.layer_ms).sum()

    def of_choices(self, choices: Sequence[int]) -> float:
        """Return the latency in ms of one candidate's index a layer."""
        layers = range(len(self.layer_ms))
        return self.fixed_ms + float(self.layer_ms[layers, list(choices)].sum())

    @property
    def fastest_ms(self) -> float:
        """The latency of the fastest network, ms."""
        return self.fixed_ms + float(self.layer_ms.amin(1).sum())

    @property
    def slowest_ms(self) -> float:
        """The latency of the slowest network, ms."""
        return self.fixed_ms + float(self.layer_ms.amax(1).sum())


def latency_model(lut: Lut) -> LatencyModel:
    """Return the latency model of the LUT's own space, with the space's default head.

    Raises:
        MissingOps: the LUT lacks ops; the message lists them and the command that measures them.
        LutRefused: its correction makes the fastest network take no time at all.
    """
    space = lut.search_space
    table = [[space.op(layer, candidate) for candidate in CANDIDATES] for layer in space.layers]
    around = [space.stem, *space.head_ops()]
    ops = [space.stem, *(op for row in table for op in row if op), *space.head_ops()]
    lut.require(ops, f"the search space {space}")
    # An identity skip is no op and costs nothing.
    entries = [[lut.corrected_ms(op) if op else 0.0 for op in row] for row in table]
    layer_ms = torch.tensor(entries, dtype=torch.float64)
    model = LatencyModel(layer_ms, lut.offset_ms + sum(map(lut.corrected_ms, around)))
    if model.fastest_ms <= _MICROSECOND:
        raise LutRefused(
            f"the LUT of {lut.target} predicts {model.fastest_ms:.4g} ms for the fastest network",
            hint="its correction does not hold for small networks; "
            f"measure it again with: {lut.command}",
        )
    return model
