"""Fused blocks: the values and gradients of the plain mixture, faster and in half the memory.

The plain mixture is sum over candidates i of m[i] * candidate_i(x). The differences:

- The weight m[i] is folded into scale and shift of the candidate's last BN, and the shared input x of
  the residual connections is added once. So no candidate's output is stored or multiplied.
- BN, ReLU and the following convolution are one autograd node, which stores only the BN's input and
  recomputes its output, elementwise, in the backward pass; no convolution is repeated.
- A 1x1 convolution is a matrix product, which has less overhead; a grouped one is a block-diagonal matrix,
  and the channel shuffle after it is a permutation of that matrix's rows.

For frozen weights no gradients are computed and nothing is stored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.supernet.depthwise import input_gradient, weight_gradient
from latbench.space.modules import Block, ChannelShuffle

_NATIVE_NORM = torch.ops.aten.native_batch_norm
_NATIVE_NORM_BACKWARD = torch.ops.aten.native_batch_norm_backward
_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class _Unit:
    """A convolution and the BN after it.

    `order` is the permutation of its output channels by a channel shuffle after it, `taken` that of its
    input channels by one before it; None means no shuffle.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    order: Tensor | None = None
    taken: Tensor | None = None


def is_fusible(module: nn.Module) -> TypeGuard[Block]:
    """Whether `fused_block` can compute it: convolutions with BN, ReLUs between them, and shuffles."""
    if not isinstance(module, Block):
        return False
    known = {nn.Conv2d: "c", nn.BatchNorm2d: "n", nn.ReLU: "r", ChannelShuffle: "s"}
    word = "".join(known.get(type(layer), "?") for layer in module.layers)
    return re.fullmatch("(cnrs?|s)*cn", word) is not None


def units_of(block: Block) -> tuple[_Unit, ...]:
    """The block's convolutions with their BNs; a ReLU follows all but the last."""
    units: list[_Unit] = []
    taken = None
    for layer in block.layers:
        if isinstance(layer, nn.Conv2d):
            conv = layer
        elif isinstance(layer, nn.BatchNorm2d):
            units.append(_Unit(conv, layer, taken=taken))
            taken = None
        elif isinstance(layer, ChannelShuffle):
            first = next(one for one in block.layers if isinstance(one, nn.Conv2d))
            channels = units[-1].conv.out_channels if units else first.in_channels
            order = torch.arange(channels).view(layer.groups, -1).T.reshape(-1)
            if units:
                units[-1] = replace(units[-1], order=order)
            else:
                taken = order
    return tuple(units)


def fused_block(units: Sequence[_Unit], x: Tensor, weight: Tensor) -> Tensor:
    """Return weight * (output of the block's last BN), without the residual; x is (N, C, H, W).

    BN uses the statistics of the batch and updates the running ones, as in training.
    """
    first = units[0]
    if first.taken is not None:
        rows = x.permute(0, 2, 3, 1)  # keeps the copy in channels_last
        x = rows[..., first.taken].permute(0, 3, 1, 2)
    y = _convolve(x, _dense(first), first.conv.stride, first.conv.padding, _groups(first.conv))
    for before, unit in pairwise(units):
        scale, shift, mean, variance = _norm_of(before)
        y = _NormReluConv.apply(
            y,
            scale,
            shift,
            _dense(unit),
            mean,
            variance,
            _momentum(before.norm),
            before.norm.eps,
            unit.conv.stride,
            unit.conv.padding,
            _groups(unit.conv),
        )  # type: ignore[no-untyped-call]
        _store(before, mean, variance)
    last = units[-1].norm
    _count(last)
    return functional.batch_norm(
        y, last.running_mean, last.running_var, weight * last.weight, weight * last.bias,
        training=True, momentum=_momentum(last), eps=last.eps,
    )  # fmt: skip


class _NormReluConv(torch.autograd.Function):
    """conv(relu(batch_norm(y))) that stores y and the batch's statistics, not the values in between."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, scale: Tensor, shift: Tensor, kernel: Tensor, mean: Tensor,
        variance: Tensor, momentum: float, eps: float, stride: Any, padding: Any, groups: int,
    ) -> Tensor:  # fmt: skip
        z, batch_mean, inverse = _NATIVE_NORM(y, scale, shift, mean, variance, True, momentum, eps)
        ctx.save_for_backward(y, scale, shift, kernel, batch_mean, inverse)
        ctx.geometry, ctx.eps = (list(stride), list(padding), groups), eps
        return _convolve(z.relu_(), kernel.to(z.dtype), stride, padding, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, scale, shift, kernel, mean, inverse = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        wants_y, wants_scale, wants_shift, wants_kernel = ctx.needs_input_grad[:4]
        slope = scale * inverse
        shape = (1, -1, 1, 1)
        z = torch.addcmul((shift - mean * slope).view(shape), y, slope.view(shape)).relu_()
        z = z.to(y.dtype)
        wants = [wants_y or wants_scale or wants_shift, wants_kernel, False]
        gradient, kernel = gradient.to(y.dtype), kernel.to(y.dtype)
        if _is_product(kernel, stride, groups):
            of_z, of_kernel = _product_backward(gradient, z, kernel, wants)
        elif z.device.type == "cpu" and groups == len(kernel):
            geometry = gradient, z, kernel, stride, padding
            of_z = input_gradient(*geometry) if wants[0] else None
            of_kernel = weight_gradient(*geometry) if wants[1] else None
        else:
            of_z, of_kernel, _ = _CONVOLUTION_BACKWARD(
                gradient, z, kernel, None, stride, padding, [1, 1], False, [0, 0], groups, wants
            )
        of_y = of_scale = of_shift = None
        if of_z is not None:
            torch.ops.aten.threshold_backward(of_z, z, 0, grad_input=of_z)
            of_y, of_scale, of_shift = _NATIVE_NORM_BACKWARD(
                of_z, y, scale, None, None, mean, inverse, True, ctx.eps,
                [wants_y, wants_scale, wants_shift],
            )  # fmt: skip
        of_kernel = None if of_kernel is None else of_kernel.to(ctx.saved_tensors[3].dtype)
        return (of_y, of_scale, of_shift, of_kernel, *(None,) * 7)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels


def _groups(conv: nn.Conv2d) -> int:
    """The groups of `conv` with the weight that `_dense` returns."""
    return conv.groups if _is_depthwise(conv) else 1


def _is_product(kernel: Tensor, stride: Sequence[int], groups: int) -> bool:
    return kernel.shape[2:] == (1, 1) and tuple(stride) == (1, 1) and groups == 1


def _convolve(x: Tensor, kernel: Tensor, stride: Any, padding: Any, groups: int) -> Tensor:
    if _is_product(kernel, stride, groups):
        return functional.linear(x.permute(0, 2, 3, 1), kernel.flatten(1)).permute(0, 3, 1, 2)
    return functional.conv2d(x, kernel, None, stride, padding, groups=groups)


def _product_backward(
    gradient: Tensor, z: Tensor, kernel: Tensor, wants: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    rows = gradient.permute(0, 2, 3, 1)
    of_z = of_kernel = None
    if wants[0]:
        of_z = (rows @ kernel.flatten(1)).permute(0, 3, 1, 2)
    if wants[1]:
        inputs = z.permute(0, 2, 3, 1).flatten(0, 2)
        of_kernel = (rows.flatten(0, 2).T @ inputs)[..., None, None]
    return of_z, of_kernel


def _dense(unit: _Unit) -> Tensor:
    """The convolution's weight in `order`; a grouped one is block-diagonal unless it is depthwise."""
    conv, weight = unit.conv, unit.conv.weight
    if conv.groups == 1 or _is_depthwise(conv):
        return weight
    blocks = weight.flatten(1).chunk(conv.groups)
    dense: Tensor = torch.block_diag(*blocks)[..., None, None]  # type: ignore[no-untyped-call]
    return dense if unit.order is None else dense[unit.order]


def _norm_of(unit: _Unit) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scale, shift and running statistics, in `order`; the caller updates the statistics in place."""
    norm = unit.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    every = norm.weight, norm.bias, norm.running_mean, norm.running_var
    if unit.order is None:
        return every
    scale, shift, mean, variance = (tensor[unit.order] for tensor in every)
    return scale, shift, mean, variance


@torch.no_grad()
def _store(unit: _Unit, mean: Tensor, variance: Tensor) -> None:
    """Store the running statistics that a step has updated."""
    _count(unit.norm)
    if unit.order is not None:
        assert unit.norm.running_mean is not None
        assert unit.norm.running_var is not None
        unit.norm.running_mean[unit.order] = mean
        unit.norm.running_var[unit.order] = variance


def _count(norm: nn.BatchNorm2d) -> None:
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)


def _momentum(norm: nn.BatchNorm2d) -> float:
    assert norm.momentum is not None
    return norm.momentum
