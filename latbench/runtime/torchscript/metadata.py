"""Read the metadata that `latbench export` puts into a TorchScript archive, without PyTorch."""

import zipfile
from pathlib import Path

#: The extra file in the archive that describes the model, as JSON:
#: {"inputs": [{"name": ..., "shape": [...], "dtype": ...}], "outputs": [...], ...}
METADATA_FILE = "latbench.json"


def read_metadata(path: Path) -> str | None:
    """Return the JSON text of the extra file; None if there is none."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/extra/{METADATA_FILE}"):
                return archive.read(name).decode()
    return None


def is_torchscript(path: Path) -> bool:
    """Return whether the file is a TorchScript archive: a zip file with code in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
