"""The images that a search and a training learn from.

`digits` is scikit-learn's handwritten digits (1797 images of 8x8; part of its wheel, so nothing is
downloaded), scaled up to the input size. `imagefolder:PATH` is a folder with one subfolder a class,
or with `train/` and `test/` (or `val/`) of that shape. Networks see pixels from -1 to 1 in NCHW,
three channels: pixel / 127.5 - 1.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latbench.errors import BadRequest, LatbenchError, UnknownName

_IGNORED = frozenset({"Thumbs.db", "desktop.ini"})
_TEST_SHARE = 0.2
_CACHED_BYTES = 512 << 20
_FEWEST = 10


class Images(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Return images as uint8, shape (len(numbers), 3, S, S).

        Raises:
            LatbenchError: one cannot be read; the message names its file.
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
    """A data set at one input size: `name` as the user wrote it, classes, and its fixed split.

    `flips` says whether a mirrored image is of the same class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    flips: bool

    def to_dict(self) -> dict[str, str | int]:
        """What the data are, as JSON data."""
        return {
            "name": self.name,
            "classes": len(self.classes),
            "train_images": len(self.train),
            "test_images": len(self.test),
        }


def open_data(name: str, input_size: int) -> ImageData:
    """Return the data set called `name` at `input_size` x `input_size` pixels.

    Raises:
        UnknownName: it is neither `digits` nor `imagefolder:PATH`.
        BadRequest: the folder does not hold what it must.
        LatbenchError: an image cannot be read; the message names the file.
    """
    kind, _, path = name.partition(":")
    if name == "digits":
        return _digits(input_size)
    if kind == "imagefolder" and path:
        return _image_folder(name, Path(path).expanduser(), input_size)
    hint = None if kind != "imagefolder" else "write imagefolder: and then the folder's path"
    raise UnknownName("data set", name, ("digits", "imagefolder:PATH"), hint=hint)


def some_classes(data: ImageData, count: int) -> ImageData:
    """Return `data` with `count` of its classes, chosen by the hash of their names.

    0, or a count it does not exceed, leaves it as it is.
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

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, numbers: Sequence[int]) -> Tensor:
        return self.source.read(self.numbers[list(numbers)].tolist())


# Batches


def batches(
    split: Split,
    numbers: Tensor,
    size: int,
    *,
    generator: torch.Generator | None = None,
    flips: bool = False,
    start: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) of the split's `numbers`, in batches of about equal size up to `size`.

    Args:
        generator: augments the images with random shifts (and flips); None leaves them as they are.
            Numbers for a batch are drawn when it is asked for.
        start: batches to leave out at the beginning; nothing is drawn for them.

    Yields:
        float images (N, 3, S, S) in channels_last, and int64 labels (N,).
    """
    for chunk in torch.tensor_split(numbers, batch_count(len(numbers), size))[start:]:
        images = split.images.read(chunk.tolist()).float() / 127.5 - 1
        if generator is not None:
            images = _augmented(images, generator, flips)
        yield images.contiguous(memory_format=torch.channels_last), split.labels[chunk]


def batch_count(images: int, size: int) -> int:
    """How many batches of up to `size` hold `images`."""
    return -(-images // size)


def _augmented(images: Tensor, generator: torch.Generator, flips: bool) -> Tensor:
    """Shift each image by up to an eighth of its size, repeating its edge; mirror half of them."""
    count, size = images.shape[0], images.shape[-1]
    margin = size // 8
    padded = functional.pad(images, (margin,) * 4, mode="replicate")
    shifts = torch.randint(2 * margin + 1, (count, 2), generator=generator).tolist()
    mirrored = torch.rand(count, generator=generator).lt(0.5 if flips else 0.0).tolist()
    crops = [
        padded[n, :, y : y + size, x : x + size].flip(-1)
        if mirrored[n]
        else padded[n, :, y : y + size, x : x + size]
        for n, (y, x) in enumerate(shifts)
    ]
    return torch.stack(crops)


# Digits


@dataclass(frozen=True)
class _TensorImages:
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Sequence[int]) -> Tensor:
        return self.pixels[torch.as_tensor(numbers, dtype=torch.int64)]


def _digits(input_size: int) -> ImageData:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    grey = torch.from_numpy(source.images).float()[:, None] * (255 / 16)  # 0 to 16 in the source
    scaled = functional.interpolate(grey, size=(input_size, input_size), mode="bilinear")
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


# Image folders


class _FileImages:
    """Image files, decoded when asked for; small sets are kept in memory once decoded."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self._paths, self._size = tuple(paths), size
        cached = len(self._paths) * 3 * size * size <= _CACHED_BYTES
        self._cache: dict[int, Tensor] | None = {} if cached else None

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, numbers: Sequence[int]) -> Tensor:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
            return torch.stack(list(pool.map(self._image, numbers)))

    def _image(self, number: int) -> Tensor:
        if self._cache is not None and number in self._cache:
            return self._cache[number]
        image = _decode(self._paths[number], self._size)
        if self._cache is not None:
            self._cache[number] = image
        return image


def _decode(path: Path, size: int) -> Tensor:
    """Return the centre square of an image file as uint8 (3, size, size)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.fit(
                ImageOps.exif_transpose(file).convert("RGB"),
                (size, size),
                Image.Resampling.BILINEAR,
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LatbenchError(
            f"cannot read the image {path}: {error}",
            hint="remove the file, or replace it with an image that opens",
        ) from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _image_folder(name: str, folder: Path, input_size: int) -> ImageData:
    subfolders = {path.name for path in _entries(folder)}
    if "train" in subfolders:
        test_name = next((option for option in ("test", "val") if option in subfolders), None)
        if test_name is None:
            raise BadRequest(f"{folder} has train/ but neither test/ nor val/")
        train, test = _files_by_class(folder / "train"), _files_by_class(folder / test_name)
        if set(train) != set(test):
            raise BadRequest(
                f"{folder / 'train'} and {folder / test_name} do not hold the same classes:",
                details=sorted(set(train) ^ set(test))[:12],
            )
    else:
        train, test = {}, {}
        for label, files in _files_by_class(folder).items():
            test[label], train[label] = _parted(files)
    if len(train) < 2:
        raise BadRequest(
            f"{folder} holds {len(train)} class(es); a classifier needs two",
            hint="put the images of each class into a subfolder of its own",
        )
    data = ImageData(
        name, tuple(sorted(train)), _split(train, input_size), _split(test, input_size), True
    )
    if len(data.train) < _FEWEST:
        raise BadRequest(
            f"{folder} holds {len(data.train)} training images; a search needs {_FEWEST} or more"
        )
    return data


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name not in _IGNORED
        )
    except OSError as error:
        raise BadRequest(f"cannot read the folder {folder}: {error.strerror}") from None


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, both in sorted order."""
    from PIL import Image

    Image.init()
    known = Image.registered_extensions()
    classes: dict[str, list[Path]] = {}
    for subfolder in _entries(folder):
        if not subfolder.is_dir():
            raise BadRequest(
                f"{subfolder} is not a folder",
                hint=f"{folder} holds one subfolder of images a class, and nothing else",
            )
        files = _entries(subfolder)
        for file in files:
            if file.suffix.lower() not in known:
                raise BadRequest(
                    f"{file} is not an image", hint="remove it, or move it out of the folder"
                )
        if not files:
            raise BadRequest(f"{subfolder} holds no images")
        classes[subfolder.name] = files
    return classes


def _parted(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """A fifth of `files` to test on, chosen by the hash of the name, and the others."""
    if len(files) < 2:
        raise BadRequest(
            f"{files[0].parent} holds one image; each class needs one to train and one to test on"
        )
    shuffled = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
    count = max(1, round(len(files) * _TEST_SHARE))
    return shuffled[:count], shuffled[count:]


def _split(classes: dict[str, list[Path]], input_size: int) -> Split:
    files = [file for label in sorted(classes) for file in classes[label]]
    labels = [n for n, label in enumerate(sorted(classes)) for _ in classes[label]]
    return Split(_FileImages(files, input_size), torch.tensor(labels, dtype=torch.int64))
