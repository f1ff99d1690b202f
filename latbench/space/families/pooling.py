"""Max and average pools with 'same' padding, as blocks and in stems.

maxpool_k3_s2_i64_h112_w112          the maximum of 3x3 values
avgpool_k3_s1_i64_h56_w56            their mean; padding does not count
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.opspec import OpSpec, Part, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class MaxPool(OpSpec):
    """The maximum of kxk values of a channel."""

    kind: ClassVar[str] = "maxpool"
    form: ClassVar[str] = "maxpool_k{kernel}_s{stride}_i{in_channels}_h{height}_w{width}"
    is_block: ClassVar[bool] = True

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        return (moved(self.in_channels * before, self.in_channels * after),)

    def build(self) -> "nn.Module":
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        return nn.MaxPool2d(self.kernel, self.stride, self.kernel // 2)


@dataclass(frozen=True, kw_only=True)
class AveragePool(MaxPool):
    """The mean of kxk values of a channel."""

    kind: ClassVar[str] = "avgpool"
    form: ClassVar[str] = "avgpool_k{kernel}_s{stride}_i{in_channels}_h{height}_w{width}"

    def build(self) -> "nn.Module":
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        return nn.AvgPool2d(self.kernel, self.stride, self.kernel // 2, count_include_pad=False)


class MaxPoolCandidate(Candidate):
    """A max pool; `maxpool3` has kernel 3. It cannot change the number of channels."""

    family: ClassVar[str] = "max-pool"
    example: ClassVar[str] = "maxpool3"
    _op: ClassVar[type[MaxPool]] = MaxPool

    kernel: OddKernel

    @property
    def token(self) -> str:
        """The kind of pool and its kernel."""
        return f"{self._op.kind}{self.kernel}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(rf"{cls._op.kind}([1-9]?[13579])", token)
        return None if match is None else cls(kernel=int(match[1]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        if layer.in_channels != layer.out_channels:
            raise ValueError(
                f"a pool cannot turn {layer.in_channels} into {layer.out_channels} channels"
            )
        return self._op(**layer.shape, kernel=self.kernel)


class AveragePoolCandidate(MaxPoolCandidate):
    """An average pool; `avgpool3` has kernel 3. It cannot change the number of channels."""

    family: ClassVar[str] = "average-pool"
    example: ClassVar[str] = "avgpool3"
    _op: ClassVar[type[MaxPool]] = AveragePool
