"""Read the metadata that `latbench export` puts into an ONNX model."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError


def read_metadata(path: Path) -> str | None:
    """Return the JSON text of the property 'latbench'; None if there is none."""
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        return None
    return next((prop.value for prop in model.metadata_props if prop.key == "latbench"), None)
