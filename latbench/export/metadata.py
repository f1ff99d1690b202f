"""Read the metadata of an artifact back from any of the formats."""

import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from latbench.errors import RuntimeFailed
from latbench.runtime.registry import descriptor, runtime_of

#: What readers of the formats raise for a damaged or foreign file. It has no metadata; that it does not load
#: is for its runtime to report.
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


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata that `latbench.export` put into the file; empty if it is of another origin.

    Raises:
        BadRequest: no runtime has files of that suffix.
    """
    described = descriptor(runtime_of(path))
    try:
        data = json.loads(described.read_metadata(path) or "{}")
    except _DAMAGED:
        return {}
    return data if isinstance(data, dict) else {}
