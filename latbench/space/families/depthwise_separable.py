"""Depthwise-separable convolutions (Howard et al., "MobileNets", arXiv:1704.04861), without a residual.

dws_k3_s2_i64_o128_h112_w112         depthwise and 1x1 convolution, each with BN and activation
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.opspec import Activation, OpSpec, Part, dense, depthwise

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class SeparableConvolution(OpSpec):
    """A depthwise and a 1x1 convolution, each with BN and activation."""

    kind: ClassVar[str] = "dws"
    form: ClassVar[str] = (
        "dws_k{kernel}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    activation: Activation = Activation.RELU

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 1, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        inputs, outputs = self.in_channels, self.out_channels
        return (
            depthwise(self.kernel, inputs, before, after),
            dense(inputs * outputs, inputs * after, outputs, after),
        )

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        inputs = self.in_channels
        return nn.Sequential(
            *modules.conv_bn(inputs, inputs, self.kernel, self.stride, inputs, self.activation),
            *modules.conv_bn(inputs, self.out_channels, activation=self.activation),
        )


class SeparableCandidate(Candidate):
    """A depthwise-separable convolution; `dw3` has kernel 3."""

    family: ClassVar[str] = "depthwise-separable"
    example: ClassVar[str] = "dw3"

    kernel: OddKernel
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """dw and the kernel."""
        return f"dw{self.kernel}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"dw([1-9]?[13579])", token)
        return None if match is None else cls(kernel=int(match[1]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return SeparableConvolution(**layer.shape, kernel=self.kernel, activation=self.activation)
