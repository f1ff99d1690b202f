"""A search on several processes and hosts; each step equals that of one process on the same batch.

    torchrun --nproc-per-node 4 --no-python fbnet-search --lut ... --out ...

Each process computes its part of every batch. So that a step differs by rounding only, BN uses the
statistics of the whole batch, gradients are averaged over images, and all processes draw random numbers
from the same seeds. Gradients of weights are averaged by PyTorch's DistributedDataParallel. The supernet
is small compared with activations, so sharding it (FSDP) would save nothing.

Only the first process reads and writes the output folder. Processes that torchrun restarts resume from
the newest checkpoint there, with as many processes as there are now.
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
    """The processes of a run: this one's `rank`, from 0, of `world`, and its compute device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that reads and writes files."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.world == 1

    @property
    def restarted(self) -> bool:
        """Whether torchrun restarted this process after one had failed."""
        return is_restarted()

    def share(self, images: int) -> tuple[float, int]:
        """The weight of this process's mean loss, and the number of images of all processes.

        The mean over the processes of the weighted losses is then the mean over all images.
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
        """The value of the first process; plain data and tensors."""
        if self.alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def parallel(self, network: nn.Module) -> nn.Module:
        """Wrap `network` so that backward averages the gradients of its weights over the processes.

        Args:
            network: the supernet; its θ is excluded, being averaged separately on the CPU.

        Raises:
            RuntimeError: the processes' networks differ.
        """
        if self.alone:
            return network
        thetas = [name for name, _ in network.named_parameters() if name.startswith("thetas.")]
        buffers = [name for name, _ in network.named_buffers()]  # equal in every process
        parallel = nn.parallel.DistributedDataParallel
        parallel._set_params_and_buffers_to_ignore_for_model(network, thetas + buffers)  # type: ignore[no-untyped-call]
        # Candidates that a step omits, or whose weight underflows to 0, have no gradients.
        return parallel(network, find_unused_parameters=True)


def is_first() -> bool:
    """Whether this process is the first that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def is_restarted() -> bool:
    """Whether torchrun restarted this process after one had failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(compute: str) -> Iterator[Peers]:
    """Join the processes that torchrun started, or run alone.

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
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

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
    """Batch norm over the images of all processes; unlike PyTorch's SyncBatchNorm it also runs on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        # bfloat16 has too few digits for sums and counts.
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
    """Make every BN in `module` use the statistics of all processes' images."""
    for one in module.modules():
        if type(one) is nn.BatchNorm2d:
            one.__class__ = SharedBatchNorm
