"""Ranking networks by their accuracy with the supernet's weights, and sampling them from θ."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fbnet_search import Recipe, search
from fbnet_search.choose.derive import finalists, sampled_on_all
from fbnet_search.choose.program import Budget
from fbnet_search.choose.ranking import rank, shared_weight_accuracies
from fbnet_search.cost.latency import latency_model
from fbnet_search.data.batches import batches
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData, Split
from fbnet_search.run.passes import two_parts
from fbnet_search.supernet.network import Supernet
from latbench.errors import BadRequest
from latbench.lut import Lut
from latbench.space import Architecture, SearchSpace

CANDIDATES = SearchSpace.named("fbnet").candidates

SHORT = replace(Recipe.named("digits"), epochs=2, warmup_epochs=1, batch=24)


def middle_ms(lut: Lut) -> float:
    model = latency_model(lut)
    return (model.fastest_ms + model.slowest_ms) / 2


def trained(lut: Lut, data: ImageData, out: Path) -> Supernet:
    """The supernet of the search in `out`."""
    supernet = Supernet(lut.search_space, len(data.classes))
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    supernet.load_state_dict(checkpoint["module"])
    return supernet


def test_the_network_ranked_first_is_chosen(
    tiny_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    target = middle_ms(tiny_lut)
    found = search(
        tiny_lut, few_digits, tmp_path, recipe=replace(SHORT, judged=8), target_ms=target
    )
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (judged,) = [event["networks"] for event in events if event["event"] == "judged"]
    assert found.architecture.notation == judged[0][0]
    shares = [share for _, share in judged]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) > 1, "or nothing was to choose"

    supernet = trained(tiny_lut, few_digits, tmp_path)
    budget = Budget(target, SHORT.target_share * target)
    probable = finalists(supernet.theta, latency_model(tiny_lut), tiny_lut, budget, 8)
    assert {one.notation for one in probable} == {notation for notation, _ in judged}
    _, numbers = two_parts(few_digits.train, SHORT.weight_share, 0)
    again = shared_weight_accuracies(supernet, probable, few_digits.train, numbers)
    assert dict(judged) == pytest.approx(
        {one.notation: share for one, share in zip(probable, again, strict=True)}
    )


def test_samples_are_ranked_together_with_the_most_probable(
    tiny_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    target = middle_ms(tiny_lut)
    recipe = replace(SHORT, judged=6, drawn=12)
    found = search(tiny_lut, few_digits, tmp_path, recipe=recipe, target_ms=target, seed=3)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (judged,) = [event["networks"] for event in events if event["event"] == "judged"]
    assert found.architecture.notation == judged[0][0]

    supernet = trained(tiny_lut, few_digits, tmp_path)
    budget = Budget(target, SHORT.target_share * target)
    model = latency_model(tiny_lut)
    probable = finalists(supernet.theta, model, tiny_lut, budget, 6)
    drawn = sampled_on_all(supernet.theta, [model], [tiny_lut], budget, 12, seed=3)
    every = list(dict.fromkeys([*probable, *drawn]))
    assert len(drawn) == 12
    assert len(every) > 12
    _, numbers = two_parts(few_digits.train, SHORT.weight_share, 3)
    asked = rank(supernet, every, few_digits.train, numbers, 6)
    assert [[one.notation, share] for one, share in asked] == judged
    assert {one for one, _ in asked} - set(probable), "or drawing them changed nothing"


def test_few_images_tell_which_networks_many_are_asked_of(tiny_lut: Lut) -> None:
    digits = open_data("digits", tiny_lut.search_space.input_size)
    space = tiny_lut.search_space
    torch.manual_seed(1)
    supernet = Supernet(space, len(digits.classes))
    draws = torch.randint(len(CANDIDATES), (9, len(space.layers))).tolist()
    networks = [
        Architecture(space, tuple(CANDIDATES[n] for n in row), space.heads[0]) for row in draws
    ]
    numbers = torch.arange(len(digits.train))
    assert len(numbers) > 500
    few = shared_weight_accuracies(supernet, networks, digits.train, numbers, 500)
    many = shared_weight_accuracies(supernet, networks, digits.train, numbers)
    assert few != many
    left = sorted(range(9), key=lambda n: -few[n])[:4]
    expected = sorted(((networks[n], many[n]) for n in left), key=lambda one: -one[1])
    assert rank(supernet, networks, digits.train, numbers, 4) == expected
    shares = [share for _, share in rank(supernet, networks, digits.train, numbers, 9)]
    assert shares == sorted(many, reverse=True)


def test_the_images_that_rank_are_the_same_random_part_each_time(
    tiny_lut: Lut, few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[torch.Tensor] = []

    def noted(split: Split, numbers: torch.Tensor, size: int) -> Iterator[Any]:
        parts.append(numbers)
        return batches(split, numbers, size)

    monkeypatch.setattr("fbnet_search.choose.ranking.batches", noted)
    labels = few_digits.train.labels
    by_class = torch.argsort(labels, stable=True)  # as the images of a folder are
    supernet = Supernet(tiny_lut.search_space, len(few_digits.classes))
    for _ in range(2):
        shared_weight_accuracies(supernet, [], few_digits.train, by_class, 60)
    assert torch.equal(parts[0], parts[1])
    assert len(set(parts[0].tolist())) == 60
    assert set(labels[parts[0]].tolist()) == set(labels.tolist())


def test_without_judging_the_most_probable_is_taken(
    tiny_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    target = middle_ms(tiny_lut)
    found = search(tiny_lut, few_digits, tmp_path, recipe=SHORT, target_ms=target)
    supernet = trained(tiny_lut, few_digits, tmp_path)
    budget = Budget(target, SHORT.target_share * target)
    (first,) = finalists(supernet.theta, latency_model(tiny_lut), tiny_lut, budget, 1)
    assert found.architecture == first
    assert '"judged"' not in (tmp_path / "events.jsonl").read_text().replace('"judged": 1', "")


def test_a_network_is_asked_alone_and_the_supernet_stays_as_it_is(
    tiny_lut: Lut, few_digits: ImageData
) -> None:
    space = tiny_lut.search_space
    torch.manual_seed(1)
    supernet = Supernet(space, len(few_digits.classes))
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    draws = torch.randint(len(CANDIDATES), (3, len(space.layers)))
    networks = [
        Architecture(space, tuple(CANDIDATES[n] for n in row), space.heads[0])
        for row in draws.tolist()
    ]
    numbers = torch.arange(120)
    shares = shared_weight_accuracies(supernet, networks, few_digits.train, numbers)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name]), name

    pixels = few_digits.train.images.read(numbers.tolist()).float() / 127.5 - 1
    supernet.train()
    for row, share in zip(draws, shares, strict=True):
        with torch.no_grad():
            logits = supernet(pixels, functional.one_hot(row, len(CANDIDATES)).float())
        right = logits.argmax(1).eq(few_digits.train.labels[numbers]).float().mean()
        assert share == pytest.approx(float(right), abs=0.011), "batches are in another order"


def test_networks_that_share_layers_compute_what_they_would_alone(
    tiny_lut: Lut, few_digits: ImageData
) -> None:
    space = tiny_lut.search_space
    torch.manual_seed(2)
    supernet = Supernet(space, len(few_digits.classes)).train()
    first = [0, 8, 1, 2, 8, 3]
    networks = [first, [1] * 6, [*first[:3], 4, 5, 6], first, [*first[:5], 7], [2, *first[1:]]]
    images = few_digits.train.images.read(list(range(20))).float() / 127.5 - 1
    with torch.no_grad():
        told = dict(supernet.each_alone(images, networks))
        assert sorted(told) == list(range(len(networks)))
        for number, choices in enumerate(networks):
            mix = functional.one_hot(torch.tensor(choices), len(CANDIDATES)).float()
            assert torch.equal(told[number], supernet(images, mix))


def test_invalid_numbers_of_networks_to_rank_are_refused() -> None:
    with pytest.raises(BadRequest, match="judged must be at least 1, got 0"):
        replace(SHORT, judged=0)
    with pytest.raises(BadRequest, match=r"drawn must be 0 where judged is 1, .* got 9"):
        replace(SHORT, drawn=9)
