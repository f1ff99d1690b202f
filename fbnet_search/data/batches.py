"""Batches of images: cropped, augmented and prefetched; the same for any number of processes.

All randomness of a batch derives from its pass's seed and its number. So the next batch can be prepared
while one is computed, a resumed pass continues identically, and each of several processes prepares its
own part of the batch that a single process would have seen.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fbnet_search.data.images import Split

#: Where a pass spends at least this share of its time waiting for images, the input is the bottleneck.
BOTTLENECK = 0.2

_ASPECT = (3 / 4, 4 / 3)  # of a random crop


@dataclass
class InputStats:
    """Input throughput of a pass: seconds spent preparing images, and seconds spent waiting for them."""

    images: int = 0
    prepared_s: float = 0.0
    waited_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def images_s(self) -> float:
        """Images per second that the pipeline can deliver; 0 before the first."""
        return self.images / self.prepared_s if self.prepared_s else 0.0

    @property
    def waiting(self) -> float:
        """Share of the elapsed time that was spent waiting for images."""
        return self.waited_s / max(time.perf_counter() - self.started, 1e-9)

    @property
    def bottleneck_note(self) -> str:
        """A suffix for the progress bar where the input is the bottleneck; else empty."""
        if self.waiting < BOTTLENECK or self.waited_s < 1:
            return ""
        return f", {self.waiting:.0%} waiting for images ({self.images_s:.0f}/s)"

    def to_dict(self) -> dict[str, float]:
        """The figures in `events.jsonl`."""
        return {"images_s": self.images_s, "waiting": self.waiting}


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images.

    With `crop_area` below 1, each image is a random crop of at least that share of the picture, as is
    usual for ImageNet (Szegedy et al., CVPR 2015, section 6; 0.08 there); otherwise it is shifted by up
    to an eighth of its size. `flips` mirrors half of the images.
    """

    crop_area: float = 1.0
    flips: bool = False


def batches(
    split: Split,
    numbers: Tensor,
    size: int,
    *,
    seed: int | None = None,
    augmentation: Augmentation | None = None,
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) of the split's `numbers`, in batches of about equal size up to `size`.

    Args:
        seed: of the augmentation; not needed without one.
        augmentation: None leaves the images unchanged.
        start: number of batches to skip.
        part: (rank, world): yield part `rank` of `world` equal parts of every batch.

    Yields:
        float images (N, 3, S, S) in channels_last, and int64 labels (N,).
    """
    rank, world = part
    chunks = torch.tensor_split(numbers, batch_count(len(numbers), size))
    for number, chunk in enumerate(chunks[start:], start):
        own = torch.tensor_split(torch.arange(len(chunk)), world)[rank]
        chosen = chunk[own]
        if augmentation is None:
            pixels = split.images.read(chosen.tolist())
        else:
            assert seed is not None
            generator = torch.Generator().manual_seed((seed + number) % 2**63)
            pixels = _augmented(split, chosen, own, len(chunk), augmentation, generator)
        images = pixels.float() / 127.5 - 1
        yield images.contiguous(memory_format=torch.channels_last), split.labels[chosen]


def batch_count(images: int, size: int) -> int:
    """The number of batches of up to `size` that `images` make."""
    return -(-images // size)


def read_ahead(
    source: Iterator[tuple[Tensor, Tensor]], stats: InputStats, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of `source`, each prepared in a thread while the one before is computed.

    `pinned` puts them in page-locked memory, from which an accelerator copies asynchronously.
    """

    def prepare() -> tuple[Tensor, Tensor] | None:
        started = time.perf_counter()
        batch = next(source, None)
        if batch is not None:
            if pinned:
                batch = batch[0].pin_memory(), batch[1].pin_memory()
            stats.images += len(batch[1])
            stats.prepared_s += time.perf_counter() - started
        return batch

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(prepare)
        while True:
            started = time.perf_counter()
            batch = coming.result()
            stats.waited_s += time.perf_counter() - started
            if batch is None:
                return
            coming = reader.submit(prepare)
            yield batch


def _augmented(
    split: Split,
    chosen: Tensor,
    own: Tensor,
    count: int,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Tensor:
    """The images `chosen`, at positions `own` of a batch of `count`, augmented; uint8 (N, 3, S, S)."""
    mirrored = torch.rand(count, generator=generator).lt(0.5 if augmentation.flips else 0.0)[own]
    if augmentation.crop_area < 1:
        boxes = _random_boxes(count, augmentation.crop_area, generator)[own]
        pixels = split.images.read(chosen.tolist(), boxes.tolist())
    else:
        drawn = torch.rand(count, 2, generator=generator)[own]
        pixels = _shifted(split.images.read(chosen.tolist()), drawn)
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


def _shifted(pixels: Tensor, drawn: Tensor) -> Tensor:
    """Shift each image by up to an eighth of its size, replicating edges; `drawn` is uniform in [0, 1)."""
    size = pixels.shape[-1]
    margin = size // 8
    padded = functional.pad(pixels.float(), (margin,) * 4, mode="replicate").to(pixels.dtype)
    down, right = (drawn * (2 * margin + 1)).long().unbind(1)
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # a view
    return windows[torch.arange(len(pixels)), :, down, right]


def _random_boxes(count: int, least: float, generator: torch.Generator) -> Tensor:
    """Boxes (left, top, right, bottom) as shares of the picture, shape (count, 4).

    The area is uniform in [least, 1], the logarithm of the aspect ratio uniform in [log 3/4, log 4/3];
    boxes are clipped to the picture.
    """
    area, aspect, x, y = torch.rand(4, count, generator=generator)
    low, high = (torch.tensor(ratio).log() for ratio in _ASPECT)
    ratio = (low + aspect * (high - low)).exp()
    area = least + area * (1 - least)
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    left, top = x * (1 - width), y * (1 - height)
    return torch.stack([left, top, left + width, top + height], 1)
