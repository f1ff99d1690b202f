"""Killed, damaged and diverging runs: a resumed run continues identically."""

import json
import math
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fbnet_search import Recipe, TrainRecipe, search, train
from fbnet_search.data.images import ImageData
from fbnet_search.run.recipe import Progress
from latbench.errors import BadRequest, LatbenchError
from latbench.lut import Lut
from latbench.space import SearchSpace
from latbench.space.architecture import random_architectures

#: Eight steps: two of w in each epoch, one of θ in all but the first.
SHORT = replace(Recipe.named("digits"), epochs=3, warmup_epochs=1, batch=48)
TRAINING = replace(TrainRecipe.named("digits"), epochs=4, batch=48)

FORK = multiprocessing.get_context("fork")  # a child need not import PyTorch again


def events_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


class KillAfter:
    """Progress that kills its own process, as kill -9 does, after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(run: Callable[..., object], after_s: float | None = None, **arguments: object) -> bool:
    """Call `run` in a process of its own, killed after so many seconds; whether it was killed."""
    child = FORK.Process(target=run, kwargs=arguments)
    child.start()
    child.join(after_s)
    child.kill()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def test_a_search_killed_at_random_steps_ends_bit_for_bit_as_one_that_was_not(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    longer = replace(SHORT, batch=16, epochs=4)  # 30 steps
    search(micro_lut, few_digits, whole, recipe=longer)

    def run(**options: Any) -> None:
        search(micro_lut, few_digits, parted, recipe=longer, **options)

    # At 20 steps, the next one or the one after it; then to the end.
    apart = [1] * 12 + [2] * 8
    random.shuffle(apart)
    for number, steps in enumerate(apart):
        stop = KillAfter(steps)
        assert killed(run, resume=number > 0, checkpoint_s=0.0, progress=stop), apart[:number]
    assert not (parted / "architecture.json").exists()
    run(resume=True)
    same_search(whole, parted)


def test_a_search_killed_between_checkpoints_repeats_what_was_lost(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path, whole: Path
) -> None:
    def run(**options: Any) -> None:
        search(micro_lut, few_digits, tmp_path, recipe=SHORT, **options)

    # A checkpoint an epoch; the fourth step is in the middle of the second.
    assert killed(run, progress=KillAfter(4))
    run(resume=True)
    same_search(whole, tmp_path)


@pytest.fixture(scope="module")
def whole(micro_lut: Lut, few_digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was not interrupted."""
    out = tmp_path_factory.mktemp("whole")
    search(micro_lut, few_digits, out, recipe=SHORT)
    return out


def test_a_search_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path, whole: Path
) -> None:
    # Also while a checkpoint is written, as most of the time is spent on that here.
    parted = tmp_path / "parted"
    started = time.perf_counter()
    search(micro_lut, few_digits, tmp_path / "timed", recipe=SHORT)
    took = time.perf_counter() - started

    def run() -> None:
        resume = (parted / "checkpoint.pt").exists()
        search(micro_lut, few_digits, parted, recipe=SHORT, resume=resume, checkpoint_s=0.0)

    for _ in range(3):
        killed(run, after_s=random.uniform(0.2, 0.8) * took)
    run()
    same_search(whole, parted)


def same_search(whole: Path, parted: Path) -> None:
    files = [(out / "architecture.json").read_bytes() for out in (whole, parted)]
    assert files[0] == files[1]
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (whole, parted)]
    for name, tensor in states[0]["module"].items():
        assert torch.equal(tensor, states[1]["module"][name]), name
    epochs = [
        [
            {**event, "time": 0, "seconds": 0, "input": {}}
            for event in events_of(out)
            if event["event"] == "epoch"
        ]
        for out in (whole, parted)
    ]
    assert [event["epoch"] for event in epochs[1]] == list(range(1, len(epochs[0]) + 1))
    assert epochs[0] == epochs[1]


def test_a_training_killed_at_random_steps_ends_bit_for_bit_as_one_that_was_not(
    tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    network = random_architectures(tiny_space, 1, seed=3)[0]
    whole, parted = tmp_path / "whole", tmp_path / "parted"

    def run(out: Path, **options: Any) -> None:
        train(network, few_digits, out, recipe=TRAINING, export=False, **options)

    run(whole)
    for number in range(3):
        stop = KillAfter(random.randint(1, 3))
        assert killed(run, out=parted, resume=number > 0, checkpoint_s=0.0, progress=stop)
    run(parted, resume=True)
    weights = [torch.load(out / "weights.pth", weights_only=True) for out in (whole, parted)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    told = [json.loads((out / "training.json").read_text()) for out in (whole, parted)]
    assert all(one.pop("seconds") > 0 for one in told)
    assert told[0] == told[1]
    with pytest.raises(BadRequest, match="with other settings") as caught:
        run(parted, resume=True, seed=1)
    assert caught.value.details[0].startswith("seed: ")


def test_the_last_three_checkpoints_are_kept(whole: Path) -> None:
    names = ["checkpoint.pt", "checkpoint.1.pt", "checkpoint.2.pt"]
    assert sorted(path.name for path in whole.glob("checkpoint*")) == sorted(names)
    states = [torch.load(whole / name, weights_only=True) for name in names]
    assert [state["epoch"] for state in states] == [3, 2, 1]


# Divergence


class NotANumberAt:
    """Cross-entropy that is not a number in some of its calls."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.count = calls, 0
        self.real = functional.cross_entropy

    def __call__(self, *args: Any, **options: Any) -> torch.Tensor:
        self.count += 1
        return self.real(*args, **options) * (math.nan if self.count in self.calls else 1.0)


def test_a_search_that_diverges_goes_back_and_on_at_half_the_rates(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        functional, "cross_entropy", NotANumberAt(5)
    )  # θ's step of the second epoch
    found = search(micro_lut, few_digits, tmp_path, recipe=SHORT)
    assert math.isfinite(found.expected_ms)
    (back,) = (event for event in events_of(tmp_path) if event["event"] == "rollback")
    assert back["why"] == "the cross-entropy became nan in theta-step 1 of epoch 2"
    assert (back["epoch"], back["rates"]) == (1, 0.5)
    epochs = [event["epoch"] for event in events_of(tmp_path) if event["event"] == "epoch"]
    assert epochs == [1, 2, 3]
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    rate = state["optimizers"]["theta"]["param_groups"][0]["lr"]
    assert rate == SHORT.theta_rate / 2
    assert all(value.isfinite().all() for value in state["module"].values())


def test_a_search_that_always_diverges_fails_with_the_step_and_keeps_a_finite_checkpoint(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    hopeless = replace(SHORT, weight_rate=1e9)
    with pytest.raises(LatbenchError, match=r"the cross-entropy became .* in w-step") as caught:
        search(micro_lut, few_digits, tmp_path, recipe=hopeless)
    assert "after 3 rollbacks, each of which halved the learning rates" in caught.value.message
    assert [event["event"] for event in events_of(tmp_path)].count("rollback") == 3
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["module"].values())
    assert not (tmp_path / "architecture.json").exists()


def test_a_training_that_diverges_goes_back_too(
    tiny_space: SearchSpace,
    few_digits: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(functional, "cross_entropy", NotANumberAt(4))
    network = random_architectures(tiny_space, 1, seed=3)[0]
    trained = train(network, few_digits, tmp_path, recipe=TRAINING, export=False)
    assert math.isfinite(trained.train_loss)
    (back,) = (e for e in events_of(tmp_path / "training") if e["event"] == "rollback")
    assert back["why"] == "the cross-entropy became nan in step 1 of epoch 2"
