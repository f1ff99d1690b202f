"""A search on two processes finds the same as on one, and resumes when it is restarted."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fbnet_search import Recipe, search
from fbnet_search.cost.latency import latency_model
from fbnet_search.data.images import ImageData
from fbnet_search.run.distributed import joined, share_batch_norms
from fbnet_search.run.passes import threads
from fbnet_search.run.recipe import Progress
from fbnet_search.supernet.network import Supernet
from fbnet_search.supernet.relaxation import gumbel_softmax
from latbench.lut import Lut

#: All candidates in the first epoch, then two; batches that do not part evenly among two.
RECIPE = replace(
    Recipe.named("digits"), epochs=2, warmup_epochs=1, batch=33, warmup_paths=9, gradient_clip=1.0
)

FORK = multiprocessing.get_context("fork")  # a child need not import PyTorch again


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def under_torchrun(run: Callable[[], object], restarts: int = 0) -> list[int | None]:
    """Call `run` in two processes with the variables torchrun sets; their exit codes."""
    port = str(free_port())

    def child(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "TORCHELASTIC_RESTART_COUNT": str(restarts),
        }  # fmt: skip
        run()

    children = [FORK.Process(target=child, args=(rank,)) for rank in range(2)]
    for one in children:
        one.start()
    for one in children:
        one.join(100)
        one.kill()
    return [one.exitcode for one in children]


def thetas(out: Path) -> torch.Tensor:
    state: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    theta: torch.Tensor = state["module"]["thetas.0"]
    return theta


class StopAfter:
    """Progress that ends its process after some steps, as one that is killed."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(9)


def test_two_processes_that_are_started_again_find_the_theta_of_one(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    import torch._dynamo  # which DistributedDataParallel loads: once here, not in every child

    alone, parted = tmp_path / "alone", tmp_path / "parted"
    target_ms = 1.3 * latency_model(micro_lut).fastest_ms

    def run(out: Path, progress: StopAfter | None = None) -> None:
        search(
            micro_lut, few_digits, out, recipe=RECIPE, seed=1, target_ms=target_ms, checkpoint_s=0.0,
            progress=progress,
        )  # fmt: skip

    run(alone)
    assert under_torchrun(lambda: run(parted, StopAfter(5)))[0] == 9  # in the second w-pass
    assert not (parted / "architecture.json").exists()
    assert under_torchrun(lambda: run(parted), restarts=1) == [0, 0]
    # Sums are rounded in another order: 1e-3 of a step of θ, which is 0.2. (Adam's first step has the
    # gradient's sign alone, so a gradient of the size of rounding may go either way: none here.)
    assert torch.allclose(thetas(parted), thetas(alone), atol=2e-4)
    assert thetas(alone).abs().max() > 0.1
    assert (parted / "architecture.json").exists()
    # One process writes: a start or a resumption, two epochs, the end.
    events = [json.loads(line) for line in (parted / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", "epoch", "resume", "epoch", "end"]
    assert events[0]["processes"] == 2


def test_in_double_precision_a_step_of_two_processes_is_that_of_one(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    import torch._dynamo  # which DistributedDataParallel loads

    pixels = few_digits.train.images.read(list(range(31))).double() / 127.5 - 1
    labels = few_digits.train.labels[:31]
    mix = gumbel_softmax(torch.zeros(3, 9), 5.0, torch.Generator().manual_seed(0)).double()

    def gradients(out: Path) -> None:
        with threads(1), joined("cpu") as peers:  # OpenMP's others do not outlive a fork
            torch.manual_seed(3)
            supernet = Supernet(micro_lut.search_space, 10).double().train()
            network = supernet
            if not peers.alone:
                share_batch_norms(supernet)
                for layer in supernet.layers:
                    layer.fused = False
                network = peers.parallel(supernet)
            own = torch.tensor_split(torch.arange(31), peers.world)[peers.rank]
            share, count = peers.share(len(own))
            assert count == 31
            loss = functional.cross_entropy(network(pixels[own], mix), labels[own])
            (share * loss).backward()
            if peers.first:
                torch.save({n: p.grad for n, p in supernet.named_parameters()}, out)

    alone, parted = tmp_path / "alone.pt", tmp_path / "parted.pt"
    gradients(alone)
    assert under_torchrun(lambda: gradients(parted)) == [0, 0]
    ours, theirs = (torch.load(one, weights_only=True) for one in (alone, parted))
    assert sum(gradient is not None for gradient in ours.values()) > 50
    for name, gradient in ours.items():
        if gradient is not None:
            assert torch.allclose(gradient, theirs[name], rtol=1e-9, atol=1e-12), name


def test_two_processes_go_on_when_weights_are_exactly_0(
    micro_lut: Lut, few_digits: ImageData, tmp_path: Path
) -> None:
    # So cold that most candidates of the whole mixture have no weight, and so no gradient.
    cold = replace(
        RECIPE, paths=9, last_paths=9, changing_paths=9, temperature=1e-3, temperature_decay=0.0
    )
    drawn = gumbel_softmax(torch.zeros(3, 9), cold.temperature, torch.Generator().manual_seed(1))
    assert (drawn == 0).sum() > 9
    target_ms = 1.3 * latency_model(micro_lut).fastest_ms
    alone, parted = tmp_path / "alone", tmp_path / "parted"

    def run(out: Path) -> None:
        search(micro_lut, few_digits, out, recipe=cold, seed=1, target_ms=target_ms)

    run(alone)
    assert under_torchrun(lambda: run(parted)) == [0, 0]
    assert torch.allclose(thetas(parted), thetas(alone), atol=2e-4)
    assert thetas(alone).abs().max() > 0.1
