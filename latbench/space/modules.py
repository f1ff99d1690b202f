"""The PyTorch modules that families of ops are built from.

Modules are registered in the order their layers run, so parameters line up with other FBNet
implementations that do the same (timm's fbnetc_100, for one). A class keeps the arguments that build it as
`arguments`, and needs nothing of latbench: `fbnet_search.training.standalone` copies it.
"""

import torch
from torch import Tensor, nn

from latbench.space.opspec import Activation, Gate


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups (Zhang et al., ShuffleNet, CVPR 2018).

    Maps (N, C, H, W) to (N, C, H, W); C must be a multiple of `groups`.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.arguments = (groups,)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with channel g * (C / groups) + c moved to c * groups + g."""
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = Activation.NONE,
) -> list[nn.Module]:
    """The modules of a convolution with 'same' padding, its BN, and its activation."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(out_channels), *activation_of(activation)]


def activation_of(activation: Activation) -> list[nn.Module]:
    """The module of an activation; none for `Activation.NONE`."""
    match activation:
        case Activation.RELU:
            return [nn.ReLU(inplace=True)]
        case Activation.RELU6:
            return [nn.ReLU6(inplace=True)]
        case Activation.HARD_SWISH:
            return [nn.Hardswish(inplace=True)]
        case Activation.SILU:
            return [nn.SiLU(inplace=True)]
        case Activation.NONE:
            return []


class SqueezeExcite(nn.Module):
    """Scale each channel by a factor from the means of all channels (Hu et al., CVPR 2018).

    Maps (N, C, H, W) to (N, C, H, W).
    """

    def __init__(self, channels: int, squeezed: int, between: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.arguments = (channels, squeezed, between, gate)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.between = between
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the factors."""
        factors: Tensor = self.gate(self.expand(self.between(self.reduce(self.pool(x)))))
        return x * factors


def squeeze_excite(
    channels: int, squeezed: int, gate: Gate, activation: Activation
) -> SqueezeExcite:
    """Squeeze-and-excitation with a gate, and an activation between its layers."""
    factors = nn.Sigmoid() if gate is Gate.SIGMOID else nn.Hardsigmoid()
    (between,) = activation_of(activation) or [nn.Identity()]
    return SqueezeExcite(channels, squeezed, between, factors)


class Block(nn.Module):
    """Layers in sequence, plus the input if `residual`."""

    def __init__(self, layers: nn.Sequential, residual: bool) -> None:
        super().__init__()
        self.arguments = (layers, residual)
        self.layers = layers
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to what the layers make of it, plus `x` if `residual`."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y

    @property
    def last_norm(self) -> nn.BatchNorm2d | None:
        """The BN that ends the layers before the input is added; None where nothing is added."""
        last = self.layers[-1]
        return last if self.residual and isinstance(last, nn.BatchNorm2d) else None


class ResidualUnit(nn.Module):
    """Layers in sequence, plus the input through a shortcut, which may be empty; then an activation."""

    def __init__(
        self, layers: nn.Sequential, shortcut: nn.Sequential, activation: nn.Sequential
    ) -> None:
        super().__init__()
        self.arguments = (layers, shortcut, activation)
        self.layers = layers
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the activation of the sum."""
        y: Tensor = self.activation(self.layers(x) + self.shortcut(x))
        return y

    @property
    def last_norm(self) -> nn.BatchNorm2d | None:
        """The BN that ends the layers before the shortcut is added."""
        last = self.layers[-1]
        return last if isinstance(last, nn.BatchNorm2d) else None


class TwoBranches(nn.Module):
    """Two branches, concatenated, and their channels interleaved.

    With `splits`, each takes half of the channels; otherwise both take all.
    """

    def __init__(self, first: nn.Sequential, second: nn.Sequential, splits: bool) -> None:
        super().__init__()
        self.arguments = (first, second, splits)
        self.first = first
        self.second = second
        self.splits = splits

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the interleaved outputs of both branches."""
        one, other = x.chunk(2, 1) if self.splits else (x, x)
        y = torch.cat((self.first(one), self.second(other)), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
