"""Boundaries between blocks with grouped convolutions and other ops.

Runtimes may store the values of grouped convolutions in another memory layout: ONNX Runtime computes most
convolutions in blocks of channels (NCHWc), grouped ones without, and converts between the two. A block in
its sandwich always has ungrouped neighbours, so its entry holds both conversions; in a network some of them
do not happen and others cost more. `latbench.lut.calibrate` fits these boundary costs.
"""

import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from latbench.space.opspec import OpSpec


class Boundary(StrEnum):
    """The kinds of boundary; LUT files use the values. Two ungrouped ops have no boundary between them."""

    TO_GROUPED = "to_grouped"
    FROM_GROUPED = "from_grouped"
    BETWEEN_GROUPED = "between_grouped"


def boundary_between(from_grouped: bool, to_grouped: bool) -> Boundary | None:
    """The boundary between two ops, each with grouped convolutions or without."""
    if from_grouped:
        return Boundary.BETWEEN_GROUPED if to_grouped else Boundary.FROM_GROUPED
    return Boundary.TO_GROUPED if to_grouped else None


def boundary_values(ops: Sequence[OpSpec]) -> Counter[Boundary]:
    """How many values cross each kind of boundary, when `ops` run in sequence."""
    counts: Counter[Boundary] = Counter()
    for before, op in pairwise(ops):
        boundary = boundary_between(before.groups > 1, op.groups > 1)
        if boundary is not None:
            counts[boundary] += math.prod(op.input_shape)
    return counts
