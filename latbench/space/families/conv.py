"""Convolution, BN and activation: stems, heads, projections of skips, frames, and blocks of their own.

stem_k3_s2_i3_o16_h224_w224          the first convolution
head_i352_o1984_h7_w7                the last 1x1 convolution
skip_s2_i16_o24_h112_w112            the projection of a skip where the shape changes
frame_i16_h112_w112                  a 1x1 convolution and BN next to an op in its sandwich
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from latbench.space.opspec import TIMM_ACTIVATIONS, Activation, OpSpec, Part, TimmWords, dense

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class _Convolution(OpSpec):
    """One convolution (groups g), BN and activation."""

    activation: Activation = Activation.RELU

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        weights = self.in_channels * self.out_channels * self.kernel**2 // self.groups
        return (dense(weights, self.in_channels * before, self.out_channels, after),)

    @property
    def timm(self) -> TimmWords:
        """See `OpSpec.timm`; timm's `cn` has no groups."""
        rest = f"_c{self.out_channels}{TIMM_ACTIVATIONS.get(self.activation, '')}"
        lacking = ["convolutions in groups"] if self.groups > 1 else []
        if self.activation not in TIMM_ACTIVATIONS:
            lacking.append("a convolution without an activation")
        return TimmWords("cn", f"k{self.kernel}", rest, tuple(lacking))

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        return nn.Sequential(
            *modules.conv_bn(
                self.in_channels,
                self.out_channels,
                self.kernel,
                self.stride,
                self.groups,
                self.activation,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Stem(_Convolution):
    """The first convolution of a network."""

    kind: ClassVar[str] = "stem"
    form: ClassVar[str] = (
        "stem_k{kernel}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    framed: ClassVar[tuple[bool, bool]] = (False, True)


@dataclass(frozen=True, kw_only=True)
class Projection(_Convolution):
    """What takes the place of a skip where the shape changes: a 1x1 convolution."""

    kind: ClassVar[str] = "skip"
    form: ClassVar[str] = (
        "skip_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )


@dataclass(frozen=True, kw_only=True)
class Head(_Convolution):
    """The last 1x1 convolution, before the pool."""

    kind: ClassVar[str] = "head"
    form: ClassVar[str] = "head_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    framed: ClassVar[tuple[bool, bool]] = (True, False)


@dataclass(frozen=True, kw_only=True)
class Frame(_Convolution):
    """A 1x1 convolution that keeps the channels, next to an op in its sandwich."""

    kind: ClassVar[str] = "frame"
    form: ClassVar[str] = "frame_i{in_channels}_h{height}_w{width}"
    framed: ClassVar[tuple[bool, bool]] = (False, False)

    activation: Activation = Activation.NONE
