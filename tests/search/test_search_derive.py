"""From θ to architectures: the most probable ones, without and with budgets."""

import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_search.choose.derive import (
    architecture_of,
    derive_architecture,
    finalists,
    sampled_on_all,
)
from fbnet_search.choose.program import Budget, most_probable_first
from fbnet_search.cost.constraints import Cost, costs_of, parse_constraints, require_affordable
from fbnet_search.cost.latency import LatencyModel, latency_model
from latbench.errors import BadRequest
from latbench.export import ArtifactStore, export_architecture
from latbench.lut import Lut, predict_latency
from latbench.runtime.registry import HOST_RUNTIMES, descriptor
from latbench.space import Architecture, SearchSpace
from latbench.space.architecture import random_architectures
from latbench.space.families.skip import SKIP
from latbench.target import Precision, Runtime

CANDIDATES = SearchSpace.named("fbnet").candidates

MakeLut = Callable[..., Lut]

#: Few distinct values, so that ties and equal sums are common; limits lie between their sums.
_COSTS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0])
_LOGITS = st.floats(-3, -0.25, allow_nan=False, width=32)


@st.composite
def _problems(draw: st.DrawFn) -> tuple[np.ndarray, LatencyModel, Budget]:
    """A small space: log-probabilities, latencies, and a budget with a floor and two other limits."""
    layers, candidates = draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def matrix(values: st.SearchStrategy[float]) -> np.ndarray:
        row = st.lists(values, min_size=candidates, max_size=candidates)
        return np.array(draw(st.lists(row, min_size=layers, max_size=layers)), dtype=np.float64)

    def limit() -> float:
        return 0.05 * draw(st.integers(2, 70)) + 0.025

    target = limit()
    costs = {
        "macs": Cost(matrix(_COSTS), 0.1, peak=False),
        "activations": Cost(matrix(_COSTS), 0.1, peak=True),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(costs))))
    budget = Budget(target, 0.6 * target, {kind: limit() for kind in chosen}, costs)
    return matrix(_LOGITS), LatencyModel(torch.from_numpy(matrix(_COSTS)), 0.05), budget


@settings(max_examples=150, deadline=None)
@given(_problems())
def test_within_all_limits_no_choice_is_more_probable(
    problem: tuple[np.ndarray, LatencyModel, Budget],
) -> None:
    logits, latency, budget = problem
    assert budget.target_ms is not None

    def probability(choices: tuple[int, ...]) -> float:
        return float(sum(logits[layer, choice] for layer, choice in enumerate(choices)))

    def within(choices: tuple[int, ...]) -> bool:
        ms = latency.of_choices(choices)
        assert budget.target_ms is not None
        return budget.least_ms <= ms <= budget.target_ms and all(
            budget.costs[kind].of(choices) <= limit for kind, limit in budget.limits.items()
        )

    layers, candidates = logits.shape
    by_force = sorted(
        filter(within, itertools.product(range(candidates), repeat=layers)),
        key=probability,
        reverse=True,
    )
    found = list(itertools.islice(most_probable_first(logits, latency, budget, budget.least_ms), 4))
    assert len(set(found)) == len(found) == min(4, len(by_force))
    assert all(map(within, found))
    wanted = [probability(choices) for choices in by_force[: len(found)]]
    assert [probability(choices) for choices in found] == pytest.approx(wanted, rel=1e-6)


def theta_of(lut: Lut, seed: int) -> torch.Tensor:
    """A θ that knows what it wants, as one at the end of a search."""
    shape = latency_model(lut).layer_ms.shape
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SPACES = [
    SearchSpace.named("fbnet-cifar", input_size=16, width=0.35),
    SearchSpace.named("fbnet-cifar"),
    SearchSpace.named("fbnet"),
    SearchSpace.named("fbnet", input_size=96, width=0.5),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_a_found_network_spends_its_budget_to_within_a_per_cent(
    make_lut: MakeLut, space: SearchSpace, share: float
) -> None:
    lut = make_lut(space)
    model = latency_model(lut)
    target = model.fastest_ms + share * (model.slowest_ms - model.fastest_ms)
    for seed in range(3):
        found = derive_architecture(theta_of(lut, seed), model, lut, Budget(target, 0.99 * target))
        assert 0.99 * target <= predict_latency(lut, found).ms <= target * (1 + 1e-12)


def test_a_target_above_what_is_wanted_or_possible_is_no_error(lut: Lut) -> None:
    model, theta = latency_model(lut), theta_of(lut, 0)
    target = 1.5 * model.slowest_ms
    found = derive_architecture(theta, model, lut, Budget(target, 0.99 * target))
    assert found == derive_architecture(theta, model, lut)


def test_a_theta_proportional_to_latency_is_solved_too(tiny_lut: Lut) -> None:
    # Here all but every network is as good as another that is as fast, which is hard for a solver.
    lut, model = tiny_lut, latency_model(tiny_lut)
    target = (model.fastest_ms + model.slowest_ms) / 2
    found = derive_architecture(4 * model.layer_ms, model, lut, Budget(target))
    assert 0.999 * target < predict_latency(lut, found).ms <= target


def test_without_a_budget_each_layer_takes_its_best(lut: Lut, space: SearchSpace) -> None:
    theta = torch.randn(22, 9, generator=torch.Generator().manual_seed(5))
    found = derive_architecture(theta, latency_model(lut), lut)
    assert found.choices == tuple(CANDIDATES[int(row.argmax())] for row in theta)
    assert found.space == space
    assert found.head == space.heads[0]


def test_finalists_differ_and_fall_in_probability(lut: Lut) -> None:
    model, theta = latency_model(lut), theta_of(lut, 1)
    target = (model.fastest_ms + model.slowest_ms) / 2
    budget = Budget(target, 0.99 * target)
    found = finalists(theta, model, lut, budget, 4)
    assert found[0] == derive_architecture(theta, model, lut, budget)
    assert len({one.notation for one in found}) == 4
    logits = torch.log_softmax(theta.double(), 1)
    chances = [
        sum(float(row[CANDIDATES.index(c)]) for row, c in zip(logits, one.choices, strict=True))
        for one in found
    ]
    assert chances == sorted(chances, reverse=True)


_A_THETA_AT_WHICH_HIGHS_SPEAKS = """
import torch
from fbnet_search.choose.derive import finalists
from fbnet_search.choose.program import Budget
from fbnet_search.cost.latency import latency_model
from tests.search.conftest import modelled_lut
from tests.search.tiny import tiny_space

lut = modelled_lut(tiny_space())
model = latency_model(lut)
target = model.fastest_ms + 0.7 * (model.slowest_ms - model.fastest_ms)
theta = 0.1 * torch.randn(6, 9, generator=torch.Generator().manual_seed(6))
print("found", len(finalists(theta, model, lut, Budget(target, 0.98 * target), 20)))
"""


def test_standard_output_holds_nothing_of_the_solver() -> None:
    command = [sys.executable, "-c", _A_THETA_AT_WHICH_HIGHS_SPEAKS]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "found 20\n"


def test_the_fastest_networks_own_latency_is_a_target_that_can_be_met(lut: Lut) -> None:
    model = latency_model(lut)
    fastest = model.layer_ms.argmin(1).tolist()
    exact = predict_latency(lut, architecture_of(lut.search_space, fastest)).ms
    found = derive_architecture(torch.zeros(22, 9), model, lut, Budget(exact, 0.99 * exact))
    assert predict_latency(lut, found).ms <= exact


def test_a_target_that_nothing_meets_names_the_fastest(lut: Lut) -> None:
    model = latency_model(lut)
    with pytest.raises(BadRequest) as caught:
        derive_architecture(torch.zeros(22, 9), model, lut, Budget(0.5 * model.fastest_ms))
    named = float(caught.value.message.split()[-2])
    assert model.fastest_ms <= named <= model.fastest_ms + 1e-4
    found = derive_architecture(torch.zeros(22, 9), model, lut, Budget(named))
    assert predict_latency(lut, found).ms <= named


def test_draws_follow_theta_and_are_the_same_with_the_same_seed(lut: Lut) -> None:
    theta = torch.zeros(22, 9)
    theta[:, 8] = 1.0  # softmax: e / (e + 8) = 0.2536; too flat to draw a network twice
    model = latency_model(lut)
    drawn = sampled_on_all(theta, [model], [lut], Budget(), 500, seed=7)
    assert drawn == sampled_on_all(theta, [model], [lut], Budget(), 500, seed=7)
    assert drawn != sampled_on_all(theta, [model], [lut], Budget(), 500, seed=8)
    skips = sum(choice == SKIP for one in drawn for choice in one.choices) / 11_000
    assert skips == pytest.approx(0.2536, abs=0.021)  # five standard errors of 11,000 draws


def test_draws_keep_the_budget_and_its_floor(lut: Lut, space: SearchSpace) -> None:
    model = latency_model(lut)
    target = float(model.of(torch.full((22, 9), 1 / 9)))
    costs = costs_of(["macs"], space, *FORMAT)
    macs = costs["macs"].fixed + float(costs["macs"].layers.mean(1).sum())
    budget = Budget(target, 0.98 * target, {"macs": macs}, costs)
    drawn = sampled_on_all(torch.zeros(22, 9), [model], [lut], budget, 50)
    assert len(set(drawn)) == len(drawn) == 50
    assert all(0.98 * target <= predict_latency(lut, one).ms <= target for one in drawn)
    assert all(one.macs <= macs for one in drawn)


def test_where_nothing_can_be_drawn_nothing_is(lut: Lut) -> None:
    theta = torch.zeros(22, 9)
    theta[:, 4] = 40.0  # one network, all but surely
    model = latency_model(lut)
    ms = model.of_choices([4] * 22)
    assert len(sampled_on_all(theta, [model], [lut], Budget(ms, 0.9 * ms), 5)) == 1
    assert not sampled_on_all(theta, [model], [lut], Budget(0.9 * ms), 5)
    assert not sampled_on_all(theta, [model], [lut], Budget(2 * ms, 1.5 * ms), 5)


# Constraints

KINDS = ("macs", "params", "activations", "bytes")
FORMAT = Runtime.TFLITE, Precision.FP32


SUFFIXES = ("", "K", "M", "G", "Ki", "Mi", "Gi")


def test_constraints_are_read_alone_and_together() -> None:
    assert parse_constraints(["macs<=300M, params <= 5.5M", "bytes<=2Mi"]) == {
        "macs": 3e8, "params": 5.5e6, "bytes": 2 * 2**20,
    }  # fmt: skip
    limits = [parse_constraints([f"bytes<=3{suffix}"])["bytes"] for suffix in SUFFIXES]
    assert limits == [3, 3e3, 3e6, 3e9, 3 * 2**10, 3 * 2**20, 3 * 2**30]


@pytest.mark.parametrize(
    "text", ["macs", "macs<300M", "macs<=fast", "flops<=3M", "macs<=1M,macs<=2M", "macs<=-1", ""]
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_constraints([text])


def spent(network: Architecture, costs: dict[str, Cost]) -> dict[str, float]:
    """What `network` costs, by kind."""
    choices = [CANDIDATES.index(choice) for choice in network.choices]
    return {kind: cost.of(choices) for kind, cost in costs.items()}


def test_a_choices_costs_are_those_of_its_network(tiny_space: SearchSpace) -> None:
    costs = costs_of(KINDS, tiny_space, *FORMAT)
    for network in random_architectures(tiny_space, 3, seed=2):
        told = spent(network, costs)
        assert (told["macs"], told["params"]) == (network.macs, network.params)


def test_a_peak_is_the_largest_cost_and_others_add_up() -> None:
    layers = np.array([[1.0, 5.0], [3.0, 2.0]])
    peak, total = Cost(layers, 4.0, peak=True), Cost(layers, 4.0, peak=False)
    assert [peak.of(choices) for choices in ((0, 0), (1, 0))] == [4, 5]
    assert (peak.least, peak.most) == (4, 5)
    assert [total.of(choices) for choices in ((0, 0), (1, 0))] == [8, 12]
    assert (total.least, total.most) == (7, 12)


def test_the_peak_holds_what_a_residual_block_keeps() -> None:
    # 8 -> 48 -> 48 -> 8 channels of 8x8: while the depthwise one runs, 8 + 48 + 48 are alive.
    space = SearchSpace.named("fbnet-cifar", input_size=8, width=0.35)
    layer = space.layers[2]
    assert (layer.in_channels, layer.out_channels, layer.stride, layer.height) == (8, 8, 1, 8)
    costs = costs_of(["activations"], space, *FORMAT)["activations"]
    assert costs.layers[2][[str(c) for c in CANDIDATES].index("k3e6")] == (8 + 48 + 48) * 64


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [(runtime, one) for runtime in HOST_RUNTIMES for one in descriptor(runtime).precisions],
)
def test_predicted_bytes_are_those_of_the_exported_file(
    tmp_path_factory: pytest.TempPathFactory,
    space: SearchSpace,
    runtime: Runtime,
    precision: Precision,
) -> None:
    network = random_architectures(space, 1, seed=9)[0]
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    file = export_architecture(network, runtime, precision, store).path
    predicted = spent(network, costs_of(["bytes"], space, runtime, precision))["bytes"]
    assert predicted == pytest.approx(file.stat().st_size, rel=0.02)


def test_all_limits_are_kept_together_with_the_latency(lut: Lut) -> None:
    model, theta, space = latency_model(lut), theta_of(lut, 3), lut.search_space
    costs = costs_of(KINDS, space, *FORMAT)
    free = spent(derive_architecture(theta, model, lut), costs)
    target = model.fastest_ms + 0.35 * (model.slowest_ms - model.fastest_ms)
    limits = {kind: (0.7 if kind == "macs" else 0.9) * free[kind] for kind in KINDS}
    for chosen in (*((kind,) for kind in KINDS), KINDS):
        some = {kind: limits[kind] for kind in chosen}
        found = derive_architecture(theta, model, lut, Budget(limits=some, costs=costs))
        told = spent(found, costs)
        assert all(told[kind] <= limit for kind, limit in some.items())
    everything = Budget(target, 0.98 * target, limits, costs)
    found = derive_architecture(theta, model, lut, everything)
    assert predict_latency(lut, found).ms <= target
    told = spent(found, costs)
    assert all(told[kind] <= limit for kind, limit in limits.items())


def test_limits_that_nothing_keeps_are_refused(lut: Lut) -> None:
    costs = costs_of(["macs", "activations"], lut.search_space, *FORMAT)
    for kind in costs:
        with pytest.raises(
            BadRequest, match=f"{kind} must be at least [0-9]+, the least of any network"
        ):
            require_affordable({kind: costs[kind].least - 1}, costs)
    model = latency_model(lut)
    budget = Budget(limits={kind: cost.least for kind, cost in costs.items()}, costs=costs)
    require_affordable(budget.limits, costs)
    # The fastest network does not have the most MACs.
    negative = {"macs": Cost(-costs["macs"].layers, 0.0, peak=False)}
    apart = Budget(model.fastest_ms, 0.0, {"macs": negative["macs"].least}, negative)
    with pytest.raises(BadRequest, match="together"):
        derive_architecture(torch.zeros(22, 9), model, lut, apart)
