"""Images by index, and a data set of them with its fixed split."""

import hashlib
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from latbench.errors import LatbenchError

_CACHED_BYTES = 512 << 20

#: Left, top, right and bottom of a crop, as shares of the picture's width and height.
Box = Sequence[float]

#: What Pillow's readers raise on broken files; its documentation lists only the first three.
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError),
    *(EOFError, TypeError, LookupError, ArithmeticError, struct.error),
)


class Images(Protocol):
    """Images by index."""

    @property
    def size(self) -> int:
        """Height and width of every image, pixels."""

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        """Return images as uint8, shape (len(numbers), 3, S, S); each cropped to its box, if given.

        Raises:
            LatbenchError: an image cannot be read; the message names its file.
        """


@dataclass(frozen=True)
class Split:
    """Images and their labels, int64 of shape (len(images),)."""

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set at one image size: `name` as the user wrote it, class names, and the fixed split.

    `flips` says whether mirroring an image keeps its class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    flips: bool

    @property
    def image_size(self) -> int:
        """Height and width of every image, pixels."""
        return self.train.images.size

    def to_dict(self) -> dict[str, str | int]:
        """Name and counts, as JSON data."""
        return {
            "name": self.name,
            "classes": len(self.classes),
            "train_images": len(self.train),
            "test_images": len(self.test),
        }


def some_classes(data: ImageData, count: int) -> ImageData:
    """Return `data` with `count` of its classes, chosen by the hash of their names.

    With 0, or with at least as many as there are, `data` is returned unchanged.
    """
    if not 0 < count < len(data.classes):
        return data
    by_hash = sorted(data.classes, key=lambda name: hashlib.sha256(name.encode()).digest())
    kept = sorted(data.classes.index(name) for name in by_hash[:count])
    new_label = torch.full((len(data.classes),), -1)
    new_label[kept] = torch.arange(count)

    def part(split: Split) -> Split:
        labels = new_label[split.labels]
        numbers = torch.nonzero(labels >= 0).flatten()
        return Split(_ChosenImages(split.images, numbers), labels[numbers])

    names = tuple(data.classes[label] for label in kept)
    return replace(data, classes=names, train=part(data.train), test=part(data.test))


@dataclass(frozen=True)
class _ChosenImages:
    source: Images
    numbers: Tensor

    @property
    def size(self) -> int:
        return self.source.size

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        return self.source.read(self.numbers[list(numbers)].tolist(), boxes)


class StoredImages:
    """Encoded pictures, decoded on demand; a set of up to 512 MiB stays in memory once decoded.

    Args:
        names: of the pictures, for messages.
        size: height and width of the decoded images, pixels.
        open_file: opens the picture of an index.
    """

    def __init__(
        self, names: Sequence[str], size: int, open_file: Callable[[int], BinaryIO]
    ) -> None:
        self._names, self._size, self._open = tuple(names), size, open_file
        cached = len(self._names) * 3 * size * size <= _CACHED_BYTES
        # The operating system allocates pages when they are first written.
        self._kept = torch.empty(len(names), 3, size, size, dtype=torch.uint8) if cached else None
        self._known = torch.zeros(len(names), dtype=torch.bool)

    @property
    def size(self) -> int:
        """Height and width of every image, pixels."""
        return self._size

    def __len__(self) -> int:
        return len(self._names)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        """See `Images.read`; boxes refer to the whole picture, the default is its centre square."""
        if boxes is not None or self._kept is None:
            return self._all_decoded(numbers, [None] * len(numbers) if boxes is None else boxes)
        chosen = torch.as_tensor(numbers, dtype=torch.int64)
        missing = chosen[~self._known[chosen]]
        if len(missing):
            self._kept[missing] = self._all_decoded(missing.tolist(), [None] * len(missing))
            self._known[missing] = True
        return self._kept[chosen]

    def _all_decoded(self, numbers: Sequence[int], boxes: Sequence[Box | None]) -> Tensor:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without the GIL
            return torch.stack(list(pool.map(self._decoded, numbers, boxes)))

    def _decoded(self, number: int, box: Box | None) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        try:
            with self._open(number) as file:
                return _decode(file, self._size, box)
        except (*_UNREADABLE, Image.DecompressionBombError) as error:
            # Pillow's own message names an in-memory stream.
            unknown = isinstance(error, UnidentifiedImageError)
            why = "unknown image format" if unknown else str(error)
            raise LatbenchError(
                f"cannot read the image {self._names[number]}: {why or type(error).__name__}",
                hint="remove the file, or replace it with an image that opens",
            ) from None


def _decode(file: BinaryIO, size: int, box: Box | None) -> Tensor:
    """Return the centre square, or `box`, of a picture as uint8 (3, size, size)."""
    from PIL import Image, ImageOps

    with Image.open(file) as picture:
        least = size if box is None else int(size / min(box[2] - box[0], box[3] - box[1]))
        # JPEGs decode faster at a half, a quarter or an eighth of their size.
        picture.draft("RGB", (least, least))
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        if box is None:
            image = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
        else:
            left, top, right, bottom = box
            edges = (
                left * upright.width, top * upright.height,
                right * upright.width, bottom * upright.height,
            )  # fmt: skip
            image = upright.resize((size, size), Image.Resampling.BILINEAR, box=edges)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
