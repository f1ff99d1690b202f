"""Pictures in one subfolder for each class: `imagefolder:PATH`."""

import hashlib
from io import BytesIO
from pathlib import Path

import torch

from fbnet_search.data.images import ImageData, Split, StoredImages
from latbench.errors import BadRequest

_IGNORED = frozenset({"Thumbs.db", "desktop.ini"})

#: Share of each class that is held out for testing, where the folder has no split of its own.
_TEST_SHARE = 0.2


def image_folder(name: str, folder: Path, image_size: int) -> ImageData:
    """Return the data set in `folder`, called `name`.

    Raises:
        BadRequest: the folder does not have the layout that it must have.
    """
    subfolders = {path.name for path in _entries(folder)}
    if "train" in subfolders:
        test_name = next((option for option in ("test", "val") if option in subfolders), None)
        if test_name is None:
            raise BadRequest(
                f"{folder} has train/ but neither test/ nor val/",
                hint="add one, or put the classes directly into the folder to have a fifth held out",
            )
        train, test = _files_by_class(folder / "train"), _files_by_class(folder / test_name)
        if set(train) != set(test):
            raise BadRequest(
                f"{folder / 'train'} and {folder / test_name} must hold the same classes; "
                "these are in only one:",
                details=sorted(set(train) ^ set(test))[:12],
            )
    else:
        train, test = {}, {}
        for label, files in _files_by_class(folder).items():
            test[label], train[label] = _held_out(files)
    if len(train) < 2:
        raise BadRequest(
            f"{folder} must hold at least 2 classes, got {len(train)}",
            hint="put the images of each class into a subfolder of its own",
        )
    return ImageData(
        name, tuple(sorted(train)), _split(train, image_size), _split(test, image_size), True
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
                hint=f"{folder} must hold one subfolder for each class and nothing else",
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


def _held_out(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Split `files`: a fifth for testing, chosen by the hash of the name, and the others."""
    if len(files) < 2:
        raise BadRequest(
            f"{files[0].parent} holds 1 image; each class needs at least 2, one of them for testing"
        )
    shuffled = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
    count = max(1, round(len(files) * _TEST_SHARE))
    return shuffled[:count], shuffled[count:]


def _split(classes: dict[str, list[Path]], image_size: int) -> Split:
    files = [file for label in sorted(classes) for file in classes[label]]
    labels = [n for n, label in enumerate(sorted(classes)) for _ in classes[label]]
    images = StoredImages(
        [str(file) for file in files],
        image_size,
        lambda number: BytesIO(files[number].read_bytes()),
    )
    return Split(images, torch.tensor(labels, dtype=torch.int64))
