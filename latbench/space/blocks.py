"""The blocks as PyTorch modules, the reference that exported models are checked against.

Modules are registered in the order their layers run, so parameters line up with other FBNet
implementations that do the same (timm's fbnetc_100, for one).
"""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from latbench.space.architecture import Architecture
from latbench.space.opspec import OpKind, OpSpec


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups (Zhang et al., ShuffleNet, CVPR 2018).

    Maps (N, C, H, W) to (N, C, H, W); C must be a multiple of `groups`.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with channel g * (C / groups) + c moved to c * groups + g."""
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def _conv_bn(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(out_channels)]


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [*_conv_bn(in_channels, out_channels, kernel, stride, groups), nn.ReLU(inplace=True)]


class InvertedResidual(nn.Module):
    """FBNet's block (Wu et al., CVPR 2019, figure 3).

    1x1 conv (groups g), BN, ReLU, channel shuffle if g > 1, depthwise kxk conv with stride, BN, ReLU,
    1x1 conv (groups g), BN; plus the input where stride is 1 and channels match. The
    depthwise-separable kind lacks the first 1x1.
    """

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        middle = op.in_channels * op.expansion
        layers: list[nn.Module] = []
        if op.kind is OpKind.INVERTED_RESIDUAL:
            layers += _conv_bn_relu(op.in_channels, middle, groups=op.groups)
        if op.groups > 1:
            layers.append(ChannelShuffle(op.groups))
        kernels = [3, 3] if op.separable else [op.kernel]
        for number, kernel in enumerate(kernels):
            stride = op.stride if number == 0 else 1
            layers += _conv_bn_relu(middle, middle, kernel, stride, groups=middle)
        layers += _conv_bn(middle, op.out_channels, groups=op.groups)
        self.layers = nn.Sequential(*layers)
        self.residual = op.residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def build_op(op: OpSpec) -> nn.Module:
    """Return the module of one op, with PyTorch's default initialisation."""
    match op.kind:
        case OpKind.INVERTED_RESIDUAL | OpKind.DEPTHWISE_SEPARABLE:
            return InvertedResidual(op)
        case OpKind.STEM | OpKind.SKIP | OpKind.HEAD:
            return nn.Sequential(
                *_conv_bn_relu(op.in_channels, op.out_channels, op.kernel, op.stride)
            )
        case OpKind.FRAME:
            return nn.Sequential(*_conv_bn(op.in_channels, op.out_channels))
        case OpKind.POOL:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case OpKind.CLASSIFIER:
            return nn.Linear(op.in_channels, op.out_channels)


def build_ops(ops: Iterable[OpSpec]) -> nn.Sequential:
    """Return the modules of `ops` in sequence, named `<position>_<key>`."""
    return nn.Sequential(
        OrderedDict((f"{number}_{op.key}", build_op(op)) for number, op in enumerate(ops))
    )


def build_network(architecture: Architecture, *, classes: int | None = None) -> nn.Sequential:
    """Return the module of an architecture: (N, 3, input, input) to (N, classes).

    `classes` takes the place of the space's number, as for a proxy task with fewer.
    """
    *body, classifier = architecture.ops
    if classes is not None:
        classifier = OpSpec(OpKind.CLASSIFIER, classifier.in_channels, classes)
    return build_ops([*body, classifier])


#: How much smaller than its input a residual branch starts, in the spirit of the zero that Goyal et al.
#: (2017, section 5.1) give it. Without it an untrained network amplifies the noise of int8 from block
#: to block until nothing can be checked at its end.
_RESIDUAL_GAIN = 0.2


@torch.no_grad()
def initialise(module: nn.Module, sample: Tensor, *, seed: int) -> None:
    """Give `module` reproducible weights under which activations keep a range of order one.

    Convolutions are drawn after He et al. (ICCV 2015); BN takes the statistics of `sample` passing
    through, as training would have left it. Leaves the module in eval mode.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            gain = 2.0 if isinstance(layer, nn.Conv2d) else 1.0
            layer.weight.normal_(0.0, (gain / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.normal_(0.0, 0.01, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(0.8, 1.2, generator=generator)
            layer.bias.normal_(0.0, 0.1, generator=generator)
    for block in module.modules():
        if isinstance(block, InvertedResidual) and block.residual:
            last = block.layers[-1]
            assert isinstance(last, nn.BatchNorm2d)
            last.weight.mul_(_RESIDUAL_GAIN)
            last.bias.mul_(_RESIDUAL_GAIN)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the statistics of this one batch
    module.train()
    module(sample)
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
