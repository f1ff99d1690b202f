"""scikit-learn's handwritten digits: 1797 images of 8x8, part of its wheel, scaled up to the image size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fbnet_search.data.images import Box, ImageData, Split

#: Share of the images that are held out for testing.
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class _TensorImages:
    pixels: Tensor

    @property
    def size(self) -> int:
        return self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        pixels = self.pixels[torch.as_tensor(numbers, dtype=torch.int64)]
        return pixels if boxes is None else _cropped(pixels, boxes)


def _cropped(pixels: Tensor, boxes: Sequence[Box]) -> Tensor:
    """The box of each image, scaled back to the image's size; uint8 (N, 3, S, S)."""
    left, top, right, bottom = torch.tensor(boxes, dtype=torch.float32).T
    # The affine map of (-1, 1), an image's edges, to the edges of the box.
    affine = torch.zeros(len(pixels), 2, 3)
    affine[:, 0, 0], affine[:, 0, 2] = right - left, right + left - 1
    affine[:, 1, 1], affine[:, 1, 2] = bottom - top, bottom + top - 1
    grid = functional.affine_grid(affine, list(pixels.shape), align_corners=False)
    crop = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return crop.round().clamp(0, 255).byte()


def digits(image_size: int) -> ImageData:
    """Return the digits at `image_size` x `image_size`, with a fixed, stratified split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    grey = torch.from_numpy(source.images).float()[:, None] * (255 / 16)  # 0 to 16 in the source
    scaled = functional.interpolate(grey, size=(image_size, image_size), mode="bilinear")
    pixels = scaled.round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
    labels = torch.from_numpy(source.target).long()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SHARE, random_state=0, stratify=source.target
    )
    train_split, test_split = (
        Split(_TensorImages(pixels[part]), labels[part])
        for part in (torch.from_numpy(train), torch.from_numpy(test))
    )
    names = tuple(str(name) for name in source.target_names)
    return ImageData("digits", names, train_split, test_split, flips=False)
