"""Pictures in tar files, as WebDataset lays them out: `webdataset:PATH`.

PATH holds `train*.tar` and `test*.tar` (or `val*.tar`); without the latter, a fifth of the samples,
chosen by the hash of their keys, is held out for testing. A sample consists of the files that share a
key, which is the name up to its first dot: `n01440764_10026.jpg` and `n01440764_10026.cls`, whose content
is the class.

Each tar file is scanned once to index its pictures; pictures are then read in any order, as from an
image folder.
"""

import hashlib
import tarfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import torch

from fbnet_search.data.images import ImageData, Split, StoredImages
from latbench.errors import BadRequest, LatbenchError

_PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "ppm"})
_CLASSES = frozenset({"cls", "cls.txt"})
_HELD_OUT = 5  # one sample in this many


@dataclass
class _Sample:
    """The location of a picture, and its class."""

    key: str
    shard: Path
    offset: int = -1
    size: int = 0
    label: str | None = None

    @property
    def name(self) -> str:
        return f"{self.key} in {self.shard}"


@dataclass
class _Shards:
    """The samples of several tar files."""

    samples: list[_Sample] = field(default_factory=list)

    def split(self, classes: list[str], image_size: int) -> Split:
        number = {name: n for n, name in enumerate(classes)}
        labels = torch.tensor([number[str(one.label)] for one in self.samples], dtype=torch.int64)
        return Split(
            StoredImages([one.name for one in self.samples], image_size, self._open), labels
        )

    def _open(self, number: int) -> BytesIO:
        sample = self.samples[number]
        with sample.shard.open("rb") as file:
            file.seek(sample.offset)
            return BytesIO(file.read(sample.size))


def web_dataset(name: str, folder: Path, image_size: int) -> ImageData:
    """Return the data set of the tar files in `folder`, called `name`.

    Raises:
        BadRequest: there are no training shards, or a sample lacks its picture or its class.
        LatbenchError: a shard is damaged; the message names it.
    """
    train = _samples(sorted(folder.glob("train*.tar")))
    if not train:
        raise BadRequest(
            f"{folder} holds no train*.tar with samples",
            hint="give the folder of the shards, with train*.tar and test*.tar or val*.tar in it",
        )
    test = _samples(
        [path for kind in ("test", "val") for path in sorted(folder.glob(f"{kind}*.tar"))]
    )
    if not test:
        held_out = {one.key for one in train if _is_held_out(one.key)}
        test = [one for one in train if one.key in held_out]
        train = [one for one in train if one.key not in held_out]
    classes = _classes(train, test, folder)
    train_split, test_split = (_Shards(part).split(classes, image_size) for part in (train, test))
    return ImageData(name, tuple(classes), train_split, test_split, flips=True)


def _is_held_out(key: str) -> bool:
    return hashlib.sha256(key.encode()).digest()[0] % _HELD_OUT == 0


def _classes(train: list[_Sample], test: list[_Sample], folder: Path) -> list[str]:
    names = {str(one.label) for one in train}
    strange = {str(one.label) for one in test} - names
    if strange:
        raise BadRequest(
            f"{folder} has test samples of classes without training samples:",
            details=sorted(strange)[:12],
        )
    if len(names) < 2 or not test:
        raise BadRequest(
            f"{folder} must hold at least 2 classes and 1 test sample, "
            f"got {len(names)} and {len(test)}"
        )
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _samples(shards: list[Path]) -> list[_Sample]:
    samples: list[_Sample] = []
    for shard in shards:
        found = _indexed(shard)
        lacking = [key for key, one in found.items() if one.offset < 0 or one.label is None]
        if lacking:
            raise BadRequest(
                f"{shard} has samples without a picture (.jpg, .png) or a class (.cls):",
                details=lacking[:12],
            )
        samples += found.values()
    return samples


def _indexed(shard: Path) -> dict[str, _Sample]:
    found: dict[str, _Sample] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, _, kind = member.name.rpartition("/")[2].partition(".")
                if not member.isfile() or not key:
                    continue
                key = member.name.removesuffix(f".{kind}")
                sample = found.setdefault(key, _Sample(key, shard))
                if kind.lower() in _PICTURES:
                    sample.offset, sample.size = member.offset_data, member.size
                elif kind.lower() in _CLASSES:
                    content = archive.extractfile(member)
                    assert content is not None
                    sample.label = content.read().decode().strip()
            whole = _ends_at(shard, archive.offset)
    except (tarfile.TarError, UnicodeDecodeError, EOFError) as error:
        raise LatbenchError(f"{shard} is damaged: {error}", hint=_AGAIN) from None
    except OSError as error:
        raise LatbenchError(f"cannot read {shard}: {error.strerror or error}") from None
    if not whole:
        raise LatbenchError(
            f"{shard} is damaged: it does not end with the end-of-archive block", hint=_AGAIN
        )
    return found


def _ends_at(shard: Path, offset: int) -> bool:
    """Whether the end-of-archive block of zeros (pax(1)) is at `offset`.

    `tarfile` accepts anything that is not a header as the end.
    """
    with shard.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


_AGAIN = "copy the file again, or remove it"
