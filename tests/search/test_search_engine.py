"""The fused supernet against the plain mixture: equal values and gradients in less memory."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fbnet_search.supernet.network import MixedLayer, Supernet
from tests.search.tiny import space_of


@pytest.fixture(scope="module", params=[True, False], ids=["first 1x1", "separable e1"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    """A supernet of five layers with scales, shifts and θ as in the middle of a search, float64."""
    space = space_of("middle", [(8, 2, 1), (16, 3, 2)], size=16, head=32)
    torch.manual_seed(0)
    net = Supernet(space.at(keeps_first_1x1=request.param), classes=10).double()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    nn.init.normal_(net.theta)
    return net


def plain(supernet: Supernet) -> Supernet:
    other = copy.deepcopy(supernet)
    for layer in other.layers:
        assert isinstance(layer, MixedLayer)
        layer.fused = False
    return other


IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def gradients(net: Supernet, paths: int | None = None) -> dict[str, Tensor]:
    net.zero_grad()
    net(IMAGES, torch.softmax(net.theta, 1), paths, paths).square().sum().backward()
    named = net.named_parameters()
    return {name: one.grad.clone() for name, one in named if one.grad is not None}


@pytest.mark.parametrize("paths", [None, 3, 1])
def test_gradients_and_statistics_are_those_of_the_plain_mixture(
    supernet: Supernet, paths: int | None
) -> None:
    fast, slow = copy.deepcopy(supernet), plain(supernet)
    fast.computed_on(torch.device("cpu"))
    ours, wanted = gradients(fast, paths), gradients(slow, paths)
    assert ours.keys() == wanted.keys()
    scale = max(float(one.norm()) for one in wanted.values())
    assert scale > 1
    for name, gradient in wanted.items():
        assert float((ours[name] - gradient).norm()) <= 1e-9 * scale, name
    buffers = dict(fast.named_buffers())
    for name, buffer in slow.named_buffers():
        assert torch.allclose(buffers[name], buffer, rtol=1e-9), name


def test_a_theta_step_computes_no_gradient_of_weights(supernet: Supernet) -> None:
    net = copy.deepcopy(supernet)
    wanted = gradients(net)["thetas.0"]
    with net.frozen_weights():
        frozen = gradients(net)
    assert frozen.keys() == {"thetas.0"}
    assert torch.allclose(frozen["thetas.0"], wanted, rtol=1e-9)


def test_one_path_computes_one_network_and_teaches_theta(supernet: Supernet) -> None:
    net = copy.deepcopy(supernet).eval()
    one_hot = nn.functional.one_hot(net.theta.argmax(1), 9).double()
    mix = torch.softmax(net.theta, 1)
    assert torch.allclose(net(IMAGES, mix, 1, 1), net(IMAGES, one_hot), rtol=1e-9)
    assert gradients(copy.deepcopy(supernet), 1)["thetas.0"].abs().sum() > 0


def kept_bytes(net: Supernet) -> int:
    """Bytes of the storages that the graph of a w-step keeps, the weights apart."""
    own = {one.untyped_storage().data_ptr() for one in (*net.parameters(), *net.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net(IMAGES, torch.softmax(net.theta, 1).detach()).sum()
    loss.backward()
    return sum(kept.values())


def test_what_is_kept_for_gradients_is_about_half_of_the_plain_mixtures(
    supernet: Supernet,
) -> None:
    # Storages are counted, so the figure is exact; bench/search_step.py has those of the full space.
    assert kept_bytes(copy.deepcopy(supernet)) <= 0.6 * kept_bytes(plain(supernet))
