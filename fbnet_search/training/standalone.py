"""A found network as one Python file that needs PyTorch only.

The file lists the network's layers and builds them from its own modules, under the names in `weights.pth`,
so that the weights load strictly.
"""

from dataclasses import replace

from fbnet_search.result import versions
from latbench.space import Architecture, OpSpec

_TEMPLATE = '''"""{title}

Written by fbnet-train (latbench {version}); needs PyTorch only. With weights.pth in the same folder:

    from network import network
    model = network("weights.pth").eval()
    logits = model(images)    # float (N, 3, {size}, {size}), pixel / 127.5 - 1; logits (N, {classes})
"""

from collections import OrderedDict

import torch
from torch import nn

# name, kind, input and output channels, kernel, stride, expansion, groups, two depthwise convolutions
LAYERS = [
{layers}
]
CLASSES = {names}


class ChannelShuffle(nn.Module):
    """Interleave the channels of the groups."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def conv_bn(inputs, outputs, kernel=1, stride=1, groups=1, relu=True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


class Block(nn.Module):
    """FBNet's block: 1x1, depthwise, 1x1 convolutions; plus the input where shapes allow."""

    def __init__(self, kind, inputs, outputs, kernel, stride, expansion, groups, separable):
        super().__init__()
        middle = inputs * expansion
        layers = conv_bn(inputs, middle, groups=groups) if kind == "ir" else []
        if groups > 1:
            layers.append(ChannelShuffle(groups))
        layers += conv_bn(middle, middle, 3 if separable else kernel, stride, middle)
        if separable:
            layers += conv_bn(middle, middle, 3, 1, middle)
        layers += conv_bn(middle, outputs, groups=groups, relu=False)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.residual else y


def layer(kind, inputs, outputs, kernel, stride, expansion, groups, separable):
    if kind in ("ir", "ds"):
        return Block(kind, inputs, outputs, kernel, stride, expansion, groups, separable)
    if kind == "pool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if kind == "classifier":
        return nn.Linear(inputs, outputs)
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride))


def network(weights=None):
    """The network, with the weights of a file or with PyTorch's random ones."""
    model = nn.Sequential(OrderedDict((name, layer(*rest)) for name, *rest in LAYERS))
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model
'''


def standalone_source(architecture: Architecture, class_names: tuple[str, ...]) -> str:
    """Return the Python source of a network with a class for each name."""
    *body, classifier = architecture.ops
    classes = len(class_names)
    ops = [*body, replace(classifier, out_channels=classes)]
    return _TEMPLATE.format(
        title=f"FBNet {architecture.notation}\n\n{architecture.space}, head {architecture.head}.",
        version=versions()["latbench"],
        size=architecture.space.input_size,
        classes=classes,
        layers="\n".join(f"    {_row(number, op)}," for number, op in enumerate(ops)),
        names=list(class_names),
    )


def _row(number: int, op: OpSpec) -> tuple[object, ...]:
    return (
        f"{number}_{op.key}",
        op.kind,
        op.in_channels,
        op.out_channels,
        op.kernel,
        op.stride,
        getattr(op, "expansion", 1),
        op.groups,
        getattr(op, "separable", False),
    )
