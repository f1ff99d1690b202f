"""The continuous relaxation of the choices: Gumbel-softmax, and its restriction to few paths.

θ holds one logit for each candidate of each layer, shape (layers, candidates). A step draws weights
m = softmax((θ + g) / τ) with Gumbel noise g (Jang et al., ICLR 2017; used by Wu et al., CVPR 2019, section
3.3): as τ falls they tend to a one-hot sample of softmax(θ).
"""

import torch
from torch import Tensor


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise, -log(-log u) with u uniform in (0, 1)."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    return -torch.log(-torch.log(uniform.clamp_min(tiny))).float()


def gumbel_softmax(theta: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return weights m, shape (layers, candidates), which sum to 1 in each layer."""
    noise = gumbel_noise(tuple(theta.shape), generator).to(theta.device)
    return torch.softmax((theta + noise) / temperature, dim=-1)


def keep_paths(weights: Tensor, paths: int | None) -> Tensor:
    """Keep each layer's `paths` largest weights, rescaled to sum to 1, and set the others to 0.

    The largest Gumbel-softmax weights are a sample without replacement from softmax(θ), at any
    temperature. None keeps all. A single path has the weight 1 and a straight-through gradient, that of
    its weight in the full mixture (Dong and Yang, CVPR 2019, "Searching for a Robust Neural Architecture
    in Four GPU Hours"); otherwise θ would receive none.
    """
    if paths is None or paths >= weights.shape[-1]:
        return weights
    kept = torch.zeros_like(weights, dtype=torch.bool)
    kept.scatter_(-1, weights.detach().topk(paths, dim=-1).indices, value=True)
    chosen = torch.where(kept, weights, torch.zeros_like(weights))
    if paths == 1:
        return chosen + (kept.to(chosen) - chosen).detach()
    return chosen / chosen.sum(-1, keepdim=True)
