"""Read the metadata that `latbench export` puts into a Core ML package, without coremltools."""

import tarfile
from pathlib import Path

_SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"


def read_metadata(path: Path) -> str | None:
    """Return Model.description.metadata.userDefined["latbench"] of Apple's Model.proto; None if absent.

    Raises:
        KeyError, tarfile.TarError, IndexError, ValueError: the file is not a package.
    """
    for description in _fields(read_specification(path), 2):
        for metadata in _fields(description, 100):
            for entry in _fields(metadata, 100):
                if _fields(entry, 1) == [b"latbench"]:
                    return _fields(entry, 2)[0].decode()
    return None


def read_specification(package: Path) -> bytes:
    """Return the model's specification, a protocol buffer, from a package that is one tar file.

    Raises:
        KeyError, tarfile.TarError: the file is not a package.
    """
    with tarfile.open(package) as archive:
        member = archive.extractfile(_SPECIFICATION)
        if member is None:
            raise KeyError(_SPECIFICATION)
        return member.read()


def _fields(message: bytes, number: int) -> list[bytes]:
    """The fields `number` of a protocol buffer that are bytes, strings or messages.

    Raises:
        IndexError, ValueError: it is not a protocol buffer.
    """
    found, at = [], 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field ends after its message")
            if key >> 3 == number:
                found.append(message[at : at + length])
            at += length
        else:
            raise ValueError(f"there is no wire type {kind}")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
