"""Rank networks by their accuracy with the supernet's shared weights, without training any of them.

Shared weights were trained for all networks together, so these accuracies are far below those of networks
trained alone; only their order counts (single-path one-shot search; Guo et al., ECCV 2020, section 3.2).
θ rates each candidate in combination with all alternatives of the other layers; this rates whole networks.
Of many networks, a few images preselect those that are rated on more (successive halving in two rounds;
Karnin, Koren and Somekh, ICML 2013).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from fbnet_search.cost.choices import choices_of
from fbnet_search.data.batches import batches
from fbnet_search.data.images import Split
from fbnet_search.supernet.network import Supernet
from latbench.space import Architecture

_IMAGES = 2000  # the difference of two equally good networks is then below 1.5 %, mostly
_FIRST_IMAGES = 500
_BATCH = 250  # divides both, as BN statistics of a small last batch would be noisy


def rank(
    supernet: Supernet,
    networks: Sequence[Architecture],
    split: Split,
    numbers: Tensor,
    count: int,
) -> list[tuple[Architecture, float]]:
    """Return the `count` best networks with their accuracies on 2000 images, the best first.

    If there are more than `count`, 500 of the images preselect.

    Args:
        supernet, split, numbers: as for `shared_weight_accuracies`.
    """

    def ordered(some: Sequence[Architecture], images: int) -> list[tuple[Architecture, float]]:
        accuracies = shared_weight_accuracies(supernet, some, split, numbers, images)
        return sorted(zip(some, accuracies, strict=True), key=lambda one: -one[1])

    if len(networks) > count:
        networks = [one for one, _ in ordered(networks, _FIRST_IMAGES)[:count]]
    return ordered(networks, _IMAGES)


def shared_weight_accuracies(
    supernet: Supernet,
    networks: Sequence[Architecture],
    split: Split,
    numbers: Tensor,
    images: int = _IMAGES,
) -> list[float]:
    """Return the accuracy, 0 to 1, of each network with the supernet's weights.

    BN uses the statistics of each batch, since no single network has running ones.

    Args:
        supernet: not modified.
        numbers: of the images to test on, shape (count,).
        images: the largest number of them to use; the same subset each time.
    """
    evaluated = copy.deepcopy(supernet).train()
    device = next(iter(evaluated.weights())).device
    # Shuffled, since the images of a folder are ordered by class, which would bias BN statistics.
    generator = torch.Generator().manual_seed(0)
    subset = numbers[torch.randperm(len(numbers), generator=generator)[:images]]
    choices = [choices_of(one) for one in networks]
    right = [0] * len(networks)
    with torch.no_grad():
        for pixels, labels in batches(split, subset, _BATCH):
            x, y = pixels.to(device), labels.to(device)
            for number, logits in evaluated.each_alone(x, choices):
                right[number] += int((logits.argmax(1) == y).sum())
    return [count / len(subset) for count in right]
