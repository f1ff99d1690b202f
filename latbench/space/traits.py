"""What ops may have in common that makes their latencies deviate alike in a network.

A cache that is too small, or a kernel that a runtime computes with other code, concerns all ops of a
resolution or an expansion, not a single one.
"""

from collections.abc import Hashable
from enum import StrEnum

from latbench.space.opspec import OpSpec


class Trait(StrEnum):
    """The size of an op's input, its expansion, its kernel, and its groups; LUT files use the values."""

    RESOLUTION = "resolution"
    EXPANSION = "expansion"
    KERNEL = "kernel"
    GROUPS = "groups"

    def of(self, op: OpSpec) -> Hashable:
        """The value of this trait for `op`; ops with equal values share a deviation."""
        return op.traits[self.value]
