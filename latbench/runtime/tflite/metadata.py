"""Read the metadata that `latbench export` puts into a TFLite model."""

from pathlib import Path

from ai_edge_litert import schema_py_generated as schema


def read_metadata(path: Path) -> str | None:
    """Return the JSON text of the metadata entry 'latbench'; None if there is none."""
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        return None
    model = schema.Model.GetRootAs(data, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == b"latbench":
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return None
