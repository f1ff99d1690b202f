"""The supernet: each layer computes its candidates and returns their weighted sum.

The mixing weights are an argument (`fbnet_search.supernet.relaxation` draws them), so one forward pass
serves w-steps, θ-steps and tests. No weights are shared between candidates or layers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor, nn

from fbnet_search.cost.choices import allowed_choices, only_allowed, op_table
from fbnet_search.supernet.fused import fused_block, is_fusible, units_of
from fbnet_search.supernet.relaxation import keep_paths
from latbench.space import OpSpec, SearchSpace
from latbench.space.blocks import build_op
from latbench.space.modules import Block, ResidualUnit


class MixedLayer(nn.Module):
    """One searchable layer: the weighted sum of its candidates.

    Args:
        ops: of all candidates of the space; None for an identity.
        allowed: which of them this layer has; the weight of the others is always 0.
    """

    def __init__(self, ops: Sequence[OpSpec | None], allowed: Sequence[bool]) -> None:
        super().__init__()
        own = [op for op, has in zip(ops, allowed, strict=True) if has]
        self.has_identity = None in own
        self.fused = True
        self.candidates = nn.ModuleList(
            nn.Identity() if op is None or not has else build_op(op)
            for op, has in zip(ops, allowed, strict=True)
        )
        self._units = [
            units_of(candidate) if is_fusible(candidate) else None for candidate in self.candidates
        ]

    def forward(self, x: Tensor, weights: Tensor, kept: Sequence[int] | None = None) -> Tensor:
        """Map (N, C, H, W) and weights (candidates,) to the mixture.

        Only the candidates `kept`, by default those whose weight is not 0, are computed; the others
        contribute neither values nor gradients. In training, unless `fused` is False, they are computed
        by `fbnet_search.supernet.fused`.
        """
        kept = nonzero_indices(weights) if kept is None else kept
        terms: list[Tensor] = []
        passed: list[Tensor] = []  # weights of identities and residual connections, which add x
        for number in kept:
            candidate, units = self.candidates[number], self._units[number]
            if isinstance(candidate, nn.Identity):
                passed.append(weights[number])
            elif units is None or not (self.fused and self.training):
                terms.append(weights[number] * candidate(x))
            else:
                terms.append(fused_block(units, x, weights[number]))
                if candidate.residual:
                    passed.append(weights[number])
        if passed:
            terms.append(torch.stack(passed).sum() * x)
        mixture = terms[0]
        for term in terms[1:]:
            mixture = mixture + term
        return mixture


class Supernet(nn.Module):
    """All networks of a space at once.

    Args:
        space: the search space; the head has the space's default width.
        classes: number of classes of the data, and of outputs.
        searches: number of searches that share the weights, each with its own θ.

    `thetas` hold the architecture logits, each of shape (layers, candidates), initially 0: all networks
    are equally probable. Images may be of any size, as the modules hold no shapes of the space's input.
    """

    def __init__(self, space: SearchSpace, classes: int, searches: int = 1) -> None:
        super().__init__()
        *features, classifier = space.head_ops()
        self.allowed = allowed_choices(space)
        self.thetas = nn.ParameterList(
            torch.zeros(tuple(self.allowed.shape)) for _ in range(searches)
        )
        first, *fixed = map(build_op, space.stem_ops)
        self.stem = nn.Sequential(first, *fixed) if fixed else first
        self.layers = nn.ModuleList(
            MixedLayer(row, has.tolist())
            for row, has in zip(op_table(space), self.allowed, strict=True)
        )
        self.head = nn.Sequential(
            *map(build_op, features),
            build_op(replace(classifier, out_channels=classes)),
        )
        start_as_identity(self)

    def forward(
        self,
        images: Tensor,
        weights: Tensor,
        paths: int | None = None,
        changing_paths: int | None = None,
    ) -> Tensor:
        """Map images (N, 3, S, S) and weights (layers, candidates) to logits (N, classes).

        `paths` limits the number of candidates computed in layers whose skip is the identity,
        `changing_paths` in layers that change the shape. In the latter no candidate passes its input on,
        so different samples of a few candidates yield unrelated features, from which later layers hardly
        learn.
        """
        changes = torch.tensor([not layer.has_identity for layer in self.layers])[:, None]
        weights = torch.where(
            changes.to(weights.device),
            keep_paths(weights, changing_paths),
            keep_paths(weights, paths),
        )
        kept = [nonzero_indices(row) for row in weights]
        weights = weights.to(images.device)  # one transfer; θ is on the CPU, like the LUT
        x = self.stem(images)
        for layer, row, numbers in zip(self.layers, weights, kept, strict=True):
            x = layer(x, row, numbers)
        logits: Tensor = self.head(x)
        return logits

    def each_alone(
        self, images: Tensor, networks: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the index and the logits (N, classes) of each of `networks`, in any order.

        Layers that several networks share from the stem on are computed once; for that the inputs of all
        layers are kept. Batch norm is in the mode of the supernet.

        Args:
            images: (N, 3, S, S).
            networks: one candidate index for each layer.
        """
        whole = torch.ones(self.allowed.shape[1], device=images.device)
        inputs = [self.stem(images)]  # of each layer and the head, for the network before
        before: Sequence[int] = ()
        for number in sorted(range(len(networks)), key=lambda number: tuple(networks[number])):
            choices = networks[number]
            pairs = zip(before, choices, strict=False)
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            del inputs[shared + 1 :]
            for layer, choice in zip(self.layers[shared:], choices[shared:], strict=True):
                inputs.append(layer(inputs[-1], whole, [choice]))
            before = choices
            yield number, self.head(inputs[-1])

    def computed_on(self, device: torch.device) -> "Supernet":
        """Move w to `device` in channels_last; θ stays on the CPU."""
        for part in (self.stem, self.layers, self.head):
            part.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def logits(self, number: int) -> Tensor:
        """θ of a search, with -inf where a layer lacks the candidate; shape (layers, candidates)."""
        return only_allowed(self.thetas[number], self.allowed)

    @property
    def theta(self) -> nn.Parameter:
        """θ of the first search, or of the only one."""
        theta: nn.Parameter = self.thetas[0]
        return theta

    def weights(self) -> list[nn.Parameter]:
        """The parameters w: all but θ."""
        named = self.named_parameters()
        return [parameter for name, parameter in named if not name.startswith("thetas.")]

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Compute gradients for θ only within this context, which halves the cost of a θ-step."""
        for parameter in self.weights():
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.weights():
                parameter.requires_grad_(True)


def nonzero_indices(weights: Tensor) -> list[int]:
    """The indices of the candidates whose weight is not 0."""
    return [number for number, weight in enumerate(weights.tolist()) if weight != 0.0]


def start_as_identity(module: nn.Module) -> None:
    """Initialise every residual block in `module` to the identity: the scale of its last BN is 0.

    Without it a network of 22 layers hardly learns within a short search (Goyal et al., "Accurate, Large
    Minibatch SGD", 2017, section 5.1).
    """
    for block in module.modules():
        if isinstance(block, Block | ResidualUnit) and (last := block.last_norm) is not None:
            nn.init.zeros_(last.weight)


@torch.no_grad()
def probabilities(theta: Tensor) -> Tensor:
    """Return softmax(θ) over each layer's candidates, float64, shape (layers, candidates)."""
    return torch.softmax(theta.detach().cpu().double(), dim=-1)
