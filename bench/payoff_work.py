"""The journal of the payoff bench, and the work that its processes do: searches, trainings, rankings."""

import functools
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.payoff_networks import middle, space
from fbnet_search import Recipe, TrainRecipe, train
from fbnet_search.choose.ranking import shared_weight_accuracies
from fbnet_search.cost.latency import latency_model
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData, Split
from fbnet_search.engine import search_front
from fbnet_search.supernet.network import Supernet
from latbench.errors import LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut
from latbench.runtime.registry import HOST_RUNTIMES
from latbench.space import Architecture
from latbench.target import Runtime

#: Tasks by their name in the journal: a function and its arguments.
Tasks = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]


@dataclass(frozen=True)
class Scale:
    """The size of the bench.

    `mape` is the largest mean error, per cent, of the LUT for which networks are compared;
    `transfer_mape` that of the others, whose networks differ by more than a tenth.
    """

    searches: int = 3
    transfer_searches: int = 1
    search_epochs: int = 6
    random: int = 12
    ranked: int = 20
    train_epochs: int = 5
    train_seeds: int = 2
    images: int | None = None
    ci: float = 0.01
    measuring_s: float = 120.0
    network_s: float = 15.0
    runtimes: tuple[Runtime, ...] = HOST_RUNTIMES
    mape: float = 2.0
    transfer_mape: float = 4.0


QUICK = Scale(1, 1, 2, 3, 8, 1, 1, 320, 0.05, 5.0, 1.0, (Runtime.TFLITE, Runtime.ONNX), 50.0, 50.0)
FINALISTS = 5  # of a search, of which one is chosen by measurement
SHARES = (0.75, 1.0)  # of the median latency: the targets of each search in `worth`


class Journal:
    """Results by name; each is computed once and kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, key: str, result: Any) -> Any:
        self.results[key] = result
        write_atomically(self._path, json.dumps(self.results, indent=1, sort_keys=True) + "\n")
        print(f"{key}: {json.dumps(result)[:150]}", flush=True)
        return result

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        if key in self.results:
            return self.results[key]
        return self.keep(key, compute())

    def all(self, jobs: int, tasks: Tasks) -> None:
        """Run the tasks without a result, `jobs` at a time, each in a process with one thread.

        Raises:
            LatbenchError: a task failed; the results of the others are kept.
        """
        left = {key: task for key, task in tasks.items() if key not in self.results}
        if not left:
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, initializer=_started) as pool:
            doing = {pool.submit(_done, *task): key for key, task in left.items()}
            failed: list[BaseException] = []
            for done in as_completed(doing):
                error = done.exception()
                if error is None:
                    self.keep(doing[done], done.result())
                else:
                    failed.append(error)
        if failed:
            raise failed[0]


def _started() -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # an orphan would write to the folder of the next run

    threading.Thread(target=follow, daemon=True).start()


def _done(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Run the work; an error is converted to one that can be pickled."""
    try:
        return work(*arguments)
    except LatbenchError as error:
        raise LatbenchError(error.message) from None


@functools.lru_cache(maxsize=1)
def data_of(name: str, images: int | None) -> ImageData:
    data = open_data(name, 32)
    if images is None:
        return data

    def some(split: Split, count: int) -> Split:
        step = max(1, len(split) // count)
        numbers = torch.arange(0, len(split), step)
        pixels = split.images.read(numbers.tolist())
        return Split(_Pixels(pixels), split.labels[numbers])

    return replace(data, train=some(data.train, images), test=some(data.test, images))


class _Pixels:
    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    @property
    def size(self) -> int:
        return self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Sequence[int], boxes: Any = None) -> torch.Tensor:
        assert boxes is None
        return self.pixels[list(numbers)]


def searched(
    lut: str, data: str, out: str, scale: Scale, seed: int, shares: Sequence[float]
) -> dict[str, Any]:
    """Search at some shares of the LUT's median latency; the networks, and figures of every epoch."""
    loaded = Lut.load(lut)
    recipe = replace(Recipe.named("budget").stretched(scale.search_epochs), threads=1)
    folder = Path(out)
    middle_ms = middle(latency_model(loaded))
    results = search_front(
        loaded, data_of(data, scale.images), folder, recipe=recipe, seed=seed,
        targets_ms=[share * middle_ms for share in shares],
        resume=(folder / "checkpoint.pt").exists(), checkpoint_s=60.0,
    )  # fmt: skip
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    course = [event for event in events if event["event"] == "epoch"]
    judged = [event["networks"] for event in events if event["event"] == "judged"]
    names = ("epoch", "phase", "w_loss", "seconds")
    of_each = ("theta_accuracy", "expected_ms", "entropy")
    return {
        "found": {
            str(share): {
                "layers": result.architecture.notation,
                "predicted_ms": result.prediction.ms,
                "target_ms": result.target_ms,
                "finalists": [layers for layers, _ in networks[:FINALISTS]],
                "course": [
                    {name: event.get(name) for name in names}
                    | {name: event.get(f"{name}@{result.target_ms:g}ms") for name in of_each}
                    for event in course
                ],
            }
            for share, result, networks in zip(shares, results, judged[-len(shares) :], strict=True)
        }
    }


def trained(layers: str, data: str, out: str, scale: Scale, seed: int) -> float:
    """The test accuracy of a network trained alone."""
    network = Architecture.parse(layers, space())
    recipe = replace(TrainRecipe.named("budget").stretched(scale.train_epochs), threads=1)
    images = data_of(data, scale.images)
    begun = (Path(out) / "training" / "checkpoint.pt").exists()
    result = train(network, images, out, recipe=recipe, seed=seed, export=False, resume=begun)
    return result.test_accuracy


def ranked(layers: Sequence[str], data: str, checkpoint: str, scale: Scale) -> list[float]:
    """The accuracies of networks on test images with a supernet's weights."""
    images = data_of(data, scale.images)
    supernet = Supernet(space(), len(images.classes), len(SHARES))
    state = torch.load(checkpoint, weights_only=True)["module"]
    supernet.load_state_dict(state)
    networks = [Architecture.parse(one, space()) for one in layers]
    return shared_weight_accuracies(supernet, networks, images.test, torch.arange(len(images.test)))
