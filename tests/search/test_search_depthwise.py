"""Gradients of depthwise convolutions are PyTorch's, though other kernels compute them."""

import copy

import pytest
import torch
from torch.nn import functional

from fbnet_search.cost.choices import architecture_of
from fbnet_search.supernet.depthwise import (
    forward_for_training,
    input_gradient,
    weight_gradient,
)
from latbench.space import SearchSpace
from latbench.space.blocks import build_network

CANDIDATES = SearchSpace.named("fbnet").candidates


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 4), (7, 9), (12, 8)])
def test_gradients_are_those_of_pytorch(kernel: int, stride: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 8, *size, generator=generator, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(8, 1, kernel, kernel, generator=generator, dtype=torch.float64)
    weight.requires_grad_()
    padding = kernel // 2
    y = functional.conv2d(x, weight, None, stride, padding, groups=8)
    given = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(y, [x, weight], given)
    geometry = given, x.detach(), weight.detach(), (stride, stride), (padding, padding)
    assert torch.allclose(input_gradient(*geometry), wanted[0], rtol=1e-9, atol=1e-12)
    assert torch.allclose(weight_gradient(*geometry), wanted[1], rtol=1e-9, atol=1e-12)


def test_a_network_learns_what_it_would_have_learnt() -> None:
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    network = architecture_of(
        space, [number % len(CANDIDATES) for number in range(len(space.layers))]
    )
    torch.manual_seed(0)
    plain = build_network(network, classes=10).double().train()
    ours = copy.deepcopy(plain)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    given = plain(images)
    assert torch.allclose(forward_for_training(ours, images), given, rtol=1e-9)
    plain(images).square().sum().backward()
    forward_for_training(ours, images).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-7, atol=1e-9), name
