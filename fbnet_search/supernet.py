"""The supernet: every layer computes all its candidates and mixes what they give.

The mixing weights come from outside (`fbnet_search.relaxation`), so that one forward pass serves
w-steps, θ-steps and tests. No weights are shared between candidates or layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fbnet_search.relaxation import keep_paths
from latbench.space import CANDIDATES, OpKind, OpSpec, SearchSpace
from latbench.space.blocks import InvertedResidual, build_op


class MixedLayer(nn.Module):
    """One searchable layer: the weighted sum of its candidates."""

    def __init__(self, ops: list[OpSpec | None]) -> None:
        super().__init__()
        self.has_identity = None in ops
        self.candidates = nn.ModuleList(nn.Identity() if op is None else build_op(op) for op in ops)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Map (N, C, H, W) and weights (candidates,) to the mixture.

        A candidate of weight 0 is not computed; it could give no gradient either.
        """
        kept = [number for number, weight in enumerate(weights.tolist()) if weight != 0.0]
        mixture: Tensor = weights[kept[0]] * self.candidates[kept[0]](x)
        for number in kept[1:]:
            mixture = mixture + weights[number] * self.candidates[number](x)
        return mixture


class Supernet(nn.Module):
    """All networks of a space at once.

    Args:
        space: the search space; the head has the space's default width.
        classes: of the data; the classifier has as many outputs.

    `theta` holds the architecture logits, shape (layers, candidates), all 0 at first: every network
    is equally probable.
    """

    def __init__(self, space: SearchSpace, classes: int) -> None:
        super().__init__()
        head, pool, classifier = space.head_ops()
        self.theta = nn.Parameter(torch.zeros(len(space.layers), len(CANDIDATES)))
        self.stem = build_op(space.stem)
        self.layers = nn.ModuleList(
            MixedLayer([space.op(layer, candidate) for candidate in CANDIDATES])
            for layer in space.layers
        )
        self.head = nn.Sequential(
            build_op(head),
            build_op(pool),
            build_op(OpSpec(OpKind.CLASSIFIER, classifier.in_channels, classes)),
        )
        start_as_identity(self)

    def forward(self, images: Tensor, weights: Tensor, paths: int | None = None) -> Tensor:
        """Map images (N, 3, S, S) and weights (layers, candidates) to logits (N, classes).

        With `paths`, only so many candidates are computed in layers whose skip is the identity.
        The others change the shape, so their candidates agree on nothing to begin with: what came
        out of a few of them would be other features at every step, from which no later layer
        could learn.
        """
        x = self.stem(images)
        for layer, layer_weights in zip(self.layers, weights, strict=True):
            assert isinstance(layer, MixedLayer)
            x = layer(x, keep_paths(layer_weights, paths if layer.has_identity else None))
        logits: Tensor = self.head(x)
        return logits

    def weights(self) -> list[nn.Parameter]:
        """The parameters called w: all but θ."""
        return [parameter for name, parameter in self.named_parameters() if name != "theta"]

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Within this context gradients are computed for θ only, which halves a θ-step."""
        for parameter in self.weights():
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.weights():
                parameter.requires_grad_(True)


def start_as_identity(module: nn.Module) -> None:
    """Make every residual block in `module` compute its input, by a last BN scale of 0.

    Without it 22 layers hardly begin to learn within a short search. (Goyal et al., "Accurate,
    Large Minibatch SGD", 2017, section 5.1.)
    """
    for block in module.modules():
        if isinstance(block, InvertedResidual) and block.residual:
            last = block.layers[-1]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)


@torch.no_grad()
def probabilities(theta: Tensor) -> Tensor:
    """Return softmax(θ) over each layer's candidates, float64, shape (layers, candidates)."""
    return torch.softmax(theta.detach().double(), dim=-1)
