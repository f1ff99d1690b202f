"""How often networks are right with a supernet's weights, without training any of them.

The weights were learnt for all networks together, so each is far less often right than it would be if it
were trained alone. What counts is who is ahead (single-path one-shot search; Guo et al., ECCV 2020, section
3.2). theta alone says what each layer does best beside all that others might do; this asks whole networks.
Where they are many, a few images tell which to ask about more (successive halving; Karnin, Koren and Somekh,
ICML 2013, in two rounds).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from fbnet_search.data.batches import batches
from fbnet_search.data.images import Split
from fbnet_search.supernet.network import Supernet
from latbench.space import CANDIDATES, Architecture

_IMAGES = 2000  # two networks that are right as often by these differ by 1.5 % at most, mostly
_FIRST_IMAGES = 500
_BATCH = 250  # both are whole batches; a rest would be normalised by statistics of few


def best_first(
    supernet: Supernet,
    networks: Sequence[Architecture],
    split: Split,
    numbers: Tensor,
    count: int,
) -> list[tuple[Architecture, float]]:
    """Return `count` networks with the share of images on which each is right, largest first.

    Of more networks than that, it is those that are right most often on 500 of the images.

    Args:
        supernet, split, numbers: as `by_shared_weights`'.
    """

    def ordered(some: Sequence[Architecture], images: int) -> list[tuple[Architecture, float]]:
        shares = by_shared_weights(supernet, some, split, numbers, images)
        return sorted(zip(some, shares, strict=True), key=lambda one: -one[1])

    if len(networks) > count:
        networks = [one for one, _ in ordered(networks, _FIRST_IMAGES)[:count]]
    return ordered(networks, _IMAGES)


def by_shared_weights(
    supernet: Supernet,
    networks: Sequence[Architecture],
    split: Split,
    numbers: Tensor,
    images: int = _IMAGES,
) -> list[float]:
    """Return the share of images on which each network is right with the supernet's weights.

    Batches are normalised by their own statistics, since no running ones belong to a single network.

    Args:
        supernet: left as it is.
        numbers: of the images to ask about.
        images: at most so many of them are taken, always the same.
    """
    judge = copy.deepcopy(supernet).train()
    device = next(iter(judge.weights())).device
    # A batch of one class, as folders are ordered, would have that class's statistics.
    generator = torch.Generator().manual_seed(0)
    taken = numbers[torch.randperm(len(numbers), generator=generator)[:images]]
    choices = [[CANDIDATES.index(choice) for choice in one.choices] for one in networks]
    right = [0] * len(networks)
    with torch.no_grad():
        for pixels, labels in batches(split, taken, _BATCH):
            x, y = pixels.to(device), labels.to(device)
            for number, logits in judge.each_alone(x, choices):
                right[number] += int((logits.argmax(1) == y).sum())
    return [count / len(taken) for count in right]
