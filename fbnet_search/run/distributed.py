"""One search on several processes and hosts, each step of which is that of one process on the same batch.

    torchrun --nproc-per-node 4 --no-python fbnet-search --lut ... --out ...

Each process computes its part of every batch. So that a step differs by rounding alone, BN takes the
statistics of the whole batch, gradients are averaged over images, and all random numbers are drawn
from the same seeds everywhere. Weights are averaged by PyTorch's DistributedDataParallel. The supernet
fits into one process's memory many times over, so nothing is to be won by sharding it (FSDP).

Only the first process reads and writes the output folder. One that is started again by torchrun goes
on from the newest checkpoint there, with as many processes as there are now.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Peers:
    """The processes of a run: this one's `rank`, from 0, of `world`; and where it computes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that reads and writes files."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.world == 1

    @property
    def restarted(self) -> bool:
        """Whether torchrun started this process again after one had failed."""
        return is_restarted()

    def share(self, images: int) -> tuple[float, int]:
        """What to multiply the mean loss over this process's images by, and the images of all.

        The mean of the products over the processes is then the mean over all images.
        """
        if self.alone:
            return 1.0, images
        every = torch.tensor(images, dtype=torch.int64, device=self.device)
        dist.all_reduce(every)
        return images * self.world / int(every), int(every)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes."""
        values = values.detach().clone()
        if not self.alone:
            dist.all_reduce(values)
            values /= self.world
        return values

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace the gradients of `parameters` by their means over the processes."""
        if not self.alone:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(self.mean(parameter.grad))

    def broadcast(self, value: Any) -> Any:
        """What the first process gave; plain data and tensors."""
        if self.alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def parallel(self, network: nn.Module) -> nn.Module:
        """`network` as one whose weights' gradients, after backward, are means over the processes.

        Args:
            network: the supernet, whose θ is left out: it is averaged apart, on the CPU.

        Raises:
            RuntimeError: the processes' networks differ.
        """
        if self.alone:
            return network
        thetas = [name for name, _ in network.named_parameters() if name.startswith("thetas.")]
        buffers = [name for name, _ in network.named_buffers()]  # every process computes the same
        parallel = nn.parallel.DistributedDataParallel
        parallel._set_params_and_buffers_to_ignore_for_model(network, thetas + buffers)  # type: ignore[no-untyped-call]
        # Candidates that a step leaves out, or whose weight is 0 when it is cold, have no gradients.
        return parallel(network, find_unused_parameters=True)


def is_first() -> bool:
    """Whether this process is the first that torchrun started, or no other was."""
    return os.environ.get("RANK", "0") == "0"


def is_restarted() -> bool:
    """Whether torchrun started this process again after one had failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(compute: str) -> Iterator[Peers]:
    """The processes that torchrun started, or this one alone.

    Args:
        compute: the type of PyTorch's device: `cpu`, or that of an accelerator such as `cuda`.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(compute) if compute == "cpu" else torch.device(compute, local)
    if compute != "cpu":
        torch.accelerator.set_device_index(local)
    if world == 1 or dist.is_initialized():
        ready = dist.is_initialized()
        yield Peers(dist.get_rank() if ready else 0, dist.get_world_size() if ready else 1, device)
        return
    dist.init_process_group("gloo" if compute == "cpu" else None)
    try:
        yield Peers(dist.get_rank(), world, device)
    finally:
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes' images; on any device, unlike PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        # Sums and counts are not for the few digits of bfloat16.
        wide = torch.promote_types(x.dtype, torch.float32)
        values = torch.tensor([x.numel() / x.shape[1]], dtype=wide, device=x.device)
        sums = _sum(torch.cat([x.sum(axes, dtype=wide), values]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(axes, dtype=wide)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)


def share_batch_norms(module: nn.Module) -> None:
    """Let every BN in `module` take the statistics of all processes' images."""
    for one in module.modules():
        if type(one) is nn.BatchNorm2d:
            one.__class__ = SharedBatchNorm
