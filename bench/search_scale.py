"""What a search step costs against candidates and layers: `python bench/search_scale.py`.

A w-step and a θ-step of supernets with 1 to 9 candidates a layer computed (`paths`), and with 4 to 22
layers of one shape, timed in turns. A straight line is fitted to the medians of each; what is printed
is the cost of one more and how far the points are from the line, at most. Linear is what it should be:
nothing is shared between candidates, and nothing is computed twice.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from fbnet_search.relaxation import gumbel_softmax
from fbnet_search.supernet import Supernet
from latbench.space import SearchSpace
from latbench.space.fbnet import MacroArchitecture, Stage

SIZE, CHANNELS = 16, 32


def of_layers(layers: int) -> SearchSpace:
    """A space of so many equal layers."""
    stages = (Stage(CHANNELS, layers, 1),)
    macro = MacroArchitecture("even", (SIZE,), 8, CHANNELS, 1, stages, (64,), 10)
    return SearchSpace(macro, SIZE, 1.0, 10)


class Timed:
    """A supernet and a batch, whose pair of steps is timed."""

    def __init__(self, layers: int, paths: int, batch: int) -> None:
        self.net = Supernet(of_layers(layers), 10).computed_on(torch.device("cpu"))
        self.paths, self.seconds = paths, list[float]()
        self.images = torch.randn(batch, 3, SIZE, SIZE).contiguous(
            memory_format=torch.channels_last
        )
        self.labels = torch.randint(10, (batch,))
        self.generator = torch.Generator().manual_seed(0)

    def pair(self) -> None:
        started = time.perf_counter()
        self._backward()
        with self.net.frozen_weights():
            self._backward()
        self.seconds.append(time.perf_counter() - started)

    def _backward(self) -> None:
        self.net.zero_grad()
        mix = gumbel_softmax(self.net.theta, 5.0, self.generator)
        logits = self.net(self.images, mix, self.paths, self.paths)
        functional.cross_entropy(logits, self.labels).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{CHANNELS} channels at {SIZE}x{SIZE}, batch {options.batch}, 1 thread, "
        f"PyTorch {torch.__version__}, {platform.machine()}, {options.rounds} rounds"
    )
    paths, layers = (1, 2, 3, 5, 7, 9), (4, 8, 12, 17, 22)
    by_paths = [Timed(8, count, options.batch) for count in paths]
    by_layers = [Timed(count, 9, options.batch) for count in layers]
    for number in range(options.rounds + 1):
        for one in (*by_paths, *by_layers):
            one.pair()
            if not number:
                one.seconds.clear()  # that was the warm-up
    _line("paths of 8 layers", paths, by_paths)
    _line("layers of 9 paths", layers, by_layers)


def _line(what: str, counts: Sequence[int], subjects: Sequence[Timed]) -> None:
    medians = np.array([statistics.median(one.seconds) for one in subjects]) * 1e3
    slope, start = np.polyfit(counts, medians, 1)
    fitted = start + slope * np.array(counts)
    print(f"{what}: {start:.1f} ms and {slope:.2f} ms for each")
    for count, median, value in zip(counts, medians, fitted, strict=True):
        print(f"  {count:3} {median:8.1f} ms   {median / value - 1:+.1%} off the line")


if __name__ == "__main__":
    main()
