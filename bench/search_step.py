"""The cost of a search step against the plain nine-way mixture: `python bench/search_step.py`.

The reference is what public implementations compute: sum over candidates of m[i] * candidate_i(x), in NCHW,
with gradients of w and θ in both kinds of step. Compared with it, alternating in one run:

    pair        a w-step and a θ-step of `fbnet_search`, which give the same gradients (checked first)
    one path    the same with one sampled candidate in every layer (`paths = 1`)

and the bytes that the graph stores for a w-step's gradients. Ratios are computed for each round; printed are
their median, minimum and maximum. `--device cuda` (or another accelerator of PyTorch) runs there, with
`--bf16` in bfloat16.
"""

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_search.supernet.network import MixedLayer, Supernet
from fbnet_search.supernet.relaxation import gumbel_softmax
from latbench.space import SearchSpace


class PlainMixture(nn.Module):
    """The reference: the weighted sum of all candidates of a layer, each computed by its own module."""

    def __init__(self, layer: MixedLayer) -> None:
        super().__init__()
        self.candidates = layer.candidates

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        terms = [weight * op(x) for weight, op in zip(weights, self.candidates, strict=True)]
        return torch.stack(terms).sum(0) if len(terms) == 1 else sum(terms[1:], terms[0])


class PlainSupernet(nn.Module):
    """The same weights as a `Supernet`, each layer the plain mixture."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.stem, self.head, self.thetas = supernet.stem, supernet.head, supernet.thetas
        self.layers = nn.ModuleList(PlainMixture(layer) for layer in supernet.layers)

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        x = self.stem(images)
        for layer, layer_weights in zip(self.layers, weights, strict=True):
            x = layer(x, layer_weights)
        logits: Tensor = self.head(x)
        return logits


class Workload:
    """A w-step and a θ-step of one implementation, on one batch."""

    def __init__(
        self, network: nn.Module, images: Tensor, labels: Tensor, *, paths: int | None, bf16: bool
    ) -> None:
        self.network, self.images, self.labels = network, images, labels
        self.paths, self.bf16, self.plain = paths, bf16, isinstance(network, PlainSupernet)
        self.generator = torch.Generator().manual_seed(0)
        weights = [
            one for name, one in network.named_parameters() if not name.startswith("thetas.")
        ]
        foreach = None if self.plain else True
        self.weight_optimizer = torch.optim.SGD(
            weights, 0.01, momentum=0.9, weight_decay=1e-4, foreach=foreach
        )
        self.theta_optimizer = torch.optim.Adam([network.thetas[0]], 0.01)

    def loss(self, learns: str) -> Tensor:
        mix = gumbel_softmax(self.network.thetas[0], 5.0, self.generator)
        mix = mix.detach() if learns == "w" else mix
        kind = self.images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.bf16):
            if self.plain:
                logits = self.network(self.images, mix.to(self.images.device))
            else:
                logits = self.network(self.images, mix, self.paths, self.paths)
        return functional.cross_entropy(logits.float() if self.bf16 else logits, self.labels)

    def weight_step(self) -> None:
        self.weight_optimizer.zero_grad()
        self.loss("w").backward()
        self.weight_optimizer.step()

    def theta_step(self) -> None:
        self.theta_optimizer.zero_grad()
        if self.plain:
            self.loss("theta").backward()
            self.weight_optimizer.zero_grad()
        else:
            with self.network.frozen_weights():
                self.loss("theta").backward()
        self.theta_optimizer.step()

    def pair(self) -> None:
        self.weight_step()
        self.theta_step()

    def kept_bytes(self) -> int:
        """Bytes that the graph of a w-step stores, without parameters and images."""
        kept: dict[int, int] = {}
        own = {one.untyped_storage().data_ptr() for one in self.network.parameters()}
        own |= {one.untyped_storage().data_ptr() for one in self.network.buffers()}
        own.add(self.images.untyped_storage().data_ptr())

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss("w")
        loss.backward()
        return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--space", default="fbnet", help="name of the search space")
    parser.add_argument("--input", type=int, default=112)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, or another accelerator")
    parser.add_argument("--bf16", action="store_true", help="run fbnet_search's steps in bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(0)
    macro = SearchSpace.named(options.space)
    multiple = macro.macro.input_multiple
    size = max(multiple, options.input // multiple * multiple)
    space = SearchSpace.named(options.space, input_size=size, width=options.width)
    supernet = Supernet(space, 10).computed_on(device)
    supernet.to(memory_format=torch.contiguous_format)
    plain = PlainSupernet(copy.deepcopy(supernet))
    ours = copy.deepcopy(supernet).computed_on(device)
    single = copy.deepcopy(ours)
    images = torch.randn(options.batch, 3, size, size, device=device)
    labels = torch.randint(10, (options.batch,), device=device)
    last = images.contiguous(memory_format=torch.channels_last)
    reference = Workload(plain, images, labels, paths=None, bf16=False)
    workloads = {
        "pair": Workload(ours, last, labels, paths=None, bf16=options.bf16),
        "one path": Workload(single, last, labels, paths=1, bf16=options.bf16),
    }
    print(
        f"{space}, batch {options.batch}, {device}, {options.threads} thread(s), "
        f"PyTorch {torch.__version__}, {platform.machine()}, {options.rounds} rounds"
    )
    print(f"gradients in float64 differ by at most {_difference(supernet, images, labels):.1e}")
    kept, plain_kept = workloads["pair"].kept_bytes(), reference.kept_bytes()
    print(
        f"stored for gradients: {kept / 2**20:.0f} MiB, plain {plain_kept / 2**20:.0f} MiB, "
        f"ratio {kept / plain_kept:.2f}"
    )
    _timed(reference, workloads, options.rounds, device)


def _difference(supernet: Supernet, images: Tensor, labels: Tensor) -> float:
    """The largest difference of a w-step's and a θ-step's gradients, relative to the largest."""
    ours = copy.deepcopy(supernet).double()
    plain = PlainSupernet(copy.deepcopy(ours))
    worst = 0.0
    for learns in ("w", "theta"):
        gradients = []
        for network in (plain, ours):
            workload = Workload(network, images.double(), labels, paths=None, bf16=False)
            workload.loss(learns).backward()
            named = network.named_parameters()
            gradients.append({name: p.grad for name, p in named if p.grad is not None})
            network.zero_grad()
        assert gradients[0].keys() == gradients[1].keys()
        scale = max(float(one.norm()) for one in gradients[0].values())
        for name, one in gradients[0].items():
            worst = max(worst, float((one - gradients[1][name]).norm()) / scale)
    return worst


def _timed(
    reference: Workload, workloads: dict[str, Workload], rounds: int, device: torch.device
) -> None:
    parts: dict[str, Callable[[Workload], None]] = {
        "w": Workload.weight_step, "theta": Workload.theta_step
    }  # fmt: skip
    seconds: dict[tuple[str, str], list[float]] = {}
    everyone = {"plain": reference, **workloads}
    for number in range(rounds + 1):  # the first warms up
        for name, workload in everyone.items():
            for part, step in parts.items():
                _wait(device)
                started = time.perf_counter()
                step(workload)
                _wait(device)
                if number:
                    taken = time.perf_counter() - started
                    seconds.setdefault((name, part), []).append(taken)
    for name in everyone:
        for part in (*parts, "pair"):
            ours, plain = (_of(seconds, one, part) for one in (name, "plain"))
            ratios = sorted(b / a for a, b in zip(ours, plain, strict=True))
            print(
                f"{name:9} {part:6} {statistics.median(ours) * 1e3:9.1f} ms   "
                f"{statistics.median(ratios):5.2f}x  [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
            )


def _of(seconds: dict[tuple[str, str], list[float]], name: str, part: str) -> list[float]:
    if part != "pair":
        return seconds[name, part]
    return [sum(both) for both in zip(seconds[name, "w"], seconds[name, "theta"], strict=True)]


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


if __name__ == "__main__":
    main()
