"""The relaxation, the loss and the latency model, against values worked out by hand."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fbnet_search import Recipe, TrainRecipe
from fbnet_search.cost.choices import architecture_of
from fbnet_search.cost.latency import latency_model
from fbnet_search.run.recipe import shipped_recipes, temperature_at
from fbnet_search.supernet.loss import paper_loss, target_loss
from fbnet_search.supernet.relaxation import gumbel_noise, gumbel_softmax, keep_paths
from latbench.errors import BadRequest, LutRefused, MissingOps
from latbench.lut import Correction, Lut, predict_latency
from latbench.space import Architecture, SearchSpace
from latbench.space.architecture import random_architectures

CANDIDATES = SearchSpace.named("fbnet").candidates

MakeLut = Callable[..., Lut]


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_the_papers_loss_is_the_logarithm_to_the_power_beta() -> None:
    # 20 ms = 20000 µs: ln = 9.903488; 9.903488^0.6 = 3.957974; times CE 1.5 times α 0.2
    cross_entropy, latency = scalar(1.5), scalar(20.0)
    loss = paper_loss(cross_entropy, latency)
    assert loss.item() == pytest.approx(1.187392, abs=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    # d/dCE = α (ln LAT)^β;  d/dLAT = CE α β (ln LAT)^(β-1) / LAT
    assert cross_entropy.grad is not None
    assert latency.grad is not None
    assert cross_entropy.grad.item() == pytest.approx(0.791595, abs=1e-6)
    assert latency.grad.item() == pytest.approx(1.187392 * 0.6 / (9.903488 * 20), rel=1e-6)


def test_the_papers_loss_is_not_the_logarithm_of_the_power() -> None:
    wrong = 1.5 * 0.2 * math.log(20_000**0.6)
    assert paper_loss(scalar(1.5), scalar(20.0)).item() != pytest.approx(wrong, rel=0.05)


def test_the_papers_loss_is_defined_and_rises_below_a_millisecond() -> None:
    losses = [paper_loss(scalar(1.0), scalar(ms)).item() for ms in (0.01, 0.1, 0.5, 1.0, 2.0)]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert losses == sorted(losses)


@pytest.mark.parametrize(("latency_ms", "slope"), [(3.0, 1 / 3), (1.5, -1 / 1.5)])
def test_the_target_loss_pulls_equally_from_both_sides(latency_ms: float, slope: float) -> None:
    latency = scalar(latency_ms)
    loss = target_loss(scalar(0.7), latency, target_ms=2.0)
    assert loss.item() == pytest.approx(0.7 + abs(math.log(latency_ms / 2)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert latency.grad is not None
    assert latency.grad.item() == pytest.approx(slope)


def test_the_temperature_follows_the_papers_schedule() -> None:
    recipe = Recipe.named("paper")
    assert temperature_at(0) == 5.0
    assert temperature_at(1) / temperature_at(0) == pytest.approx(0.955997, abs=1e-6)
    assert temperature_at(89) == pytest.approx(0.091121, abs=1e-6)
    assert temperature_at(89, recipe.temperature, recipe.temperature_decay) == temperature_at(89)


@pytest.mark.parametrize("epochs", [1, 2, 9, 18, 90, 360])
@pytest.mark.parametrize("recipe", [Recipe.named(name) for name in shipped_recipes()])
def test_a_stretched_recipe_warms_up_and_cools_in_proportion(recipe: Recipe, epochs: int) -> None:
    stretched = recipe.stretched(epochs)
    share = recipe.warmup_epochs / recipe.epochs
    assert stretched.epochs == epochs
    assert abs(stretched.warmup_epochs - share * epochs) <= 0.5
    end = recipe.temperature_decay * recipe.epochs
    assert stretched.temperature_decay * epochs == pytest.approx(end)


def test_the_budget_recipe_cools_and_narrows_after_its_warm_up() -> None:
    recipe = Recipe.named("budget")
    temperatures = [recipe.temperature_in(epoch) for epoch in range(recipe.epochs)]
    assert temperatures[: recipe.warmup_epochs] == [5.0] * recipe.warmup_epochs
    assert temperatures[recipe.warmup_epochs] == 3.0
    assert temperatures[-1] == pytest.approx(0.5, abs=1e-3)
    paths = [recipe.paths_in(epoch) for epoch in range(recipe.epochs)]
    assert paths == [9, 9, 9, 6, 6, 5, 4, 4, 4, 3]


@pytest.mark.parametrize(
    "numbers", [{"epochs": 0}, {"warmup_epochs": 90}, {"paths": 0}, {"crop_area": 0}, {"batch": 1}]
)
def test_an_invalid_recipe_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        replace(Recipe.named("paper"), **numbers)


def test_no_epochs_are_refused() -> None:
    with pytest.raises(BadRequest):
        Recipe.named("paper").stretched(0)
    with pytest.raises(BadRequest):
        TrainRecipe.named("paper").stretched(0)
    for name, value in (("momentum", 0.0), ("momentum", 1.0), ("label_smoothing", 10.0)):
        with pytest.raises(BadRequest, match=f"{name} must be .*, got {value:g}"):
            replace(TrainRecipe.named("paper"), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [Recipe.named("paper"), TrainRecipe.named("paper")])
def test_a_bool_is_not_a_number_in_a_recipe(recipe: Recipe | TrainRecipe) -> None:
    for name in ("threads", "crop_area"):
        with pytest.raises(BadRequest, match=f"{name} must be a number, got True"):
            replace(recipe, **{name: True})  # type: ignore[arg-type]


def test_gumbel_noise_has_the_distributions_mean_and_variance() -> None:
    noise = gumbel_noise((200_000,), torch.Generator().manual_seed(0))
    # Euler's constant and π²/6, to five standard errors of 200,000 samples.
    assert noise.mean().item() == pytest.approx(0.57722, abs=0.015)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.06)


def test_weights_sum_to_one_and_become_a_choice_when_cold() -> None:
    theta = torch.randn(22, 9, generator=torch.Generator().manual_seed(1))
    warm, cold = (gumbel_softmax(theta, t, torch.Generator().manual_seed(2)) for t in (5.0, 0.01))
    for weights in (warm, cold):
        assert torch.allclose(weights.sum(1), torch.ones(22))
    assert warm.max() < 0.6
    assert cold.max(1).values.median() > 0.999
    assert torch.equal(warm.argmax(1), cold.argmax(1))


def test_the_largest_weight_is_a_sample_of_the_softmax() -> None:
    theta = torch.tensor([[0.0, 1.0, 2.0]]).expand(60_000, 3)
    weights = gumbel_softmax(theta, 5.0, torch.Generator().manual_seed(3))
    shares = torch.bincount(weights.argmax(1), minlength=3) / 60_000
    # Five standard errors of a share of 60,000 are at most 0.0102.
    assert torch.allclose(shares, torch.softmax(theta[0], 0), atol=0.0102)


def test_kept_paths_are_the_largest_and_sum_to_one() -> None:
    weights = torch.tensor([[0.1, 0.6, 0.1, 0.2], [0.25, 0.2, 0.3, 0.25]])
    assert torch.allclose(keep_paths(weights[:1], 2), torch.tensor([[0.0, 0.75, 0.0, 0.25]]))
    assert torch.equal(keep_paths(weights, None), weights)
    assert torch.equal(keep_paths(weights, 4), weights)
    for paths in (2, 3):
        kept = keep_paths(weights, paths)
        assert (kept > 0).sum(1).tolist() == [paths, paths]
        assert torch.allclose(kept.sum(1), torch.ones(2))


# Latency


def test_the_latency_of_a_choice_is_what_the_lut_predicts(lut: Lut) -> None:
    model = latency_model(lut)
    for architecture in random_architectures(lut.search_space, 50, seed=4):
        head = architecture_of(lut.search_space, choices := _choices(architecture))
        predicted = predict_latency(lut, head).ms
        assert model.of_choices(choices) == pytest.approx(predicted, rel=1e-12)
        one_hot = torch.nn.functional.one_hot(torch.tensor(choices), 9)
        assert model.of(one_hot).item() == pytest.approx(predicted, rel=1e-12)


def test_an_identity_skip_costs_nothing_and_a_projection_something(lut: Lut) -> None:
    model, space = latency_model(lut), lut.search_space
    for layer, row in zip(space.layers, model.layer_ms, strict=True):
        keeps_shape = layer.stride == 1 and layer.in_channels == layer.out_channels
        assert (row[8].item() == 0.0) == keeps_shape


def test_the_latency_of_probabilities_is_the_expectation(tiny_lut: Lut) -> None:
    model = latency_model(tiny_lut)
    two = replace(model, layer_ms=model.layer_ms[:2, :3])
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    expectation = sum(
        float(chances[0, i] * chances[1, j]) * two.of_choices((i, j))
        for i, j in itertools.product(range(3), repeat=2)
    )
    assert two.of(chances).item() == pytest.approx(expectation, rel=1e-12)


def test_a_lut_that_lacks_an_op_is_refused_with_the_command_that_measures_it(
    tiny_space: SearchSpace, make_lut: MakeLut
) -> None:
    lut = make_lut(tiny_space, without=frozenset({"skip"}))
    projections = {op.key for op in tiny_space.unique_ops if op.kind == "skip"}
    with pytest.raises(MissingOps) as caught:
        latency_model(lut)
    assert set(caught.value.missing) == projections
    assert caught.value.command.startswith("latbench profile --device host")
    assert "--space tiny.toml --input 8" in caught.value.command


def test_a_correction_that_leaves_no_latency_is_refused(
    tiny_space: SearchSpace, make_lut: MakeLut
) -> None:
    def with_offset(ms: float) -> Lut:
        correction = Correction(scale=1.0, offset_ms=ms, residual=0.01, networks=20)
        return make_lut(tiny_space, correction=correction)

    fastest_ms = latency_model(with_offset(0.0)).fastest_ms
    for left_ms in (-5.0, 0.0, 0.0009):  # the paper's loss needs more than a microsecond
        with pytest.raises(LutRefused, match="fastest network"):
            latency_model(with_offset(left_ms - fastest_ms))
    assert latency_model(with_offset(0.0011 - fastest_ms)).fastest_ms == pytest.approx(0.0011)


def _choices(architecture: Architecture) -> tuple[int, ...]:
    return tuple(CANDIDATES.index(choice) for choice in architecture.choices)
