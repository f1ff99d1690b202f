"""Inverted residuals (Sandler et al., "MobileNetV2", CVPR 2018), as FBNet has them (Wu et al., CVPR 2019).

    ir_k5_e6_g1_s2_i24_o32_h56_w56       1x1, depthwise and 1x1 convolution, plus the input where it fits
    ir_k3sep_e6_g1_s1_i32_o32_h28_w28    the same with two depthwise 3x3 in place of one 5x5
    ds_k3_g1_s1_i16_o16_h112_w112        without the first 1x1 (depthwise-separable)

e is the expansion: the depthwise convolution has e times the input's channels. `_m72` in its place gives
them directly. `_se24` is squeeze-and-excitation (Hu et al., CVPR 2018) of 24 channels after the depthwise
convolution, with a hard sigmoid unless `_sigmoid` follows, and a ReLU inside unless `_asilu` follows.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latbench.record import Integer, Number
from latbench.space.candidate import Candidate, Layer, OddKernel
from latbench.space.channels import expanded_channels, scaled_channels, settled_middle
from latbench.space.opspec import (
    TIMM_ACTIVATIONS,
    Activation,
    Gate,
    OpSpec,
    Part,
    TimmWords,
    dense,
    depthwise,
    linear,
    moved,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(OpSpec):
    """A depthwise and a 1x1 convolution (groups g), plus the input where stride is 1 and channels match.

    With groups, the channels are shuffled before the depthwise convolution.
    """

    kind: ClassVar[str] = "ds"
    form: ClassVar[str] = (
        "ds_k{kernel}[sep?separable]_g{groups}_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}"
        "[_se{se}][_{gate}][_a{se_activation}][_{activation}]"
    )
    is_block: ClassVar[bool] = True

    separable: bool = False
    se: int = 0
    gate: Gate = Gate.HARD_SIGMOID
    se_activation: Activation = Activation.RELU
    activation: Activation = Activation.RELU

    @property
    def middle(self) -> int:
        """Channels of the depthwise convolution."""
        return self.in_channels

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output: stride 1 and equal channels."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """See `OpSpec.traits`."""
        return super().traits | {"kernel": (self.kernel, self.separable)}

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        kernels = range(self.kernel - 2, 1, -2)
        return (tuple((f"k{kernel}", replace(self, kernel=kernel)) for kernel in kernels),)

    @property
    def timm(self) -> TimmWords:
        """See `OpSpec.timm`."""
        rest = f"{self._timm_expansion}_c{self.out_channels}"
        lacking = {
            "1x1 convolutions in groups": self.groups > 1,
            "two depthwise convolutions": self.separable,
            "a block without an activation": self.activation not in TIMM_ACTIVATIONS,
            "squeeze-and-excitation of so many channels": self.se > 0,
            "an expansion that is no whole number": "?" in rest,
        }
        return TimmWords(
            self.kind,
            f"k{self.kernel}",
            rest + TIMM_ACTIVATIONS.get(self.activation, ""),
            tuple(what for what, lacks in lacking.items() if lacks),
        )

    @property
    def _timm_expansion(self) -> str:
        return "_e1"

    def _first(self) -> tuple[Part, ...]:
        """What is before the depthwise convolution."""
        return ()

    def _parts(self) -> tuple[Part, ...]:
        before, after = self.pixels
        middle, outputs = self.middle, self.out_channels
        parts = [*self._first()]
        pixels = before
        for kernel in self._kernels:
            parts.append(depthwise(kernel, middle, pixels, after))
            pixels = after
        if self.se:
            parts.append(moved(middle * after, middle))
            parts.append(linear(middle, self.se))
            parts.append(linear(self.se, middle))
            parts.append(moved(middle * after + middle, middle * after))
        parts.append(dense(middle * outputs // self.groups, middle * after, outputs, after))
        if self.residual:
            parts.append(moved(2 * outputs * after, outputs * after))
        return tuple(parts)

    @property
    def _kernels(self) -> tuple[int, ...]:
        return (3, 3) if self.separable else (self.kernel,)

    def build(self) -> "nn.Module":
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        from torch import nn

        from latbench.space import modules

        layers = self._first_layers()
        if self.groups > 1:
            layers.append(modules.ChannelShuffle(self.groups))
        for number, kernel in enumerate(self._kernels):
            stride = 1 if number else self.stride
            layers += modules.conv_bn(
                self.middle, self.middle, kernel, stride, self.middle, self.activation
            )
        if self.se:
            layers.append(
                modules.squeeze_excite(self.middle, self.se, self.gate, self.se_activation)
            )
        layers += modules.conv_bn(self.middle, self.out_channels, groups=self.groups)
        return modules.Block(nn.Sequential(*layers), self.residual)

    def _first_layers(self) -> "list[nn.Module]":
        return []


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(DepthwiseSeparable):
    """A 1x1 (groups g), a depthwise and a 1x1 convolution (groups g), plus the input where it fits.

    `expansion` is 0 where `width_between` gives the channels between the 1x1 convolutions. A multiple of the
    input's channels becomes an expansion.
    """

    kind: ClassVar[str] = "ir"
    form: ClassVar[str] = (
        "ir_k{kernel}[sep?separable][_e{expansion}][_m{width_between}]_g{groups}_s{stride}_i{in_channels}"
        "_o{out_channels}_h{height}_w{width}[_se{se}][_{gate}][_a{se_activation}][_{activation}]"
    )

    expansion: int = 0
    width_between: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        expansion, width = settled_middle(self.in_channels, self.expansion, self.width_between)
        object.__setattr__(self, "expansion", expansion)
        object.__setattr__(self, "width_between", width)

    @property
    def middle(self) -> int:
        """Channels of the depthwise convolution."""
        return self.width_between or self.in_channels * self.expansion

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """See `OpSpec.traits`; a width that is no multiple counts as the nearest expansion."""
        expansion = self.expansion or round(self.middle / self.in_channels)
        return super().traits | {"expansion": (self.kind, expansion)}

    @property
    def lesser(self) -> tuple[tuple[tuple[str, OpSpec], ...], ...]:
        """See `OpSpec.lesser`."""
        expansions = range(self.expansion - 1, 0, -1)
        return (
            *super().lesser,
            tuple(
                (f"e{expansion}", replace(self, expansion=expansion)) for expansion in expansions
            ),
        )

    @property
    def _timm_expansion(self) -> str:
        return f"_e{self.expansion or '?'}"

    def _first(self) -> tuple[Part, ...]:
        before, _ = self.pixels
        weights = self.in_channels * self.middle // self.groups
        first = dense(weights, self.in_channels * before, self.middle, before)
        if self.groups == 1:
            return (first,)
        return first, moved(self.middle * before, self.middle * before)

    def _first_layers(self) -> "list[nn.Module]":
        from latbench.space import modules

        return modules.conv_bn(
            self.in_channels, self.middle, groups=self.groups, activation=self.activation
        )


class InvertedResidualCandidate(Candidate):
    """An inverted residual; `k5e3g2` has kernel 5, expansion 3 and two groups, `k3m72` 72 channels between.

    Attributes:
        kernel: of the depthwise convolution.
        expansion, middle: how many times the input's channels the depthwise convolution has, rounded to a
            multiple of 8 if it is no whole number; or its channels.
        groups: of both 1x1 convolutions.
        separable: two depthwise 3x3 in place of one convolution.
        se, se_of: channels of squeeze-and-excitation relative to those in the middle or at the input.
        se_multiple: what these channels are rounded to; 1 for the nearest whole number.
        gate, se_activation: what squeeze-and-excitation uses.
        activation: what the block uses.
        keeps_first_1x1: whether a block of expansion 1 keeps its first 1x1 convolution.
    """

    family: ClassVar[str] = "inverted-residual"
    example: ClassVar[str] = "k3e6"

    kernel: OddKernel
    expansion: Number | None = Field(default=None, gt=0, le=99)
    middle: Integer | None = Field(default=None, ge=1, le=99999)
    groups: Integer = Field(default=1, ge=1, le=999)
    separable: bool = False
    se: Number = Field(default=0.0, ge=0, le=1)
    se_of: Literal["middle", "input"] = "middle"
    se_multiple: Literal[1, 8] = 8
    gate: Gate = Gate.HARD_SIGMOID
    se_activation: Activation = Activation.RELU
    activation: Activation = Activation.RELU
    keeps_first_1x1: bool = True

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        if (self.expansion is None) == (self.middle is None):
            raise ValueError("must have either expansion or middle")
        return self

    @property
    def token(self) -> str:
        """k and the kernel; e and the expansion, or m and the width; g and the groups; sep."""
        width = f"m{self.middle}" if self.expansion is None else f"e{self.expansion:g}"
        groups = f"g{self.groups}" if self.groups > 1 else ""
        return f"k{self.kernel}{width}{groups}{'sep' if self.separable else ''}"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        given: dict[str, Any] = {"kernel": int(match[1])}
        if match[2]:
            given["expansion"] = float(match[2])
        else:
            given["middle"] = int(match[3])
        if match[4]:
            given["groups"] = int(match[4])
        if match[5]:
            given["separable"] = True
        return cls(**given)

    def op(self, layer: Layer) -> OpSpec:
        """See `Candidate.op`."""
        middle = self.middle or expanded_channels(layer.in_channels, self.expansion or 1)
        for channels in (layer.in_channels, middle, layer.out_channels):
            if channels % self.groups:
                raise ValueError(f"{self.groups} groups do not divide {channels} channels")
        squeezed = middle if self.se_of == "middle" else layer.in_channels
        given: dict[str, Any] = {
            **layer.shape,
            "kernel": self.kernel,
            "groups": self.groups,
            "separable": self.separable,
            "se": self._squeezed(squeezed),
            "gate": self.gate,
            "se_activation": self.se_activation,
            "activation": self.activation,
        }
        if middle == layer.in_channels and not self.keeps_first_1x1:
            return DepthwiseSeparable(**given)
        return InvertedResidual(width_between=middle, **given)

    def _squeezed(self, channels: int) -> int:
        if not self.se:
            return 0
        if self.se_multiple == 1:
            return max(1, round(channels * self.se))
        return scaled_channels(channels, self.se)


_TOKEN = re.compile(
    r"k([1-9]?[13579])(?:e([1-9]\d?(?:\.\d*[1-9])?)|m([1-9]\d{0,4}))(?:g([2-9]|[1-9]\d))?(sep)?"
)
