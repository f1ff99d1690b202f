"""ShuffleNetV2's unit (Ma et al., ECCV 2018): channel split, two branches, concatenation, channel shuffle.

    shuffle_k3_s1_i116_o116_h28_w28      half of the channels pass, the other half take a branch
    shuffle_k3_s2_i24_o116_h56_w56       all channels take both branches

A branch is a 1x1, a depthwise and a 1x1 convolution; with a stride the second one lacks the first 1x1.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.opspec import Activation, OpSpec, Part, dense, depthwise, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ShuffleUnit(OpSpec):
    """One unit; with stride 1 it cannot change the number of channels."""

    kind: ClassVar[str] = "shuffle"
    form: ClassVar[str] = (
        "shuffle_k{kernel}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    activation: Activation = Activation.RELU

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_channels % 2:
            raise ValueError(f"half of {self.out_channels} channels is no whole number")
        if self.stride == 1 and self.in_channels != self.out_channels:
            raise ValueError(
                f"a shuffle unit of stride 1 cannot turn {self.in_channels} into {self.out_channels} channels"
            )

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 1, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        half = self.out_channels // 2
        inputs = half if self.stride == 1 else self.in_channels
        parts = [
            dense(inputs * half, inputs * before, half, before),
            depthwise(self.kernel, half, before, after),
            dense(half * half, half * after, half, after),
        ]
        if self.stride > 1:
            parts.append(depthwise(self.kernel, inputs, before, after))
            parts.append(dense(inputs * half, inputs * after, half, after))
        parts.append(moved(self.out_channels * after, self.out_channels * after))
        return tuple(parts)

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        half = self.out_channels // 2
        inputs = half if self.stride == 1 else self.in_channels
        branch = [
            *modules.conv_bn(inputs, half, activation=self.activation),
            *modules.conv_bn(half, half, self.kernel, self.stride, half),
            *modules.conv_bn(half, half, activation=self.activation),
        ]
        other: list[nn.Module] = []
        if self.stride > 1:
            other += modules.conv_bn(inputs, inputs, self.kernel, self.stride, inputs)
            other += modules.conv_bn(inputs, half, activation=self.activation)
        return modules.TwoBranches(nn.Sequential(*other), nn.Sequential(*branch), self.stride == 1)


class ShuffleCandidate(Candidate):
    """ShuffleNetV2's unit; `shuffle3` has kernel 3."""

    family: ClassVar[str] = "shuffle-unit"
    example: ClassVar[str] = "shuffle3"

    kernel: OddKernel
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """shuffle and the kernel."""
        return f"shuffle{self.kernel}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"shuffle([1-9]?[13579])", token)
        return None if match is None else cls(kernel=int(match[1]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return ShuffleUnit(**layer.shape, kernel=self.kernel, activation=self.activation)
