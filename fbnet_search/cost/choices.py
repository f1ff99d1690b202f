"""The choices of a space as a table: a row for each layer, a column for each candidate of any layer.

A layer need not have every candidate. Those that it lacks have θ -inf, so their weight is 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latbench.space import Architecture, OpSpec, SearchSpace


def op_table(space: SearchSpace) -> list[list[OpSpec | None]]:
    """The op of each candidate at each layer; None for an identity.

    In place of a candidate that a layer lacks stands the op of the layer's first, so that the least and the
    most of a row are those of its own candidates.
    """
    return [
        [
            space.op(layer, one if one in layer.candidates else layer.candidates[0])
            for one in space.candidates
        ]
        for layer in space.layers
    ]


def allowed_choices(space: SearchSpace) -> Tensor:
    """Whether a layer has a candidate, bool, shape (layers, candidates)."""
    return torch.tensor([[one in at.candidates for one in space.candidates] for at in space.layers])


def only_allowed(theta: Tensor, allowed: Tensor) -> Tensor:
    """θ with -inf where a layer lacks the candidate."""
    return theta.masked_fill(~allowed.to(theta.device), float("-inf"))


def choices_of(architecture: Architecture) -> list[int]:
    """The column of each layer's choice."""
    candidates = architecture.space.candidates
    return [candidates.index(choice) for choice in architecture.choices]


def architecture_of(space: SearchSpace, choices: Sequence[int]) -> Architecture:
    """Return the architecture with these candidate indices, one for each layer, and the default head."""
    return Architecture(
        space, tuple(space.candidates[choice] for choice in choices), space.heads[0]
    )
