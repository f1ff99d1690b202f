"""The cost of a search step against candidates and layers: `python bench/search_scale.py`.

A w-step and a θ-step of supernets with k of 9 candidates computed in each layer, and with 4 to 22 layers of
one shape, are timed alternately. The k candidates are not random: in a round, a layer computes the candidates
(layer + round + j) mod 9 for j < k, so over nine rounds each layer computes every candidate k times. Thus
all counts compute the same mixture of cheap and expensive candidates, and deviations of the mean of nine
rounds from a line are real.

A point is the median of such means, one for each cycle of nine rounds, with minimum and maximum. A straight
line is fitted to the medians. The cost should be linear: candidates share nothing, and nothing is computed
twice.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from fbnet_search.supernet.network import Supernet
from latbench.space import SearchSpace
from latbench.space.definition import SpaceDefinition

CANDIDATES = SearchSpace.named("fbnet").candidates

SIZE, CHANNELS = 16, 32


def of_layers(layers: int) -> SearchSpace:
    """A space of that many equal layers."""
    definition = SpaceDefinition.model_validate(
        {
            "name": "even",
            "classes": 10,
            "input": SIZE,
            "stem": {"channels": CHANNELS},
            "stages": [{"channels": CHANNELS, "layers": layers}],
            "candidates": list(map(str, CANDIDATES)),
            "head": 64,
        }
    )
    return SearchSpace.of(definition)


class Timed:
    """A supernet and a batch, on which a pair of steps is timed."""

    def __init__(self, layers: int, paths: int, batch: int) -> None:
        self.net = Supernet(of_layers(layers), 10).computed_on(torch.device("cpu"))
        self.paths, self.seconds = paths, list[float]()
        self.images = torch.randn(batch, 3, SIZE, SIZE).contiguous(
            memory_format=torch.channels_last
        )
        self.labels = torch.randint(10, (batch,))

    def pair(self, number: int) -> None:
        """Time a pair with the candidates of a round."""
        kept = self._kept(number)
        started = time.perf_counter()
        self._backward(kept)
        with self.net.frozen_weights():
            self._backward(kept)
        self.seconds.append(time.perf_counter() - started)

    def cycles(self) -> list[float]:
        """Milliseconds of a pair, the mean of each cycle of nine rounds."""
        starts = range(0, len(self.seconds), len(CANDIDATES))
        return [1e3 * statistics.fmean(self.seconds[n : n + len(CANDIDATES)]) for n in starts]

    def _kept(self, number: int) -> torch.Tensor:
        """1 for the candidates that each layer computes, else 0; shape (layers, candidates)."""
        layers = torch.arange(len(self.net.layers))[:, None]
        position = (torch.arange(len(CANDIDATES)) - layers - number) % len(CANDIDATES)
        return (position < self.paths).float()

    def _backward(self, kept: torch.Tensor) -> None:
        self.net.zero_grad()
        chances = torch.softmax(self.net.theta, 1) * kept
        mix = chances / chances.sum(1, keepdim=True)
        functional.cross_entropy(self.net(self.images, mix), self.labels).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=3, help="number of cycles of nine rounds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{CHANNELS} channels at {SIZE}x{SIZE}, batch {options.batch}, 1 thread, "
        f"PyTorch {torch.__version__}, {platform.machine()}, {options.cycles} cycles of nine rounds"
    )
    paths, layers = (1, 2, 3, 5, 7, 9), (4, 8, 12, 17, 22)
    by_paths = [Timed(8, count, options.batch) for count in paths]
    by_layers = [Timed(count, 9, options.batch) for count in layers]
    everyone = [*by_paths, *by_layers]
    for one in everyone:
        one.pair(0)
        one.seconds.clear()  # that was the warm-up
    for number in range(options.cycles * len(CANDIDATES)):
        for one in everyone if number % 2 else reversed(everyone):
            one.pair(number)
    _line("paths of 8 layers", paths, by_paths)
    _line("layers of 9 paths", layers, by_layers)


def _line(what: str, counts: Sequence[int], workloads: Sequence[Timed]) -> None:
    cycles = [one.cycles() for one in workloads]
    medians = np.array([statistics.median(one) for one in cycles])
    slope, start = np.polyfit(counts, medians, 1)
    fitted = start + slope * np.array(counts)
    explained = 1 - np.sum((medians - fitted) ** 2) / np.sum((medians - medians.mean()) ** 2)
    off = medians / fitted - 1
    print(
        f"{what}: {start:.1f} ms and {slope:.2f} ms for each, R² {explained:.5f}, "
        f"at most {np.abs(off).max():.1%} off the line"
    )
    for count, median, cycle, one_off in zip(counts, medians, cycles, off, strict=True):
        bounds = f"[{min(cycle):.1f}, {max(cycle):.1f}]"
        print(f"  {count:3} {median:8.1f} ms  {bounds:20} {one_off:+.1%}")


if __name__ == "__main__":
    main()
