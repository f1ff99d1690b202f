"""The files of an ncnn model, read without ncnn.

ncnn has two files per model: a text, `.param`, with one line per layer, and the weights, `.bin`. An artifact
is one file, so `latbench export` puts both into an uncompressed zip file together with the metadata:

    model.param, model.bin     as pnnx writes them
    latbench.json              the artifact's metadata
"""

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from latbench.errors import RuntimeFailed

PARAM, WEIGHTS, METADATA = "model.param", "model.bin", "latbench.json"

_MAGIC = "7767517"  # the first line of every .param
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that zip files have
#: Parameters of an Input layer, in the order of the dimensions that they are: channels, depth, height, width.
_SIZES = ("2", "11", "1", "0")


def packed(param: bytes, weights: bytes, metadata: str) -> bytes:
    """Return an artifact; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((PARAM, param), (WEIGHTS, weights), (METADATA, metadata.encode())):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()


def read_metadata(path: Path) -> str | None:
    """Return the JSON text of an artifact's metadata; None if there is none.

    Raises:
        zipfile.BadZipFile, KeyError: the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.read(METADATA).decode() if METADATA in archive.namelist() else None


@contextlib.contextmanager
def unpacked(path: Path, kept: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Yield the paths of the `.param` and the `.bin`; those of an artifact exist inside the block only.

    Args:
        kept: a folder in which they stay, and are used if they are there. Without space or a parent it
            is not made.

    Raises:
        RuntimeFailed: the file is neither an artifact nor a `.param`.
    """
    if path.name.lower().endswith(".param"):
        _layers(path, path.read_bytes())
        yield path, path.with_suffix(".bin")
        return
    if kept is not None and kept.is_dir():
        yield kept / PARAM, kept / WEIGHTS
        return
    with tempfile.TemporaryDirectory(prefix="latbench-ncnn-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                for member in (PARAM, WEIGHTS):
                    (folder / member).write_bytes(archive.read(member))
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
            raise RuntimeFailed(f"{path} is not an ncnn model: {error}") from None
        _layers(path, (folder / PARAM).read_bytes())
        if kept is not None:
            _keep(folder, kept)
        yield folder / PARAM, folder / WEIGHTS


def _keep(folder: Path, kept: Path) -> None:
    """Copy the files of `folder` to the new folder `kept`, all or none."""
    unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        unfinished.mkdir()
        for name in (PARAM, WEIGHTS):
            shutil.copyfile(folder / name, unfinished / name)
        unfinished.rename(kept)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)


def declared_shapes(path: Path) -> tuple[tuple[int, ...], ...] | None:
    """Return the shapes of the inputs, with a batch of 1; None if the file does not declare them all.

    Raises:
        RuntimeFailed: the file is not an ncnn model.
    """
    with unpacked(path) as (param, _):
        return shapes_in(path, param)


def shapes_in(path: Path, param: Path) -> tuple[tuple[int, ...], ...] | None:
    """As `declared_shapes`, for the model at `path` whose `.param` is unpacked already."""
    inputs = [layer for layer in _layers(path, param.read_bytes()) if layer[0] == "Input"]
    described = _described(path)
    if described is not None:
        return described
    shapes = tuple(
        (1, *(int(sizes[key]) for key in _SIZES if int(sizes.get(key, 0)) > 0))
        for sizes in (dict(re.findall(r"(?<!\S)(\d+)=(\d+)(?!\S)", layer[-1])) for layer in inputs)
    )
    return shapes if shapes and all(len(shape) > 1 for shape in shapes) else None


def _described(path: Path) -> tuple[tuple[int, ...], ...] | None:
    """The shapes in an artifact's metadata."""
    text = None if path.name.lower().endswith(".param") else read_metadata(path)
    if text is None:
        return None
    try:
        return tuple(tuple(map(int, tensor["shape"])) for tensor in json.loads(text)["inputs"])
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeFailed(f"{path}: its {METADATA} is damaged: {error!r}") from None


def _layers(path: Path, param: bytes) -> list[tuple[str, str]]:
    """Type and line of every layer.

    Raises:
        RuntimeFailed: the text is not a `.param`.
    """
    try:
        magic, _, *lines = param.decode("ascii").splitlines()
        if magic.strip() != _MAGIC:
            raise ValueError(f"it begins with {magic[:20]!r}")
        return [(line.split()[0], line) for line in lines if line.strip()]
    except ValueError as error:
        raise RuntimeFailed(f"{path} is not an ncnn model: {error}") from None
