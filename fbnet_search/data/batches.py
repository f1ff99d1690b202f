"""Batches of images: cut, augmented and read ahead, the same ones however many processes take part.

What is random about a batch follows from its pass's seed and its number alone. So it can be prepared
while the one before is computed, a resumed pass goes on as it would have, and of several processes
each prepares its own part of the batch that one process would have seen.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fbnet_search.data.images import Split

#: A pass that waits longer than this share of its time is held up by its images.
BOTTLENECK = 0.2

_ASPECT = (3 / 4, 4 / 3)  # of a random crop


@dataclass
class Intake:
    """How fast images came: seconds spent on preparing them, and spent waiting for them."""

    images: int = 0
    prepared_s: float = 0.0
    waited_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def images_s(self) -> float:
        """Images a second that the pipeline can give; 0 before the first."""
        return self.images / self.prepared_s if self.prepared_s else 0.0

    @property
    def waiting(self) -> float:
        """The share of the time so far that was spent waiting for images."""
        return self.waited_s / max(time.perf_counter() - self.started, 1e-9)

    @property
    def told(self) -> str:
        """What a progress bar adds when images hold a pass up; empty when they do not."""
        if self.waiting < BOTTLENECK or self.waited_s < 1:
            return ""
        return f", {self.waiting:.0%} waiting for images ({self.images_s:.0f}/s)"

    def to_dict(self) -> dict[str, float]:
        """What events tell of it."""
        return {"images_s": self.images_s, "waiting": self.waiting}


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    With `crop_area` below 1, each is a random crop of at least that share of the picture, as is usual
    for ImageNet (Szegedy et al., CVPR 2015, section 6; 0.08 there); else it is shifted by up to an
    eighth of its size. `flips` mirrors half of them.
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
        seed: of what is random in the augmentation; it is not needed without.
        augmentation: None leaves the images as they are.
        start: batches to leave out at the beginning.
        part: (which, of how many) parts of every batch to give.

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
    """How many batches of up to `size` hold `images`."""
    return -(-images // size)


def read_ahead(
    source: Iterator[tuple[Tensor, Tensor]], intake: Intake, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what `source` yields; the next batch is prepared while one is worked on.

    `pinned` puts it where an accelerator copies it from without waiting.
    """

    def prepare() -> tuple[Tensor, Tensor] | None:
        started = time.perf_counter()
        batch = next(source, None)
        if batch is not None:
            if pinned:
                batch = batch[0].pin_memory(), batch[1].pin_memory()
            intake.images += len(batch[1])
            intake.prepared_s += time.perf_counter() - started
        return batch

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(prepare)
        while True:
            started = time.perf_counter()
            batch = coming.result()
            intake.waited_s += time.perf_counter() - started
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
    """The images `chosen`, number `own` of a batch of `count`, augmented; uint8 (N, 3, S, S)."""
    mirrored = torch.rand(count, generator=generator).lt(0.5 if augmentation.flips else 0.0)[own]
    if augmentation.crop_area < 1:
        boxes = _random_boxes(count, augmentation.crop_area, generator)[own]
        pixels = split.images.read(chosen.tolist(), boxes.tolist())
    else:
        drawn = torch.rand(count, 2, generator=generator)[own]
        pixels = _shifted(split.images.read(chosen.tolist()), drawn)
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


def _shifted(pixels: Tensor, drawn: Tensor) -> Tensor:
    """Shift each image by up to an eighth of its size, repeating its edge; `drawn` is in [0, 1)."""
    size = pixels.shape[-1]
    margin = size // 8
    padded = functional.pad(pixels.float(), (margin,) * 4, mode="replicate").to(pixels.dtype)
    down, right = (drawn * (2 * margin + 1)).long().unbind(1)
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # a view
    return windows[torch.arange(len(pixels)), :, down, right]


def _random_boxes(count: int, least: float, generator: torch.Generator) -> Tensor:
    """Boxes (left, top, right, bottom) as shares of the picture, shape (count, 4).

    The area is uniform in [least, 1], the logarithm of the aspect uniform in that of 3/4 to 4/3;
    what is wider or higher than the picture is cut to it.
    """
    area, aspect, x, y = torch.rand(4, count, generator=generator)
    low, high = (torch.tensor(ratio).log() for ratio in _ASPECT)
    ratio = (low + aspect * (high - low)).exp()
    area = least + area * (1 - least)
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    left, top = x * (1 - width), y * (1 - height)
    return torch.stack([left, top, left + width, top + height], 1)
