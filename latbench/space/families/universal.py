"""MobileNetV4's universal inverted bottleneck (Qin et al., ECCV 2024), all four kinds.

    uib_a5_b3_e4_s2_i96_o128_h28_w28     extra depthwise: 5x5 before, and 3x3 after the first 1x1
    uib_b3_e4_s1_i96_o96_h14_w14         inverted bottleneck: only the one after it
    uib_a3_e4_s1_i96_o96_h14_w14         ConvNext: only the one before it
    uib_e4_s1_i96_o96_h14_w14            feed-forward network: none

The depthwise convolution before has no activation. The stride is that of the one after, if there is one.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from latbench.record import Integer, PositiveNumber
from latbench.space.candidate import Candidate, Layer
from latbench.space.channels import expanded_channels, settled_middle
from latbench.space.opspec import Activation, OpSpec, Part, dense, depthwise, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class UniversalBottleneck(OpSpec):
    """Depthwise, 1x1, depthwise, 1x1; `before` and `after` are kernels, 0 for none."""

    kind: ClassVar[str] = "uib"
    form: ClassVar[str] = (
        "uib[_a{before}][_b{after}][_e{expansion}][_m{width_between}]_s{stride}_i{in_channels}"
        "_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = True

    before: int = 0
    after: int = 0
    expansion: int = 0
    width_between: int = 0
    activation: Activation = Activation.RELU

    def __post_init__(self) -> None:
        super().__post_init__()
        expansion, width = settled_middle(self.in_channels, self.expansion, self.width_between)
        object.__setattr__(self, "expansion", expansion)
        object.__setattr__(self, "width_between", width)
        if self.stride > 1 and not (self.before or self.after):
            raise ValueError("a stride needs a depthwise convolution")
        object.__setattr__(self, "kernel", max(self.before, self.after, 1))

    @property
    def middle(self) -> int:
        """Channels between the 1x1 convolutions."""
        return self.width_between or self.in_channels * self.expansion

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output: stride 1 and equal channels."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """See `OpSpec.traits`."""
        expansion = self.expansion or round(self.middle / self.in_channels)
        return super().traits | {
            "expansion": (self.kind, expansion),
            "kernel": (self.before, self.after),
        }

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        inputs, middle, outputs = self.in_channels, self.middle, self.out_channels
        parts, pixels = [], before
        if self.before:
            pixels = before if self.after else after
            parts.append(depthwise(self.before, inputs, before, pixels))
        parts.append(dense(inputs * middle, inputs * pixels, middle, pixels))
        if self.after:
            parts.append(depthwise(self.after, middle, pixels, after))
        parts.append(dense(middle * outputs, middle * after, outputs, after))
        if self.residual:
            parts.append(moved(2 * outputs * after, outputs * after))
        return tuple(parts)

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        inputs, middle = self.in_channels, self.middle
        layers: list[nn.Module] = []
        if self.before:
            stride = 1 if self.after else self.stride
            layers += modules.conv_bn(inputs, inputs, self.before, stride, inputs)
        layers += modules.conv_bn(inputs, middle, activation=self.activation)
        if self.after:
            layers += modules.conv_bn(
                middle, middle, self.after, self.stride, middle, self.activation
            )
        layers += modules.conv_bn(middle, self.out_channels)
        return modules.Block(nn.Sequential(*layers), self.residual)


class UniversalCandidate(Candidate):
    """A universal inverted bottleneck; `u5x3e4` has depthwise 5x5 before and 3x3 after, expansion 4.

    Attributes:
        before, after: kernels of the depthwise convolutions; 0 for none.
        expansion: how many times the input's channels are in the middle; no whole number is rounded to a
            multiple of 8.
        activation: what the block uses.
    """

    family: ClassVar[str] = "universal"
    example: ClassVar[str] = "u5x3e4"

    before: Integer = Field(default=0, ge=0, le=63)
    after: Integer = Field(default=0, ge=0, le=63)
    expansion: PositiveNumber
    activation: Activation = Activation.RELU

    @model_validator(mode="after")
    def _odd(self) -> Self:
        for name in ("before", "after"):
            kernel = getattr(self, name)
            if kernel and kernel % 2 == 0:
                raise ValueError(f"{name} must be odd, or 0 for none, got {kernel}")
        return self

    @property
    def token(self) -> str:
        """u, both kernels, e and the expansion."""
        return f"u{self.before}x{self.after}e{self.expansion:g}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = re.fullmatch(r"u(0|[13579])x(0|[13579])e([1-9]\d?(?:\.\d*[1-9])?)", token)
        if match is None:
            return None
        return cls(before=int(match[1]), after=int(match[2]), expansion=float(match[3]))

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        return UniversalBottleneck(
            **layer.shape,
            before=self.before,
            after=self.after,
            width_between=expanded_channels(layer.in_channels, self.expansion),
            activation=self.activation,
        )
