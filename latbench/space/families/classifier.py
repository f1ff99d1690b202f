"""What turns features into logits: the global average pool, and linear layers.

pool_i1984_h7_w7                     global average pool
hidden_i960_o1280_hswish             fully connected layer with bias and activation, after the pool
classifier_i1984_o1000               fully connected layer with bias
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from latbench.space.opspec import Activation, OpSpec, Part, linear, moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Pool(OpSpec):
    """Global average pool: (N, C, H, W) to (N, C)."""

    kind: ClassVar[str] = "pool"
    form: ClassVar[str] = "pool_i{in_channels}_h{height}_w{width}"
    framed: ClassVar[tuple[bool, bool]] = (False, False)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(N, C)."""
        return (self.batch, self.out_channels)

    def _parts(self) -> tuple[Part, ...]:
        return (moved(math.prod((self.in_channels, self.height, self.width)), self.in_channels),)

    def build(self) -> "nn.Module":
        """Map (N, C, H, W) to (N, C)."""
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@dataclass(frozen=True, kw_only=True)
class Classifier(OpSpec):
    """A fully connected layer with bias: (N, in_channels) to (N, classes)."""

    kind: ClassVar[str] = "classifier"
    form: ClassVar[str] = "classifier_i{in_channels}_o{out_channels}"
    framed: ClassVar[tuple[bool, bool]] = (False, False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(N, in_channels)."""
        return (self.batch, self.in_channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(N, classes)."""
        return (self.batch, self.out_channels)

    def _parts(self) -> tuple[Part, ...]:
        return (linear(self.in_channels, self.out_channels),)

    def build(self) -> "nn.Module":
        """Map (N, in_channels) to (N, out_channels)."""
        from torch import nn

        return nn.Linear(self.in_channels, self.out_channels)


@dataclass(frozen=True, kw_only=True)
class Hidden(Classifier):
    """A fully connected layer and activation between pool and classifier.

    It has a bias (MobileNetV3), or with `norm` a BN in place of it (MobileNetV4).
    """

    kind: ClassVar[str] = "hidden"
    form: ClassVar[str] = "hidden_i{in_channels}_o{out_channels}[_norm?norm][_{activation}]"

    norm: bool = False
    activation: Activation = Activation.RELU

    def _parts(self) -> tuple[Part, ...]:
        (part,) = super()._parts()
        return (replace(part, extras=2 * self.out_channels) if self.norm else part,)

    def build(self) -> "nn.Module":
        """Map (N, in_channels) to (N, out_channels)."""
        from torch import nn

        from latbench.space import modules

        layer = nn.Linear(self.in_channels, self.out_channels, bias=not self.norm)
        norm = [nn.BatchNorm1d(self.out_channels)] if self.norm else []
        return nn.Sequential(layer, *norm, *modules.activation_of(self.activation))
