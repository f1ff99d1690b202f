"""Gradients of depthwise convolutions on a CPU, computed with the fast kernels of oneDNN.

PyTorch's CPU convolutions are oneDNN's (3.12 here). Its depthwise kernel for the weight gradient supports
widths up to 3; wider ones fall back to the general convolution, which computes blocks of 16 x 16 channels
where one channel is needed. So a wide kernel is split into column groups of at most 3, each the kernel of
a separate convolution over correspondingly shifted columns of the image. With stride 1 the input gradient
is itself a depthwise convolution, by the flipped kernel, for which the forward kernel is faster.

The gradients equal PyTorch's up to the order of summation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.space.modules import Block

_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward
_MAX_WIDTH = 3  # of oneDNN's depthwise kernel for the weight gradient


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution with the gradients below."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, kernel, None, stride, padding, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        geometry = gradient, *ctx.saved_tensors, ctx.stride, ctx.padding
        wants_x, wants_kernel, *_ = ctx.needs_input_grad
        of_x = input_gradient(*geometry) if wants_x else None
        return of_x, weight_gradient(*geometry) if wants_kernel else None, None, None


def forward_for_training(network: nn.Sequential, x: Tensor) -> Tensor:
    """Apply `network`, from `build_network`, to `x` (N, 3, S, S); on a CPU with these fast gradients."""
    for module in network:
        if not isinstance(module, Block) or x.device.type != "cpu":
            x = module(x)
            continue
        y = x
        for layer in module.layers:
            if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels:
                y = _Depthwise.apply(y, layer.weight, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
            else:
                y = layer(y)
        x = x + y if module.residual else y
    return x


def input_gradient(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """The gradient of the input `x` (N, C, H, W) of a depthwise convolution by `kernel` (C, 1, k, k)."""
    size = kernel.shape[2:]
    same = all(2 * around == k - 1 for around, k in zip(padding, size, strict=True))
    if same and tuple(stride) == (1, 1):
        flipped = kernel.flip(2, 3)
        return functional.conv2d(gradient, flipped, None, 1, tuple(padding), groups=len(kernel))
    of_x: Tensor = _backward(gradient, x, kernel, stride, padding, [True, False, False])[0]
    return of_x


def weight_gradient(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """The gradient of the kernel (C, 1, k, k) of a depthwise convolution of `x` (N, C, H, W)."""
    width = kernel.shape[3]
    if width <= _MAX_WIDTH:
        of_kernel: Tensor = _backward(gradient, x, kernel, stride, padding, [False, True, False])[1]
        return of_kernel
    high, outer = x.shape[2], padding[0]
    if high < kernel.shape[2]:  # oneDNN's kernel does not pad such images
        reach = (gradient.shape[2] - 1) * stride[0] + kernel.shape[2]
        x, outer = functional.pad(x, (0, 0, outer, reach - high - outer)), 0
    parts = []
    for first in range(0, width, _MAX_WIDTH):
        columns = kernel[..., first : first + _MAX_WIDTH]
        # The columns of the padded image that these kernel columns are applied to.
        reach = (gradient.shape[3] - 1) * stride[1] + columns.shape[3]
        seen = _columns_of(x, first - padding[1], reach)
        wants = [False, True, False]
        parts.append(_backward(gradient, seen, columns, stride, (outer, 0), wants)[1])
    return torch.cat(parts, 3)


def _columns_of(x: Tensor, first: int, count: int) -> Tensor:
    """`count` columns of `x` from column `first`, zeros outside of it; in channels_last.

    `functional.pad` would first fill the whole tensor with zeros.
    """
    rows = x.permute(0, 2, 3, 1)
    images, high, wide, channels = rows.shape
    begin = min(max(-first, 0), count)
    end = max(min(wide - first, count), begin)
    whole = x.new_empty(images, high, count, channels)
    whole[:, :, :begin].zero_()
    whole[:, :, begin:end].copy_(rows[:, :, first + begin : first + end])
    whole[:, :, end:].zero_()
    return whole.permute(0, 3, 1, 2)


def _backward(
    gradient: Tensor,
    x: Tensor,
    kernel: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    both: tuple[Tensor, Tensor, Tensor] = _CONVOLUTION_BACKWARD(
        gradient, x, kernel, None, list(stride), list(padding), [1, 1], False, [0, 0],
        len(kernel), wants,
    )  # fmt: skip
    return both
