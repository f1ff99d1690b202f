"""Searches with LUTs that have boundary costs between grouped blocks and others."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from fbnet_search.choose.derive import derive_architecture, finalists_on_all
from fbnet_search.choose.program import Budget, most_probable_first
from fbnet_search.cost.choices import architecture_of
from fbnet_search.cost.latency import LatencyModel, latency_model
from latbench.lut import Correction, Lut, predict_latency
from latbench.space import SearchSpace
from latbench.space.boundaries import Boundary
from latbench.target import Runtime
from tests.search.conftest import MakeLut

CANDIDATES = SearchSpace.named("fbnet").candidates

#: Ms a million values; as much as the blocks of the small spaces take.
TAKEN = dict(zip(Boundary, (9.0, -3.0, -5.0), strict=True))


@pytest.fixture
def passing(correction: Correction) -> Correction:
    """A correction with boundary costs."""
    return correction.model_copy(update={"boundary_costs": TAKEN})


@pytest.fixture
def micro(micro_lut: Lut, passing: Correction) -> Lut:
    """A LUT of three layers, which knows it."""
    return micro_lut.model_copy(update={"correction": passing})


def every_choice(model: LatencyModel) -> list[tuple[int, ...]]:
    layers, candidates = model.layer_ms.shape
    return list(itertools.product(range(candidates), repeat=layers))


def test_boundary_costs_change_predictions(micro: Lut, micro_lut: Lut) -> None:
    space = micro.search_space
    names = [str(candidate) for candidate in CANDIDATES]
    grouped, plain, skip = (names.index(name) for name in ("k3e1g2", "k3e1", "skip"))

    def added(*choices: int) -> float:
        network = architecture_of(space, choices)
        return predict_latency(micro, network).ms - predict_latency(micro_lut, network).ms

    values = [8 * 8 * 8, 8 * 8 * 8, 16 * 4 * 4, 16 * 4 * 4]  # into each layer, and into the head
    to, out, between = (TAKEN[kind] / 1e6 for kind in Boundary)
    assert added(plain, plain, skip) == 0
    # An identity lets what comes through it pass.
    assert added(skip, grouped, skip) == pytest.approx(to * values[1] + out * values[3])
    assert added(grouped, grouped, plain) == pytest.approx(
        to * values[0] + between * values[1] + out * values[2]
    )
    assert added(grouped, plain, grouped) == pytest.approx(
        to * values[0] + out * values[1] + to * values[2] + out * values[3]
    )


def test_of_choices_it_is_the_predicted_latency(make_lut: MakeLut, passing: Correction) -> None:
    lut = make_lut(SearchSpace.named("fbnet-cifar"), correction=passing)
    model = latency_model(lut)
    rng = np.random.default_rng(0)
    for choices in rng.integers(len(CANDIDATES), size=(50, len(model.layer_ms))).tolist():
        network = architecture_of(lut.search_space, choices)
        wanted = predict_latency(lut, network).ms
        assert model.of_choices(choices) == pytest.approx(wanted, rel=1e-12)


def test_of_probabilities_it_is_the_expectation(micro: Lut) -> None:
    model = latency_model(micro)
    chances = torch.randn(
        *model.layer_ms.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    ).softmax(1)
    expected = sum(
        float(chances[range(len(chances)), list(choices)].prod()) * model.of_choices(choices)
        for choices in every_choice(model)
    )
    assert float(model.of(chances)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(model.of, chances.requires_grad_())


@pytest.mark.parametrize("sign", [1, -2])  # with the second a grouped block is in the fastest
def test_the_fastest_and_the_slowest_are_those_of_all(micro: Lut, sign: int) -> None:
    model = latency_model(micro)
    assert model.boundaries is not None
    taken = replace(model.boundaries, costs=sign * model.boundaries.costs)
    model = replace(model, boundaries=taken)
    times = [model.of_choices(choices) for choices in every_choice(model)]
    assert model.fastest_ms == pytest.approx(min(times), rel=1e-12)
    assert model.slowest_ms == pytest.approx(max(times), rel=1e-12)


def drawn(lut: Lut, rng: np.random.Generator) -> Lut:
    """The LUT, with random boundary costs, of either sign, that are comparable to those of blocks."""
    assert lut.correction is not None
    taken = dict(zip(Boundary, (10 * rng.normal(size=len(Boundary))).tolist(), strict=True))
    return lut.model_copy(
        update={"correction": lut.correction.model_copy(update={"boundary_costs": taken})}
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_most_probable_within_a_budget_is_that_of_all(micro_lut: Lut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = latency_model(drawn(micro_lut, rng))
    logits = rng.normal(size=model.layer_ms.shape)
    target = model.fastest_ms + rng.uniform(0.2, 0.8) * (model.slowest_ms - model.fastest_ms)
    budget = Budget(target, 0.9 * target)

    def chance(choices: tuple[int, ...]) -> float:
        return float(sum(logits[layer, choice] for layer, choice in enumerate(choices)))

    within = [
        choices
        for choices in every_choice(model)
        if budget.least_ms <= model.of_choices(choices) <= target
    ]
    wanted = sorted(map(chance, within), reverse=True)[:5]
    found = list(itertools.islice(most_probable_first(logits, model, budget, budget.least_ms), 5))
    assert set(found) <= set(within)
    assert [chance(choices) for choices in found] == pytest.approx(wanted, rel=1e-6)


def most_probable(
    theta: torch.Tensor, models: Sequence[LatencyModel], budget: Budget
) -> tuple[int, ...]:
    """Of all choices that keep the budget where they take the longest."""
    logits = theta.log_softmax(1)

    def kept(choices: tuple[int, ...]) -> bool:
        assert budget.target_ms is not None
        slowest = max(model.of_choices(choices) for model in models)
        return budget.least_ms <= slowest <= budget.target_ms

    return max(
        filter(kept, every_choice(models[0])),
        key=lambda choices: float(logits[range(len(choices)), list(choices)].sum()),
    )


def test_of_several_luts_one_may_know_them(micro_lut: Lut, make_lut: MakeLut) -> None:
    space = micro_lut.search_space
    other = make_lut(space, runtime=Runtime.ONNX, factor=lambda op: 0.5)
    changed = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        knowing = drawn(micro_lut, rng)
        luts = [other, knowing] if seed % 2 else [knowing, other]
        models = [latency_model(lut) for lut in luts]
        theta = torch.from_numpy(2 * rng.normal(size=tuple(models[0].layer_ms.shape)))
        target = max(0.7 * model.fastest_ms + 0.3 * model.slowest_ms for model in models)
        budget = Budget(target, 0.8 * target)
        (found,) = finalists_on_all(theta, models, luts, budget, 1)
        wanted = most_probable(theta, models, budget)
        assert found == architecture_of(space, wanted)
        without = [replace(model, boundaries=None) for model in models]
        changed += most_probable(theta, without, budget) != wanted
    assert changed > 3  # or it would not matter


@pytest.mark.parametrize("name", ["fbnet-cifar", "fbnet"])
def test_a_found_network_spends_its_budget(
    make_lut: MakeLut, passing: Correction, name: str
) -> None:
    lut = make_lut(SearchSpace.named(name), correction=passing)
    model = latency_model(lut)
    target = 0.6 * model.fastest_ms + 0.4 * model.slowest_ms
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        theta = 2 * torch.randn(*model.layer_ms.shape, generator=generator)
        found = derive_architecture(theta, model, lut, Budget(target, 0.99 * target))
        assert 0.99 * target <= predict_latency(lut, found).ms <= target * (1 + 1e-12)
