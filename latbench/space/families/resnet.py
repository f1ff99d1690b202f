"""ResNet's blocks (He et al., CVPR 2016): basic, and bottleneck with the stride on its kxk convolution.

    basic_k3_s2_i64_o128_h56_w56         two kxk convolutions
    bottle_k3_m64_s1_i256_o256_h56_w56   1x1 to 64 channels, kxk, and 1x1 convolution

The input, through a 1x1 convolution where the shape changes, is added before the last activation.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from latbench.record import Number
from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.channels import scaled_channels
from latbench.space.opspec import Activation, OpSpec, Part, dense, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class BasicBlock(OpSpec):
    """Two kxk convolutions with BN, the input added, and an activation."""

    kind: ClassVar[str] = "basic"
    form: ClassVar[str] = (
        "basic_k{kernel}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    activation: Activation = Activation.RELU

    @property
    def residual(self) -> bool:
        """Always: the input is added, through a 1x1 convolution where the shape changes."""
        return True

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 1, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    def _convolutions(self) -> tuple[tuple[int, int, int, int], ...]:
        """(input channels, output channels, kernel, stride) of each convolution."""
        return (
            (self.in_channels, self.out_channels, self.kernel, self.stride),
            (self.out_channels, self.out_channels, self.kernel, 1),
        )

    @property
    def _projects(self) -> bool:
        return self.stride > 1 or self.in_channels != self.out_channels

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        parts, pixels = [], before
        for inputs, outputs, kernel, stride in self._convolutions():
            then = after if stride > 1 else pixels
            parts.append(dense(inputs * outputs * kernel**2, inputs * pixels, outputs, then))
            pixels = then
        inputs, outputs = self.in_channels, self.out_channels
        if self._projects:
            parts.append(dense(inputs * outputs, inputs * before, outputs, after))
        parts.append(moved(2 * outputs * after, outputs * after))
        return tuple(parts)

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        *first, last = self._convolutions()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in first:
            layers += modules.conv_bn(inputs, outputs, kernel, stride, 1, self.activation)
        layers += modules.conv_bn(*last)
        projection = modules.conv_bn(self.in_channels, self.out_channels, 1, self.stride)
        return modules.ResidualUnit(
            nn.Sequential(*layers),
            nn.Sequential(*(projection if self._projects else ())),
            nn.Sequential(*modules.activation_of(self.activation)),
        )


@dataclass(frozen=True, kw_only=True)
class Bottleneck(BasicBlock):
    """A 1x1, a kxk and a 1x1 convolution with BN, the input added, and an activation."""

    kind: ClassVar[str] = "bottle"
    form: ClassVar[str] = (
        "bottle_k{kernel}_m{middle}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}"
        "[_{activation}]"
    )

    middle: int = 1

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """See `OpSpec.traits`; the expansion is that of the middle, in hundredths of the output."""
        return super().traits | {
            "expansion": (self.kind, round(100 * self.middle / self.out_channels))
        }

    def _convolutions(self) -> tuple[tuple[int, int, int, int], ...]:
        return (
            (self.in_channels, self.middle, 1, 1),
            (self.middle, self.middle, self.kernel, self.stride),
            (self.middle, self.out_channels, 1, 1),
        )


class BasicCandidate(Candidate):
    """ResNet's basic block; `basic3` has kernel 3."""

    family: ClassVar[str] = "resnet-basic"
    example: ClassVar[str] = "basic3"

    kernel: OddKernel
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """basic and the kernel."""
        return f"basic{self.kernel}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"basic([1-9]?[13579])", token)
        return None if match is None else cls(kernel=int(match[1]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return BasicBlock(**layer.shape, kernel=self.kernel, activation=self.activation)


class BottleneckCandidate(Candidate):
    """ResNet's bottleneck; `bottle3r0.25` has kernel 3 and a quarter of its output's channels in the middle.

    The channels in the middle are rounded to a multiple of 8.
    """

    family: ClassVar[str] = "resnet-bottleneck"
    example: ClassVar[str] = "bottle3r0.25"

    kernel: OddKernel
    ratio: Number = Field(gt=0, le=4)
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """bottle, the kernel, r and the ratio."""
        return f"bottle{self.kernel}r{self.ratio:g}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"bottle([1-9]?[13579])r([1-4]|[0-3]\.\d{0,3}[1-9])", token)
        return None if match is None else cls(kernel=int(match[1]), ratio=float(match[2]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return Bottleneck(
            **layer.shape,
            kernel=self.kernel,
            middle=scaled_channels(layer.out_channels, self.ratio),
            activation=self.activation,
        )
