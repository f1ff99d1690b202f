"""What passes between grouped blocks and others.

Runtimes lay out the values of grouped convolutions in another way than those of others: ONNX Runtime
computes most convolutions in blocks of channels (NCHWc) and grouped ones without, and changes layouts
between them. A block in its sandwich always has others beside it, so its time holds both changes; in a
network some are saved and some are dearer.
"""

import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from latbench.space.opspec import OpSpec


class Transition(StrEnum):
    """Where a value goes; the name stands in LUTs. Between two other ops there is none."""

    TO_GROUPED = "to_grouped"
    FROM_GROUPED = "from_grouped"
    BETWEEN_GROUPED = "between_grouped"


def transition(from_grouped: bool, to_grouped: bool) -> Transition | None:
    """The transition between two ops, of which each has grouped convolutions or not."""
    if from_grouped:
        return Transition.BETWEEN_GROUPED if to_grouped else Transition.FROM_GROUPED
    return Transition.TO_GROUPED if to_grouped else None


def transitions(ops: Sequence[OpSpec]) -> Counter[Transition]:
    """How many values make each transition, at batch 1, when `ops` run in sequence."""
    found: Counter[Transition] = Counter()
    for before, op in pairwise(ops):
        made = transition(before.groups > 1, op.groups > 1)
        if made is not None:
            found[made] += math.prod(op.input_shape)
    return found
