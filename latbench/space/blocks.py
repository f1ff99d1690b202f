"""Ops and networks as PyTorch modules, the reference that exported models are checked against."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from latbench.space.architecture import Architecture
from latbench.space.modules import Block, ResidualUnit
from latbench.space.opspec import OpSpec


def build_op(op: OpSpec) -> nn.Module:
    """Return the module of one op, with PyTorch's default initialisation."""
    return op.build()


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
        classifier = replace(classifier, out_channels=classes)
    return build_ops([*body, classifier])


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

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
        elif isinstance(layer, _NORMS):
            layer.weight.uniform_(0.8, 1.2, generator=generator)
            layer.bias.normal_(0.0, 0.1, generator=generator)
    for block in module.modules():
        if isinstance(block, Block | ResidualUnit) and (last := block.last_norm) is not None:
            last.weight.mul_(_RESIDUAL_GAIN)
            last.bias.mul_(_RESIDUAL_GAIN)
    norms = [layer for layer in module.modules() if isinstance(layer, _NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the statistics of this one batch
    module.train()
    module(sample)
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
