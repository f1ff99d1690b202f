"""From θ to an architecture: the most probable, and the most probable within a budget."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_search import derive
from fbnet_search.derive import (
    derive_architecture,
    most_probable_first,
    sample_architectures,
)
from fbnet_search.latency import latency_model
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency
from latbench.space import CANDIDATES, SKIP, SearchSpace

#: Few distinct values, so that ties and equal sums are common; budgets lie between their sums.
_COSTS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0])
_LOGITS = st.floats(-3, 3, allow_nan=False, width=32)


@st.composite
def _problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    layers, candidates = draw(st.integers(1, 5)), draw(st.integers(1, 4))

    def matrix(values: st.SearchStrategy[float]) -> np.ndarray:
        row = st.lists(values, min_size=candidates, max_size=candidates)
        return np.array(draw(st.lists(row, min_size=layers, max_size=layers)), dtype=np.float64)

    return matrix(_LOGITS), matrix(_COSTS), 0.05 * draw(st.integers(0, 100)) + 0.025


@settings(max_examples=300, deadline=None)
@given(_problems())
def test_within_a_budget_no_choice_is_more_probable(
    problem: tuple[np.ndarray, np.ndarray, float],
) -> None:
    logs, costs, budget = problem
    layers, candidates = logs.shape

    def total(values: np.ndarray, choices: tuple[int, ...]) -> float:
        return float(sum(values[layer, choice] for layer, choice in enumerate(choices)))

    within = [
        total(logs, choices)
        for choices in itertools.product(range(candidates), repeat=layers)
        if total(costs, choices) <= budget
    ]
    found = most_probable_first(logs, costs, budget)
    assert bool(found) == bool(within)
    if found:
        assert total(costs, found[0]) <= budget
        assert total(logs, found[0]) == pytest.approx(max(within), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(_problems())
def test_pareto_optimal_choices_come_most_probable_first_and_get_faster(
    problem: tuple[np.ndarray, np.ndarray, float],
) -> None:
    logs, costs, budget = problem
    rows = np.arange(len(logs))
    found = most_probable_first(logs, costs, budget)
    totals = [(logs[rows, list(c)].sum(), costs[rows, list(c)].sum()) for c in found]
    assert all(a[0] > b[0] - 1e-9 and a[1] > b[1] - 1e-9 for a, b in itertools.pairwise(totals))


def test_a_theta_proportional_to_latency_is_solved_within_bounds(
    lut: Lut, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here every partial network is Pareto-optimal, so their number must be kept down.
    monkeypatch.setattr(derive, "_MOST_KEPT", 2000)
    model = latency_model(lut)
    theta = 4 * model.layer_ms
    target = (model.fastest_ms + model.slowest_ms) / 2
    found = derive_architecture(theta, model, lut, target)
    assert 0.999 * target < predict_latency(lut, found).ms <= target


def test_without_a_budget_each_layer_takes_its_best(lut: Lut, space: SearchSpace) -> None:
    theta = torch.randn(22, 9, generator=torch.Generator().manual_seed(5))
    found = derive_architecture(theta, latency_model(lut), lut)
    assert found.choices == tuple(CANDIDATES[int(row.argmax())] for row in theta)
    assert found.space == space
    assert found.head == space.heads[0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_found_network_meets_its_target(lut: Lut, share: float, seed: int) -> None:
    model = latency_model(lut)
    theta = 2 * torch.randn(22, 9, generator=torch.Generator().manual_seed(seed))
    target = model.fastest_ms + share * (model.slowest_ms - model.fastest_ms)
    found = derive_architecture(theta, model, lut, target)
    assert predict_latency(lut, found).ms <= target * (1 + 1e-12)
    free = derive_architecture(theta, model, lut)
    if predict_latency(lut, free).ms <= target:
        assert found == free


def test_a_budget_is_used_where_slower_is_more_probable(lut: Lut) -> None:
    model = latency_model(lut)
    theta = torch.randn(22, 9, generator=torch.Generator().manual_seed(6)) + 8 * model.layer_ms
    for share in (0.1, 0.3, 0.5):
        target = model.fastest_ms + share * (model.slowest_ms - model.fastest_ms)
        found = derive_architecture(theta, model, lut, target)
        assert 0.97 * target < predict_latency(lut, found).ms <= target


def test_the_fastest_networks_own_latency_is_a_target_that_can_be_met(lut: Lut) -> None:
    model = latency_model(lut)
    fastest = model.layer_ms.argmin(1).tolist()
    exact = predict_latency(lut, derive.architecture_of(lut.search_space, fastest)).ms
    found = derive_architecture(torch.zeros(22, 9), model, lut, exact)
    assert predict_latency(lut, found).ms <= exact


def test_a_target_that_nothing_meets_names_the_fastest(lut: Lut) -> None:
    model = latency_model(lut)
    with pytest.raises(BadRequest) as caught:
        derive_architecture(torch.zeros(22, 9), model, lut, 0.5 * model.fastest_ms)
    named = float(caught.value.message.split()[-2])
    assert model.fastest_ms <= named <= model.fastest_ms + 1e-4
    found = derive_architecture(torch.zeros(22, 9), model, lut, named)
    assert predict_latency(lut, found).ms <= named


def test_samples_follow_theta(space: SearchSpace) -> None:
    theta = torch.zeros(22, 9)
    theta[:, 8] = 3.0  # softmax: e³ / (e³ + 8) = 0.7152
    samples = sample_architectures(theta, space, 1000, seed=7)
    assert samples == sample_architectures(theta, space, 1000, seed=7)
    skips = sum(choice == SKIP for sample in samples for choice in sample.choices) / 22_000
    assert skips == pytest.approx(0.7152, abs=0.016)  # five standard errors of 22,000 draws
