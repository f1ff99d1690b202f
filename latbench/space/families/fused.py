"""Fused inverted residuals (EdgeTPU; Tan and Le, "EfficientNetV2", ICML 2021).

fir_k3_e4_s2_i24_o48_h56_w56         a kxk convolution that expands, and a 1x1
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from latbench.record import PositiveNumber
from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.channels import expanded_channels, settled_middle
from latbench.space.opspec import Activation, OpSpec, Part, dense, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class FusedResidual(OpSpec):
    """A kxk convolution to `middle` channels, and a 1x1 convolution."""

    kind: ClassVar[str] = "fir"
    form: ClassVar[str] = (
        "fir_k{kernel}[_e{expansion}][_m{width_between}]_s{stride}_i{in_channels}_o{out_channels}"
        "_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    expansion: int = 0
    width_between: int = 0
    activation: Activation = Activation.RELU

    def __post_init__(self) -> None:
        super().__post_init__()
        expansion, width = settled_middle(self.in_channels, self.expansion, self.width_between)
        object.__setattr__(self, "expansion", expansion)
        object.__setattr__(self, "width_between", width)

    @property
    def middle(self) -> int:
        """Channels between the convolutions."""
        return self.width_between or self.in_channels * self.expansion

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output: stride 1 and equal channels."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """See `OpSpec.traits`."""
        expansion = self.expansion or round(self.middle / self.in_channels)
        return super().traits | {"expansion": (self.kind, expansion)}

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 1, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        inputs, middle, outputs = self.in_channels, self.middle, self.out_channels
        parts = [
            dense(inputs * middle * self.kernel**2, inputs * before, middle, after),
            dense(middle * outputs, middle * after, outputs, after),
        ]
        if self.residual:
            parts.append(moved(2 * outputs * after, outputs * after))
        return tuple(parts)

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        first = modules.conv_bn(
            self.in_channels, self.middle, self.kernel, self.stride, activation=self.activation
        )
        last = modules.conv_bn(self.middle, self.out_channels)
        return modules.Block(nn.Sequential(*first, *last), self.residual)


class FusedCandidate(Candidate):
    """A fused inverted residual; `f3e4` has kernel 3 and expansion 4."""

    family: ClassVar[str] = "fused"
    example: ClassVar[str] = "f3e4"

    kernel: OddKernel
    expansion: PositiveNumber
    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """f, the kernel, e and the expansion."""
        return f"f{self.kernel}e{self.expansion:g}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"f([1-9]?[13579])e([1-9]\d?(?:\.\d*[1-9])?)", token)
        if match is None:
            return None
        return cls(kernel=int(match[1]), expansion=float(match[2]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return FusedResidual(
            **layer.shape,
            kernel=self.kernel,
            width_between=expanded_channels(layer.in_channels, self.expansion),
            activation=self.activation,
        )
