"""What an artifact of ours says of itself, read back from any of the formats."""

import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest
from latbench.runtime.base import RuntimeFailed
from latbench.runtime.coreml.writer import read_specification
from latbench.runtime.executorch.program import read_pte
from latbench.runtime.executorch.writer import METADATA_METHOD
from latbench.runtime.torchscript.writer import METADATA_FILE
from latbench.target import Runtime

#: What the readers of the formats raise for bytes that are not theirs. A damaged file has no metadata;
#: that it does not load is for its runtime to say.
_DAMAGED = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    tarfile.TarError,
    RuntimeFailed,
)


def runtime_of(path: Path) -> Runtime:
    """Return the runtime that a model file is for, by its suffix.

    Raises:
        BadRequest: the suffix is none of .tflite, .onnx, .pt, .mlpackage.tar, .pte.
    """
    for runtime in Runtime:
        if path.name.lower().endswith(runtime.suffix):
            return runtime
    known = ", ".join(runtime.suffix for runtime in Runtime)
    raise BadRequest(f"{path} is no model file: its name ends in none of {known}")


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata that `latbench.export` put into the file; empty if it is not ours."""
    readers = {
        Runtime.ONNX: _from_onnx,
        Runtime.TFLITE: _from_tflite,
        Runtime.TORCHSCRIPT: _from_torchscript,
        Runtime.COREML: _from_coreml,
        Runtime.EXECUTORCH: _from_executorch,
    }
    try:
        data = json.loads(readers[runtime_of(path)](path) or "{}")
    except _DAMAGED:
        return {}
    return data if isinstance(data, dict) else {}


def _from_onnx(path: Path) -> str | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        return None
    return next((prop.value for prop in model.metadata_props if prop.key == "latbench"), None)


def _from_tflite(path: Path) -> str | None:
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        return None
    model = schema.Model.GetRootAs(data, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == b"latbench":
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return None


def _from_torchscript(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/extra/{METADATA_FILE}"):
                return archive.read(name).decode()
    return None


def _from_coreml(path: Path) -> str | None:
    """Model.description.metadata.userDefined["latbench"] of Apple's Model.proto, read without coremltools."""
    for description in _fields(read_specification(path), 2):
        for metadata in _fields(description, 100):
            for entry in _fields(metadata, 100):
                if _fields(entry, 1) == [b"latbench"]:
                    return _fields(entry, 2)[0].decode()
    return None


def _from_executorch(path: Path) -> str | None:
    told = [method.constants for method in read_pte(path) if method.name == METADATA_METHOD]
    return told[0][0] if told else None


def _fields(message: bytes, wanted: int) -> list[bytes]:
    """The fields numbered `wanted` of a protocol buffer that are bytes, strings or messages.

    Raises:
        IndexError, ValueError: it is none.
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
            if key >> 3 == wanted:
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


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive: a zip file with code in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
