"""The images that a search and a training learn from.

`digits` is scikit-learn's handwritten digits (1797 images of 8x8; part of its wheel, so nothing is
downloaded), scaled up to the input size. `imagefolder:PATH` is a folder with one subfolder a class,
or with `train/` and `test/` (or `val/`) of that shape; `webdataset:PATH` one with tar files
(`fbnet_search.shards`). Networks see pixels from -1 to 1 in NCHW, three channels: pixel / 127.5 - 1.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latbench.errors import BadRequest, LatbenchError, UnknownName

_IGNORED = frozenset({"Thumbs.db", "desktop.ini"})
_TEST_SHARE = 0.2
_CACHED_BYTES = 512 << 20
_DATA_SETS = ("digits", "imagefolder:PATH", "webdataset:PATH")

#: Left, top, right and bottom of a part of a picture, as shares of its width and height.
Box = Sequence[float]
_FEWEST = 10


class Images(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        """Return images as uint8, shape (len(numbers), 3, S, S); of each only its box, if given.

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
        UnknownName: it is no data set's name.
        BadRequest: the folder does not hold what it must.
        LatbenchError: an image cannot be read; the message names the file.
    """
    kind, _, path = name.partition(":")
    if name == "digits":
        return _digits(input_size)
    if kind == "imagefolder" and path:
        return _enough(_image_folder(name, Path(path).expanduser(), input_size))
    if kind == "webdataset" and path:
        from fbnet_search.shards import web_dataset

        return _enough(web_dataset(name, Path(path).expanduser(), input_size))
    known = {option.partition(":")[0] for option in _DATA_SETS} - {"digits"}
    hint = f"write {kind}: and then the folder's path" if kind in known else None
    raise UnknownName("data set", name, _DATA_SETS, hint=hint)


def _enough(data: ImageData) -> ImageData:
    if len(data.train) < _FEWEST:
        raise BadRequest(
            f"{data.name} holds {len(data.train)} training images; a search needs {_FEWEST} or more"
        )
    return data


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


#: What Pillow's readers raise at broken files; its documentation lists only the first three.
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError),
    *(EOFError, TypeError, LookupError, ArithmeticError, struct.error),
)


@dataclass(frozen=True)
class _ChosenImages:
    source: Images
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        return self.source.read(self.numbers[list(numbers)].tolist(), boxes)


# Digits


@dataclass(frozen=True)
class _TensorImages:
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        pixels = self.pixels[torch.as_tensor(numbers, dtype=torch.int64)]
        return pixels if boxes is None else _cut(pixels, boxes)


def _cut(pixels: Tensor, boxes: Sequence[Box]) -> Tensor:
    """The box of each image, scaled to the image's size; uint8 (N, 3, S, S)."""
    left, top, right, bottom = torch.tensor(boxes, dtype=torch.float32).T
    # What maps (-1, 1), an image's edges, to the edges of the box.
    affine = torch.zeros(len(pixels), 2, 3)
    affine[:, 0, 0], affine[:, 0, 2] = right - left, right + left - 1
    affine[:, 1, 1], affine[:, 1, 2] = bottom - top, bottom + top - 1
    grid = functional.affine_grid(affine, list(pixels.shape), align_corners=False)
    cut = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return cut.round().clamp(0, 255).byte()


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


class StoredImages:
    """Encoded pictures, decoded when asked for; small sets are kept in memory once decoded.

    Args:
        names: of the pictures, for messages.
        size: images are size x size.
        open_file: opens the picture of a number.
    """

    def __init__(
        self, names: Sequence[str], size: int, open_file: Callable[[int], BinaryIO]
    ) -> None:
        self._names, self._size, self._open = tuple(names), size, open_file
        cached = len(self._names) * 3 * size * size <= _CACHED_BYTES
        # Memory that is not written to is not taken yet.
        self._kept = torch.empty(len(names), 3, size, size, dtype=torch.uint8) if cached else None
        self._known = torch.zeros(len(names), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> Tensor:
        """See `Images.read`; a box is of the whole picture, without one it is its centre square."""
        if boxes is not None or self._kept is None:
            return self._all_decoded(numbers, [None] * len(numbers) if boxes is None else boxes)
        chosen = torch.as_tensor(numbers, dtype=torch.int64)
        missing = chosen[~self._known[chosen]]
        if len(missing):
            self._kept[missing] = self._all_decoded(missing.tolist(), [None] * len(missing))
            self._known[missing] = True
        return self._kept[chosen]

    def _all_decoded(self, numbers: Sequence[int], boxes: Sequence[Box | None]) -> Tensor:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
            return torch.stack(list(pool.map(self._decoded, numbers, boxes)))

    def _decoded(self, number: int, box: Box | None) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        try:
            with self._open(number) as file:
                return _decode(file, self._size, box)
        except (*_UNREADABLE, Image.DecompressionBombError) as error:
            # Pillow names the stream that it was given.
            unknown = isinstance(error, UnidentifiedImageError)
            why = "it is in no known format" if unknown else str(error)
            raise LatbenchError(
                f"cannot read the image {self._names[number]}: {why or type(error).__name__}",
                hint="remove the file, or replace it with an image that opens",
            ) from None


def _decode(file: BinaryIO, size: int, box: Box | None) -> Tensor:
    """Return the centre square, or `box`, of a picture as uint8 (3, size, size)."""
    from PIL import Image, ImageOps

    with Image.open(file) as picture:
        wanted = size if box is None else int(size / min(box[2] - box[0], box[3] - box[1]))
        # JPEG can be decoded at a half, a quarter or an eighth, which takes as much less time.
        picture.draft("RGB", (wanted, wanted))
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
    return ImageData(
        name, tuple(sorted(train)), _split(train, input_size), _split(test, input_size), True
    )


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
    images = StoredImages(
        [str(file) for file in files],
        input_size,
        lambda number: BytesIO(files[number].read_bytes()),
    )
    return Split(images, torch.tensor(labels, dtype=torch.int64))
