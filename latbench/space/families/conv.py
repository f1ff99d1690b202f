"""Convolution, BN and activation: blocks, stems, heads, and the frames of sandwiches.

conv_k3_g1_s2_i16_o24_h56_w56        a block of one convolution
stem_k3_s2_i3_o16_h224_w224          the first convolution
head_i352_o1984_h7_w7                the last 1x1 convolution
frame_i16_h112_w112                  a 1x1 convolution and BN next to an op in its sandwich
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from latbench.record import Integer
from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.opspec import TIMM_ACTIVATIONS, Activation, OpSpec, Part, TimmWords, dense

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Convolution(OpSpec):
    """One convolution (groups g), BN and activation."""

    kind: ClassVar[str] = "conv"
    form: ClassVar[str] = (
        "conv_k{kernel}_g{groups}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}"
        "[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    activation: Activation = Activation.RELU

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{self.groups} groups do not divide {self.in_channels} and {self.out_channels} channels"
            )

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 0, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    @property
    def timm(self) -> TimmWords:
        """See `OpSpec.timm`; timm's `cn` has no groups."""
        rest = f"_c{self.out_channels}{TIMM_ACTIVATIONS.get(self.activation, '')}"
        lacking = ["convolutions in groups"] if self.groups > 1 else []
        if self.activation not in TIMM_ACTIVATIONS:
            lacking.append("a convolution without an activation")
        return TimmWords("cn", f"k{self.kernel}", rest, tuple(lacking))

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        weights = self.in_channels * self.out_channels * self.kernel**2 // self.groups
        return (dense(weights, self.in_channels * before, self.out_channels, after),)

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
class Stem(Convolution):
    """The first convolution of a network."""

    kind: ClassVar[str] = "stem"
    form: ClassVar[str] = (
        "stem_k{kernel}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = False
    framed: ClassVar[tuple[bool, bool]] = (False, True)


@dataclass(frozen=True, kw_only=True)
class Head(Convolution):
    """The last 1x1 convolution, before the pool."""

    kind: ClassVar[str] = "head"
    form: ClassVar[str] = "head_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    is_block: ClassVar[bool] = False
    framed: ClassVar[tuple[bool, bool]] = (True, False)


@dataclass(frozen=True, kw_only=True)
class Frame(Convolution):
    """A 1x1 convolution that keeps the channels, next to an op in its sandwich."""

    kind: ClassVar[str] = "frame"
    form: ClassVar[str] = "frame_i{in_channels}_h{height}_w{width}"
    is_block: ClassVar[bool] = False
    framed: ClassVar[tuple[bool, bool]] = (False, False)

    activation: Activation = Activation.NONE


class ConvolutionCandidate(Candidate):
    """One convolution, BN and activation; `conv3` has kernel 3, `conv3g2` two groups."""

    family: ClassVar[str] = "conv"
    example: ClassVar[str] = "conv3"

    kernel: OddKernel
    groups: Integer = Field(default=1, ge=1)
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """conv, the kernel, and g and the groups if there are several."""
        return f"conv{self.kernel}" + (f"g{self.groups}" if self.groups > 1 else "")

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"conv([1-9]?[13579])(?:g([2-9]|[1-9][0-9]))?", token)
        if match is None:
            return None
        groups = {"groups": int(match[2])} if match[2] else {}
        return cls(kernel=int(match[1]), **groups)

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return Convolution(
            **layer.shape, kernel=self.kernel, groups=self.groups, activation=self.activation
        )
