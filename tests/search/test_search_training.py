"""The training of one network: its learning rates, and what its accuracy is computed from."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fbnet_search import TrainRecipe
from fbnet_search.data.images import ImageData
from fbnet_search.run.passes import Pass
from fbnet_search.training.loop import TrainingLoop
from fbnet_search.training.retrain import evaluate
from latbench.space import SearchSpace
from latbench.space.architecture import random_architectures

RECIPE = replace(
    TrainRecipe.named("digits"), epochs=3, warmup_epochs=1, batch=40, rate=0.1, threads=1
)


def rates_of(loop: TrainingLoop) -> list[float]:
    """The learning rate of each step of a training."""
    rates: list[float] = []
    loop.run(False, math.inf, lambda _: rates.append(loop.optimizer.param_groups[0]["lr"]))
    return rates


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine(
    tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    network = random_architectures(tiny_space, 1, seed=3)[0]
    rates = rates_of(TrainingLoop(network, few_digits, RECIPE, 0, tmp_path))
    assert len(few_digits.train) == 3 * RECIPE.batch  # three steps an epoch
    cosines = [0.05 * (1 + math.cos(math.pi * step / 9)) for step in range(9)]
    assert rates[:3] == pytest.approx([cosines[0] / 3, cosines[1] * 2 / 3, cosines[2]])
    assert rates[3:] == pytest.approx(cosines[3:])


def test_each_rollback_halves_the_rates(
    tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    network = random_architectures(tiny_space, 1, seed=3)[0]
    loop = TrainingLoop(network, few_digits, RECIPE, 0, tmp_path)
    loop.rollbacks = 2
    assert loop.lr_scale == 0.25
    assert rates_of(loop)[2] == pytest.approx(0.25 * 0.05 * (1 + math.cos(math.pi * 2 / 9)))


def test_a_mean_counts_every_image_once() -> None:
    one = Pass(torch.arange(25), seed=0)
    one.record(20, torch.tensor(1.0), torch.tensor(0.5))
    one.record(5, torch.tensor(2.0), torch.tensor(1.0))
    assert one.means() == pytest.approx([(20 * 1 + 5 * 2) / 25, (20 * 0.5 + 5 * 1) / 25])


class _Always(nn.Module):
    """Answers every image with one class, and notes the mode that it is asked in."""

    def __init__(self, answer: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.answer, self.modes = answer, set[bool]()

    def forward(self, images: Tensor) -> Tensor:
        self.modes.add(self.training)
        return self.answer(len(images))


def test_the_accuracy_is_that_on_the_test_images_in_eval_mode(few_digits: ImageData) -> None:
    shares = [
        [
            float((split.labels == label).float().mean())
            for split in (few_digits.test, few_digits.train)
        ]
        for label in range(10)
    ]
    label = next(n for n, (test, training) in enumerate(shares) if abs(test - training) > 0.01)

    def answer(count: int) -> Tensor:
        return nn.functional.one_hot(torch.full((count,), label), 10).float()

    network = _Always(answer).train()
    assert evaluate(network, few_digits) == pytest.approx(shares[label][0])
    assert network.modes == {False}
    assert not network.training
