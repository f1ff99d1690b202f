"""Boundary costs: layout conversions between grouped blocks and others, in networks of a search space.

A boundary lies between a block and the next one that is no identity skip, so boundary costs are no sum over
layers. But a block's cost depends on those before it only through whether the last of them is grouped. This
makes expectations, extremes and the 0-1 program exact at a cost linear in the number of layers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint
from torch import Tensor

from fbnet_search.cost.choices import op_table
from latbench.lut import Lut
from latbench.space.boundaries import Boundary, boundary_between

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryCosts:
    """The cost of each kind of boundary before each layer and before the head, milliseconds.

    `costs` has the shape (layers + 1, kinds), in the order of `Boundary`. `grouped` and `plain`, of
    shape (layers, candidates), are 1 where a candidate's block is grouped or is not; both are 0 where it
    is an identity.
    """

    costs: Tensor
    grouped: Tensor
    plain: Tensor

    def of(self, weights: Tensor) -> Tensor:
        """The expected cost of independent choices with `weights`, shape (layers, candidates).

        It is differentiable in `weights`, and exact for one-hot ones.
        """
        grouped, plain = (weights * self.grouped).sum(1), (weights * self.plain).sum(1)
        # The overhead of scalar operations dominates, so this loop has as few as possible.
        costs = self.costs.tolist()
        total = weights.new_zeros(())
        before = weights.new_zeros(
            ()
        )  # probability that the last block is grouped; the stem is not
        for (to, out, between), here, other in zip(costs[:-1], grouped, plain, strict=True):
            total = total + here * (to + (between - to) * before) + out * before * other
            before = here + before * (1 - here - other)
        expected: Tensor = total + costs[-1][_FROM] * before
        return expected

    def of_choices(self, choices: Sequence[int]) -> float:
        """The cost of the network with these candidate indices, one for each layer."""
        total, before = 0.0, False
        for costs, grouped, plain, choice in zip(
            self.costs[:-1].tolist(), self.grouped, self.plain, choices, strict=True
        ):
            if grouped[choice] or plain[choice]:
                now = bool(grouped[choice])
                total += _cost(costs, before, now)
                before = now
        return total + _cost(self.costs[-1].tolist(), before, False)

    def extreme(self, layers: Floats, choose: Callable[..., float]) -> float:
        """The least (`min`) or largest (`max`) sum of `layers` and boundary costs over all networks.

        Args:
            layers: the other costs of each candidate, shape (layers, candidates).
        """
        worst = choose(-math.inf, math.inf) * -1  # never chosen
        best = {False: 0.0, True: worst}
        for row, costs, grouped, plain in zip(
            layers,
            self.costs[:-1].tolist(),
            self.grouped.tolist(),
            self.plain.tolist(),
            strict=True,
        ):
            found = {False: worst, True: worst}
            for own, is_grouped, is_plain in zip(row, grouped, plain, strict=True):
                for before, until in best.items():
                    now = bool(is_grouped) if is_grouped or is_plain else before
                    passing = _cost(costs, before, now) if is_grouped or is_plain else 0.0
                    found[now] = choose(found[now], until + own + passing)
            best = found
        last = self.costs[-1].tolist()
        return choose(best[False], best[True] + _cost(last, True, False))


_KINDS = tuple(Boundary)
_FROM = _KINDS.index(Boundary.FROM_GROUPED)


def _cost(costs: list[float], before: bool, now: bool) -> float:
    made = boundary_between(before, now)
    return 0.0 if made is None else costs[_KINDS.index(made)]


def boundary_costs(lut: Lut) -> BoundaryCosts | None:
    """The boundary costs in networks of the LUT's space; None if its correction has none."""
    if lut.correction is None or not any(lut.correction.boundary_costs.values()):
        return None
    space = lut.search_space
    table = op_table(space)
    inputs = [next(op.input_shape for op in row if op) for row in table]
    inputs.append(space.head_ops()[0].input_shape)
    costs = [[lut.boundary_ms(kind, math.prod(shape)) for kind in Boundary] for shape in inputs]
    groups = np.array([[op.groups if op else 0 for op in row] for row in table])
    return BoundaryCosts(
        torch.tensor(costs, dtype=torch.float64),
        torch.from_numpy((groups > 1).astype(float)),
        torch.from_numpy((groups == 1).astype(float)),
    )


class BoundaryProgram:
    """The variables and constraints that express boundary costs in a 0-1 program of choices.

    Besides a variable x for each candidate of each layer, there are for every layer l

        before_l     whether the last block before it is grouped; also for the head
        between_l    before_l, and the layer's own block is grouped
        leaving_l    before_l, and the layer's own block is neither grouped nor an identity

    each 0 or 1. As each layer has one candidate, grouped, plain or an identity,

        before_(l+1) = grouped_l + before_l - between_l - leaving_l
    """

    def __init__(self, grouped: Floats, plain: Floats) -> None:
        self.grouped, self.plain = grouped, plain
        layers = len(grouped)
        self._first = grouped.size
        self.count = self._first + 3 * layers + 1
        self._before = self._first + np.arange(layers + 1)
        self._between = self._before[-1] + 1 + np.arange(layers)
        self._leaving = self._between[-1] + 1 + np.arange(layers)

    def constraints(self) -> list[LinearConstraint]:
        """The constraints that tie these variables to the choices."""
        layers, candidates = self.grouped.shape
        rows, low, high = [], [], []

        def add(
            terms: dict[int, float], least: float, most: float, members: Floats, layer: int
        ) -> None:
            row = np.zeros(self.count)
            row[layer * candidates : (layer + 1) * candidates] = members
            for column, value in terms.items():
                row[column] = value
            rows.append(row)
            low.append(least)
            high.append(most)

        none = np.zeros(candidates)
        add({int(self._before[0]): 1.0}, 0, 0, none, 0)
        for layer in range(layers):
            before, after = int(self._before[layer]), int(self._before[layer + 1])
            between, leaving = int(self._between[layer]), int(self._leaving[layer])
            add({after: -1, before: 1, between: -1, leaving: -1}, 0, 0, self.grouped[layer], layer)
            for both, members in (
                (between, self.grouped[layer]),
                (leaving, self.plain[layer]),
            ):
                add({both: 1, before: -1}, -np.inf, 0, none, layer)
                add({both: 1}, -np.inf, 0, -members, layer)
                add({both: 1, before: -1}, -1, np.inf, -members, layer)
        return [LinearConstraint(np.array(rows), low, high)]

    def coefficients(self, costs: Floats) -> Floats:
        """The cost of each variable, for boundary costs of shape (layers + 1, kinds)."""
        to, out, between = costs.T
        row = np.zeros(self.count)
        row[: self._first] = (self.grouped * to[:-1, None]).ravel()
        row[self._between] = (between - to)[:-1]
        row[self._leaving] = out[:-1]
        row[self._before[-1]] = out[-1]
        return row
