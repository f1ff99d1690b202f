"""Searches of users' spaces: layers with candidates of their own, other activations, other families."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_search import Recipe, search
from fbnet_search.choose.derive import finalists, sampled_on_all
from fbnet_search.choose.program import Budget
from fbnet_search.cost.choices import allowed_choices, choices_of, only_allowed
from fbnet_search.cost.latency import latency_model
from fbnet_search.data.images import ImageData
from fbnet_search.supernet.fused import is_fusible
from fbnet_search.supernet.network import Supernet
from fbnet_search.training.standalone import standalone_source
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency
from latbench.space import Architecture, SearchSpace, published
from latbench.space.blocks import build_network, initialise

SPACE = """
name = "mine"
classes = 10
input = 8
stem = { channels = 8 }
stages = [
  { channels = 8, layers = 2 },
  { channels = 12, layers = 2, stride = 2, activation = "hswish", candidates = ["k3m20", "conv3", "skip"] },
]
candidates = ["k3e1", "k7e2", "skip"]
head = 32
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    path = tmp_path_factory.mktemp("space") / "mine.toml"
    path.write_text(SPACE)
    return SearchSpace.named(str(path))


def every_network(space: SearchSpace) -> list[Architecture]:
    found: list[tuple[object, ...]] = [()]
    for layer in space.layers:
        found = [(*one, choice) for one in found for choice in layer.candidates]
    return [Architecture(space, one, space.heads[0]) for one in found]  # type: ignore[arg-type]


def test_only_candidates_of_a_layer_are_derived_and_sampled(
    mine: SearchSpace, make_lut: Callable[..., Lut]
) -> None:
    lut = make_lut(mine)
    model, networks = latency_model(lut), every_network(mine)
    assert len(networks) == 3 * 3 * 2 * 3 == mine.network_count
    theta = only_allowed(
        torch.randn(4, 5, generator=torch.Generator().manual_seed(1)), allowed_choices(mine)
    )
    everything = finalists(theta, model, lut, Budget(), 1000)
    assert set(everything) == set(networks)

    def score(one: Architecture) -> float:
        logits = torch.log_softmax(theta.double(), 1)
        return float(sum(logits[at, choice] for at, choice in enumerate(choices_of(one))))

    scores = [score(one) for one in everything]
    assert scores == pytest.approx(sorted(map(score, networks), reverse=True), rel=1e-6)
    assert set(sampled_on_all(theta, [model], [lut], Budget(), 1000)) == set(networks)
    times = [predict_latency(lut, one).ms for one in networks]
    assert [model.of_choices(choices_of(one)) for one in networks] == pytest.approx(times)
    assert (model.fastest_ms, model.slowest_ms) == pytest.approx((min(times), max(times)))


def test_each_network_in_the_supernet_is_the_network_alone(mine: SearchSpace) -> None:
    """The fused path serves the blocks that have it, and the plain mixture the others."""
    torch.manual_seed(0)
    supernet = Supernet(mine, classes=10).train()
    kinds = [is_fusible(one) for layer in supernet.layers for one in layer.candidates]  # type: ignore[union-attr]
    assert any(kinds)
    assert not all(kinds)
    images = torch.randn(6, 3, 8, 8)
    for network in every_network(mine)[::5]:
        alone = build_network(network, classes=10).train()
        parts = [supernet.stem]
        for layer, choice, op in zip(
            supernet.layers, choices_of(network), network.layer_ops, strict=True
        ):
            if op is not None:
                parts.append(layer.candidates[choice])  # type: ignore[union-attr, index]
        parts += list(supernet.head)
        for module, part in zip(alone, parts, strict=True):
            module.load_state_dict(part.state_dict())
        one_hot = torch.nn.functional.one_hot(torch.tensor(choices_of(network)), 5).float()
        assert torch.allclose(supernet(images, one_hot), alone(images), atol=1e-5)


def test_a_search_of_a_users_space_finds_one_of_its_networks(
    mine: SearchSpace, make_lut: Callable[..., Lut], few_digits: ImageData, tmp_path: Path
) -> None:
    lut = make_lut(mine)
    model = latency_model(lut)
    target = (model.fastest_ms + model.slowest_ms) / 2
    recipe = Recipe.named("digits").stretched(2)
    result = search(lut, few_digits, tmp_path, recipe=recipe, target_ms=target, seed=1)
    assert result.architecture in every_network(mine)
    assert result.prediction.ms <= target


def test_a_space_with_channel_choices_is_refused_in_a_sentence(
    make_lut: Callable[..., Lut], few_digits: ImageData, tmp_path: Path
) -> None:
    path = tmp_path / "elastic.toml"
    path.write_text(SPACE.replace("channels = 12", "channels = [12, 16]"))
    with pytest.raises(BadRequest, match="a search takes spaces of fixed channels"):
        search(make_lut(SearchSpace.named(str(path))), few_digits, tmp_path)


def test_a_space_that_no_search_can_train_is_refused_in_a_sentence(
    mine: SearchSpace, make_lut: Callable[..., Lut], few_digits: ImageData, tmp_path: Path
) -> None:
    for changes in ({"input_width": 16}, {"input_channels": 1}, {"batch": 2}):
        with pytest.raises(BadRequest, match="a search trains on square RGB images"):
            search(make_lut(mine.at(**changes)), few_digits, tmp_path)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "mobilenetv4_conv_small", "resnet18", "shufflenet_v2_x1_0"]
)
def test_the_file_for_pytorch_alone_builds_networks_of_every_family(name: str) -> None:
    network = published(name)
    network = replace(network, space=network.space.at(input_size=32))
    module = build_network(network, classes=3)
    initialise(module, torch.randn(4, 3, 32, 32), seed=1)
    session: dict[str, Any] = {}
    exec(standalone_source(network, ("a", "b", "c")), session)
    alone = session["network"]()
    alone.load_state_dict(module.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(alone.eval()(images), module(images), atol=1e-6)
    assert "latbench" not in session
