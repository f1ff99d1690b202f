"""Blocks of other search spaces than FBNet's, as their own code writes them, for the tests of exports."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: nn.Module | None = None,
    dilation: int = 1,
) -> nn.Sequential:
    """A convolution that keeps the size at stride 1, BN, and an activation."""
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = tuple(dilation * (side - 1) // 2 for side in sides)
    conv = nn.Conv2d(
        inputs, outputs, sides, stride, padding, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(
        conv, nn.BatchNorm2d(outputs), nn.Identity() if activation is None else activation
    )


class SqueezeExcite(nn.Module):
    """MobileNetV3's gate, of convolutions: (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, middle: int, gate: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.reduce(self.pool(x)))
        gated: Tensor = x * self.gate(self.expand(y))
        return gated


class LinearSqueezeExcite(nn.Module):
    """The original gate, of linear layers, with views and an expanded gate."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, middle),
            nn.ReLU(inplace=True),
            nn.Linear(middle, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        y = self.layers(x.mean((2, 3))).view(n, c, 1, 1)
        return x * y.expand_as(x)


class InvertedResidual(nn.Module):
    """MobileNetV3's block: expansion, depthwise, squeeze-and-excitation, projection."""

    def __init__(
        self,
        channels: int,
        middle: int,
        kernel: int,
        activation: Callable[[], nn.Module],
        gate: nn.Module | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        layers = [
            conv_bn(channels, middle, activation=activation()),
            conv_bn(middle, middle, kernel, stride, groups=middle, activation=activation()),
        ]
        if gate is not None:
            layers.append(SqueezeExcite(middle, middle // 4, gate))
        self.layers = nn.Sequential(*layers, conv_bn(middle, channels))
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Bottleneck(nn.Module):
    """ResNet's block, with a projection where the shape changes; the ReLU follows the sum."""

    def __init__(self, channels: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv_bn(channels, middle, activation=nn.ReLU(inplace=True)),
            conv_bn(middle, middle, 3, stride, activation=nn.ReLU(inplace=True)),
            conv_bn(middle, outputs),
        )
        changes = stride > 1 or channels != outputs
        self.shortcut = conv_bn(channels, outputs, 1, stride) if changes else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        y += self.shortcut(x)
        z: Tensor = self.relu(y)
        return z


def shuffled(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's shuffle, as its own code writes it."""
    n, c, h, w = x.size()
    x = x.view(n, groups, c // groups, h, w)
    return torch.transpose(x, 1, 2).contiguous().view(n, -1, h, w)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit: a half of the channels passes, or at stride 2 both branches take all."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, outputs // 2
        given = channels if stride > 1 else half
        self.branch = nn.Sequential(
            conv_bn(given, half, activation=nn.ReLU(inplace=True)),
            conv_bn(half, half, 3, stride, groups=half),
            conv_bn(half, half, activation=nn.ReLU(inplace=True)),
        )
        self.passing = nn.Sequential(
            conv_bn(channels, channels, 3, stride, groups=channels),
            conv_bn(channels, half, activation=nn.ReLU(inplace=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            parts = (self.passing(x), self.branch(x))
        else:
            passing, other = x.chunk(2, dim=1)
            parts = (passing, self.branch(other))
        return shuffled(torch.cat(parts, dim=1), 2)


class UniversalInvertedBottleneck(nn.Module):
    """MobileNetV4's block: optional depthwise convolutions before and after the expansion."""

    def __init__(self, channels: int, middle: int, first: int, second: int) -> None:
        super().__init__()
        layers = [conv_bn(channels, channels, first, groups=channels)] if first else []
        layers.append(conv_bn(channels, middle, activation=nn.ReLU()))
        if second:
            layers.append(conv_bn(middle, middle, second, groups=middle, activation=nn.ReLU()))
        self.layers = nn.Sequential(*layers, conv_bn(middle, channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y + x


class WrittenOut(nn.Module):
    """Hard-swish as code older than PyTorch's own writes it, and a gate of that kind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.gate = conv_bn(channels, channels, 3), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y * functional.relu6(y + 3.0, inplace=True) / 6.0
        return y * (functional.relu6(self.gate(y) + 3.0) / 6.0)


class Branches(nn.Module):
    """Values that several nodes read: a ReLU beside its own input, three terms, unequal parts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, channels, 1), conv_bn(channels, channels, 3)
        self.norm = nn.BatchNorm2d(channels)
        self.size = channels // 4

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y = y + functional.relu(y) + self.two(x)
        first, second = y.split([self.size, y.shape[1] - self.size], dim=1)
        return self.norm(torch.cat((second, y, first), dim=1)[:, : y.shape[1]]) * 0.5


class LastPool(nn.Module):
    """A classifier without its own pooling module."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, classes), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(x.mean(3).mean(2))
        return y


@dataclass(frozen=True)
class Case:
    """A module and the shape of one of its inputs."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (16, 14, 14)


CASES: dict[str, Case] = {
    "inverted residual with hard-swish and gate": Case(
        lambda: InvertedResidual(16, 64, 5, nn.Hardswish, nn.Hardsigmoid())
    ),
    "inverted residual with SiLU and sigmoid": Case(
        lambda: InvertedResidual(16, 64, 3, nn.SiLU, nn.Sigmoid())
    ),
    "inverted residual with ReLU6 at stride 2": Case(
        lambda: InvertedResidual(16, 64, 3, lambda: nn.ReLU6(inplace=True), stride=2)
    ),
    "gate of linear layers": Case(
        lambda: nn.Sequential(conv_bn(16, 16, 3), LinearSqueezeExcite(16, 8))
    ),
    "bottleneck": Case(lambda: Bottleneck(16, 8, 16, 1)),
    "bottleneck with projection": Case(lambda: Bottleneck(16, 8, 32, 2)),
    "shuffle units": Case(lambda: nn.Sequential(ShuffleUnit(16, 16, 1), ShuffleUnit(16, 32, 2))),
    "stem with maximum": Case(
        lambda: nn.Sequential(
            conv_bn(3, 16, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, stride=2, padding=1)
        ),
        (3, 32, 32),
    ),
    "maximum of signed values": Case(
        lambda: nn.Sequential(conv_bn(16, 16), nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)))
    ),
    "average with its padding": Case(lambda: nn.Sequential(conv_bn(16, 16), nn.AvgPool2d(3, 2, 1))),
    "average without its padding": Case(
        lambda: nn.Sequential(
            conv_bn(16, 16),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        )
    ),
    "adaptive average": Case(lambda: nn.Sequential(conv_bn(16, 16), nn.AdaptiveAvgPool2d((2, 7)))),
    "dilated": Case(
        lambda: nn.Sequential(
            conv_bn(16, 16, 3, dilation=2, activation=nn.ReLU()),
            conv_bn(16, 16, 5, dilation=2, groups=16),
        )
    ),
    "1x7 and 7x1": Case(
        lambda: nn.Sequential(
            conv_bn(16, 24, (1, 7), activation=nn.ReLU6()),
            conv_bn(24, 16, (7, 1)),
            nn.Conv2d(16, 16, (3, 1), stride=(2, 1), padding=(1, 0)),
        )
    ),
    "depthwise with multiplier": Case(
        lambda: nn.Sequential(conv_bn(16, 48, 3, 2, groups=16), nn.Hardsigmoid())
    ),
    "grouped": Case(lambda: nn.Sequential(conv_bn(16, 32, 3, groups=4), nn.ReLU())),
    "universal inverted bottleneck": Case(
        lambda: nn.Sequential(
            *(
                UniversalInvertedBottleneck(16, 48, *ends)
                for ends in ((5, 3), (0, 3), (3, 0), (0, 0))
            )
        )
    ),
    "written out": Case(lambda: WrittenOut(16)),
    "branches": Case(lambda: Branches(16)),
    "flattened": Case(
        lambda: nn.Sequential(conv_bn(16, 4, 3, 2), nn.Flatten(), nn.Linear(196, 10))
    ),
    "pooled classifier": Case(lambda: nn.Sequential(conv_bn(16, 32), LastPool(32, 10))),
}
