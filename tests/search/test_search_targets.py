"""Known optima on two targets, several targets in one run, several LUTs in one run."""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fbnet_search import Recipe, search
from fbnet_search.choose.derive import finalists, finalists_on_all
from fbnet_search.choose.program import Budget
from fbnet_search.cost.constraints import costs_of
from fbnet_search.cost.latency import LatencyModel, latency_model
from fbnet_search.data.images import ImageData
from fbnet_search.engine import search_front
from fbnet_search.run.distributed import Peers
from fbnet_search.supernet.network import Supernet, probabilities
from fbnet_search.supernet.relaxation import keep_paths
from fbnet_search.supernet.steps import Steps
from latbench.errors import BadRequest
from latbench.lut import Lut, predict_latency
from latbench.report.html.searching import search as drawn_front
from latbench.space import Architecture, OpSpec, SearchSpace, read_architecture
from latbench.target import Precision, Runtime

CANDIDATES = SearchSpace.named("fbnet").candidates

MakeLut = Callable[..., Lut]
SHORT = replace(Recipe.named("digits"), epochs=2, warmup_epochs=1, batch=48)


def middle(*luts: Lut, share: float = 0.4) -> float:
    """A target that is reached on all LUTs, at this share of the span of the slowest."""
    models = [latency_model(lut) for lut in luts]
    fastest, slowest = (
        max(getattr(m, name) for m in models) for name in ("fastest_ms", "slowest_ms")
    )
    return float(fastest + share * (slowest - fastest))


@pytest.fixture(scope="package")
def other_lut(make_lut: MakeLut, tiny_space: SearchSpace) -> Lut:
    """A LUT of the smallest space on which wide blocks are expensive and 5x5 ones are not."""

    def factor(op: OpSpec) -> float:
        return 0.6 * op.expansion if op.is_block else 1.0

    return make_lut(tiny_space, runtime=Runtime.ONNX, factor=factor)


# Planted optima


class Planted(nn.Module):
    """A supernet whose cross-entropy is a sum over the layers of what is lost by their candidates."""

    layers: tuple[nn.Module, ...] = ()

    def __init__(self, losses: Tensor) -> None:
        super().__init__()
        self.losses = losses
        self.thetas = nn.ParameterList([torch.zeros(losses.shape)])
        self.unused = nn.Parameter(torch.zeros(1))

    def computed_on(self, device: torch.device) -> "Planted":
        return self

    def logits(self, number: int) -> Tensor:
        theta: Tensor = self.thetas[number]
        return theta

    def weights(self) -> list[nn.Parameter]:
        return [self.unused]

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        yield

    def forward(self, images: Tensor, weights: Tensor, paths: int, changing: int) -> Tensor:
        lost = (keep_paths(weights, paths) * self.losses).sum()
        # Of logits (0, z) the first class's cross-entropy is ln(1 + e^z).
        logit = torch.log(torch.expm1(lost))
        return torch.stack([torch.zeros_like(logit), logit]).expand(len(images), 2)


def test_a_search_finds_the_network_that_is_best_on_its_own_target(
    tiny_lut: Lut, other_lut: Lut
) -> None:
    # What each candidate loses is planted: 0.01 to 0.25, in another order in every layer. The best
    # network on either LUT follows exactly. With seeds 0 to 5, 8 of the 12 were found, and the others
    # lost no more than an eighth of what separates the best network from the mean.
    generator = torch.Generator().manual_seed(5)
    orders = torch.stack([torch.randperm(9, generator=generator) for _ in range(6)])
    losses = 0.03 * orders + 0.01
    found = []
    for lut in (tiny_lut, other_lut):
        model, target = latency_model(lut), middle(lut)
        theta = searched(losses, model, target, 800)
        assert abs(float(model.of(probabilities(theta))) / target - 1) <= 0.02
        budget = Budget(target)
        found.append(finalists(theta, model, lut, budget, 1)[0])
        assert found[-1] == finalists(-100 * losses, model, lut, budget, 1)[0]
    ours, theirs = found
    assert ours != theirs
    too_slow = predict_latency(other_lut, ours).ms > middle(other_lut)
    assert too_slow or lost_by(losses, ours) > lost_by(losses, theirs)


def lost_by(losses: Tensor, network: Architecture) -> float:
    numbers = [CANDIDATES.index(choice) for choice in network.choices]
    return float(losses[torch.arange(len(numbers)), numbers].sum())


def searched(losses: Tensor, model: LatencyModel, target: float, steps: int) -> Tensor:
    """θ after so many of a search's own θ-steps, with budget.toml's paths and temperatures."""
    recipe = replace(Recipe.named("budget"), epochs=steps, warmup_epochs=0)
    recipe = replace(recipe, temperature_decay=1.79 / steps)
    planted, alone = Planted(losses), Peers(0, 1, torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    doing = Steps(planted, recipe, [model], [target], generator, alone)  # type: ignore[arg-type]
    images, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    for step in range(steps):
        doing.theta_step(images, labels, step, recipe.theta_rate, "a step")
    return planted.thetas[0]


# Several targets, several LUTs


def test_several_targets_share_one_supernet_and_each_gets_its_network(
    tiny_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    targets = [round(middle(tiny_lut, share=share), 4) for share in (0.2, 0.6)]
    found = search_front(tiny_lut, few_digits, tmp_path, recipe=SHORT, targets_ms=targets)
    assert [one.target_ms for one in found] == targets
    told = json.loads((tmp_path / "front.json").read_text())
    for one, target, row in zip(found, targets, told, strict=True):
        assert 0.99 * target <= one.prediction.ms <= target
        assert row["predicted_ms"] == one.prediction.ms
        file = tmp_path / row["folder"] / "architecture.json"
        assert read_architecture(str(file)) == one.architecture
    # The plot stands beside the table, and says the same.
    page = (tmp_path / "front.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert data is not None
    points = json.loads(data[1])[0]["points"]
    assert [one["label"] for one in points] == [row["folder"] for row in told]
    assert [one["x"] for one in points] == [row["predicted_ms"] for row in told]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "epoch"][-1]
    assert [last[f"expected_ms@{target:g}ms"] for target in targets] == [
        one.expected_ms for one in found
    ]
    # What the supernet says they are worth; what their trainings say, once there are some.
    accuracies = [last[f"theta_accuracy@{target:g}ms"] for target in targets]
    assert [one["y"] for one in points] == accuracies
    for row, accuracy in zip(told, (0.9, 0.8), strict=True):
        trained = {"architecture": {"layers": row["layers"]}, "test_accuracy": accuracy}
        (tmp_path / row["folder"] / "training.json").write_text(json.dumps(trained))

    def drawn() -> tuple[list[float], list[str]]:
        figure = drawn_front(tmp_path, {str(tiny_lut.target): tiny_lut}).figures[0]
        assert figure.chart is not None
        ys = [one["y"] for one in figure.chart.data["points"]]
        return ys, [row[-2] for row in figure.table.rows]

    assert drawn() == ([0.9, 0.8], ["yes", "no"])  # the slower is the worse
    # A training of what an earlier search found there tells nothing of this network.
    trained["architecture"] = {"layers": "skip"}
    (tmp_path / told[-1]["folder"] / "training.json").write_text(json.dumps(trained))
    assert drawn()[0] == accuracies
    with pytest.raises(BadRequest, match="first six digits"):
        search_front(tiny_lut, few_digits, tmp_path, recipe=SHORT, targets_ms=[0.2, 0.2000000001])
    with pytest.raises(BadRequest, match="None alone"):
        search_front(tiny_lut, few_digits, tmp_path, recipe=SHORT, targets_ms=[None, 0.2])
    # A search for one target in the same folder leaves no front that would be taken for its own.
    search(tiny_lut, few_digits, tmp_path, recipe=SHORT, target_ms=targets[0])
    assert (tmp_path / "architecture.json").exists()
    assert not list(tmp_path.glob("front.*"))


class _WithShare(Peers):
    """A process that has a share of every batch."""

    def __init__(self, share: float) -> None:
        super().__init__(0, 1, torch.device("cpu"))
        self._share = share

    def share(self, count: int) -> tuple[float, int]:
        return self._share, round(count / self._share)


def steps_of(*luts: Lut, searches: int = 1, share: float = 1.0) -> Steps:
    """The steps of some searches on `luts`, always from the same weights."""
    torch.manual_seed(7)
    return Steps(
        Supernet(luts[0].search_space, 10, searches).train(),
        replace(SHORT, gradient_clip=0.0),
        [latency_model(lut) for lut in luts],
        [1.0] * searches,
        torch.Generator().manual_seed(8),
        _WithShare(share),
    )


def w_step(steps: Steps, images: ImageData, number: int) -> None:
    pixels = images.train.images.read(list(range(24))).float() / 127.5 - 1
    steps.weight_step(pixels, images.train.labels[:24], 1, number, 0.01, "a step")


def test_w_is_trained_with_the_theta_of_each_search_in_turn(
    micro_lut: Lut, few_digits: ImageData
) -> None:
    steps = steps_of(micro_lut, searches=2)
    layers = steps.supernet.layers
    with torch.no_grad():
        for number, theta in enumerate(steps.supernet.thetas):
            theta[:, number] = 1e6  # each is sure of another candidate
    for number in range(4):
        w_step(steps, few_digits, number)
        for layer in layers:
            trained = [
                index
                for index, candidate in enumerate(layer.candidates)
                if any(one.grad is not None for one in candidate.parameters())
            ]
            assert trained == [number % 2]


def test_gradients_are_those_of_a_process_share_of_the_batch(
    micro_lut: Lut, few_digits: ImageData
) -> None:
    whole, part = steps_of(micro_lut), steps_of(micro_lut, share=0.25)
    for steps in (whole, part):
        w_step(steps, few_digits, 0)
    pairs = list(zip(whole.supernet.weights(), part.supernet.weights(), strict=True))
    trained = [(one.grad, other.grad) for one, other in pairs if one.grad is not None]
    assert len(trained) > 20
    for gradient, of_share in trained:
        assert of_share is not None
        assert torch.allclose(0.25 * gradient, of_share, rtol=1e-3, atol=1e-6)


def test_the_latency_of_weights_is_that_on_the_slowest_target(
    tiny_lut: Lut, other_lut: Lut
) -> None:
    models = [latency_model(lut) for lut in (tiny_lut, other_lut)]
    steps = steps_of(tiny_lut, other_lut)
    slowest = set()
    for candidate in range(len(CANDIDATES)):
        weights = torch.zeros(6, len(CANDIDATES), dtype=torch.float64)
        weights[:, candidate] = 1
        latencies = [float(model.of(weights)) for model in models]
        assert float(steps.latency_of(weights)) == max(latencies)
        slowest.add(latencies.index(max(latencies)))
    assert slowest == {0, 1}


def test_with_several_luts_the_target_holds_on_all(
    tiny_lut: Lut, other_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    both = [tiny_lut, other_lut]
    target = middle(*both)
    found = search(both, few_digits, tmp_path, recipe=SHORT, target_ms=target)
    slowest = max(predict_latency(lut, found.architecture).ms for lut in both)
    assert found.prediction.ms == slowest
    assert 0.99 * target <= slowest <= target
    told = json.loads((tmp_path / "architecture.json").read_text())
    assert told["predicted_ms"] == slowest
    for one, lut in zip(told["latencies"], both, strict=True):
        assert (one["target"], one["lut_sha256"]) == (str(lut.target), lut.content_sha256)
        assert (one["provenance"], one["lut_created"]) == ("modelled", lut.created.isoformat())
        assert one["predicted_ms"] == predict_latency(lut, found.architecture).ms
        assert one["predicted_low"] < one["predicted_ms"] < one["predicted_high"]
        assert one["measured_ms"] is None
        assert one["unmeasured"] == ""


def test_on_several_targets_no_network_is_more_probable(tiny_lut: Lut, other_lut: Lut) -> None:
    both = [tiny_lut, other_lut]
    models = [latency_model(lut) for lut in both]
    target = middle(*both)
    theta = 2 * torch.randn(6, 9, generator=torch.Generator().manual_seed(4))
    found = finalists_on_all(theta, models, both, Budget(target, 0.98 * target), 1)[0]
    chances = torch.log_softmax(theta.double(), 1)
    # By force: all 9^6 networks.
    grid = torch.cartesian_prod(*[torch.arange(9)] * 6)
    layers = torch.arange(6)
    times = (
        torch.stack([m.fixed_ms + m.layer_ms[layers, grid].sum(1) for m in models]).max(0).values
    )
    within = (times <= target) & (times >= 0.98 * target)
    best = chances[layers, grid].sum(1).masked_fill(~within, -torch.inf).argmax()
    assert [CANDIDATES.index(choice) for choice in found.choices] == grid[best].tolist()


def test_luts_of_different_spaces_are_refused(
    tiny_lut: Lut, lut: Lut, few_digits: ImageData
) -> None:
    with pytest.raises(BadRequest, match="must be of one space"):
        search([tiny_lut, lut], few_digits, "nowhere", target_ms=1.0)
    with pytest.raises(BadRequest, match="must be of different targets"):
        search([tiny_lut, tiny_lut], few_digits, "nowhere", target_ms=1.0)


def test_each_file_keeps_a_limit_of_bytes(
    make_lut: MakeLut, tiny_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    target = tiny_lut.target.model_copy(update={"precision": Precision.INT8})
    small = tiny_lut.model_copy(update={"target": target})
    assert small.search_space == tiny_lut.search_space
    formats = [(lut.target.runtime, lut.target.precision) for lut in (small, tiny_lut)]
    costs = [costs_of(["bytes"], tiny_lut.search_space, *one)["bytes"] for one in formats]
    assert costs[0].least < costs[1].least, "int8 is the smaller file"
    limit = 1.3 * costs[1].least
    # The most bytes are the likeliest, and the int8 file alone would let them through.
    found = search(
        [small, tiny_lut], few_digits, tmp_path, recipe=SHORT, constraints={"bytes": limit}
    )
    choices = [CANDIDATES.index(choice) for choice in found.architecture.choices]
    told = {name: one.spent for name, one in found.limits.items()}
    assert told == pytest.approx({
        "bytes of tflite int8": costs[0].of(choices),
        "bytes of tflite fp32": costs[1].of(choices),
    })  # fmt: skip
    assert costs[1].of(choices) <= limit
    least = math.ceil(costs[1].least)
    with pytest.raises(BadRequest, match=r"bytes of tflite int8 must be at least .*, got 9") as no:
        search([small, tiny_lut], few_digits, tmp_path, recipe=SHORT, constraints={"bytes": 9})
    assert no.value.hint == f"give --constraint 'bytes<={least}' or more"


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"flops": 3e8}, "unknown constraint 'flops'"),
        ({"macs": math.nan}, "limit of macs must be a positive number, got nan"),
        ({"macs": math.inf}, "limit of macs must be a positive number, got inf"),
        ({"macs": -1.0}, "limit of macs must be a positive number, got -1"),
    ],
)
def test_invalid_limits_are_refused(
    constraints: dict[str, float],
    said: str,
    tiny_lut: Lut,
    few_digits: ImageData,
    tmp_path: Path,
) -> None:
    with pytest.raises(BadRequest, match=said):
        search(tiny_lut, few_digits, tmp_path, recipe=SHORT, constraints=constraints)


def test_limits_that_nothing_keeps_together_are_refused_before_the_search(
    make_lut: MakeLut, tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    # The more there is to compute, the faster it is: no fast network has few weights.
    lut = make_lut(tiny_space, factor=lambda op: 1e9 / max(op.macs, 1) ** 2)
    costs = costs_of(["params"], tiny_space, lut.target.runtime, lut.target.precision)
    limits = {"params": 1.01 * costs["params"].least}
    out = tmp_path / "out"
    with pytest.raises(BadRequest, match="keeps all limits together"):
        search(
            lut,
            few_digits,
            out,
            recipe=SHORT,
            constraints=limits,
            target_ms=1.01 * latency_model(lut).fastest_ms,
        )
    assert not out.exists()
