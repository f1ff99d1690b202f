"""What `fbnet-train` reads: an `architecture.json`, and what its search said of data, images, latencies."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fbnet_search.latencies import TargetLatency
from fbnet_search.output import front_folders
from latbench.errors import BadRequest
from latbench.space import Architecture, read_architecture


@dataclass(frozen=True)
class Found:
    """An architecture, and the content of the `architecture.json` it was read from; empty if none."""

    architecture: Architecture
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> str | None:
        """The name of the data set that was searched on; None if the file does not say."""
        data = self.content.get("data")
        name = data.get("name") if isinstance(data, dict) else None
        return name if isinstance(name, str) else None

    @property
    def image_size(self) -> int | None:
        """The size of the images that were searched on, pixels; None if the file does not say."""
        size = self.content.get("image_size")
        return size if isinstance(size, int) and not isinstance(size, bool) else None

    @property
    def latencies(self) -> list[TargetLatency]:
        """The latencies that the search predicted or measured; empty if the file has none."""
        try:
            return [TargetLatency.from_dict(one) for one in self.content.get("latencies", ())]
        except (KeyError, TypeError, AttributeError):
            return []


def architecture_file(path: Path) -> Path:
    """The `architecture.json` that `path`, a search's folder or the file itself, means.

    Raises:
        BadRequest: it does not exist; where the folder holds a front, the hint names its folders.
    """
    file = path / "architecture.json" if path.is_dir() else path
    if not file.exists():
        several = [str(folder) for folder in front_folders(path / "front.json")]
        raise BadRequest(
            f"there is no architecture at {file}",
            hint="it has a network for each of several targets: give " + " or ".join(several)
            if several
            else f"find one with: fbnet-search --lut FILE --out {path.parent if path.suffix else path}",
        )
    if file.suffix != ".json":
        raise BadRequest(f"{file} must be a folder or an architecture.json")
    return file


def read_found(path: Path) -> Found:
    """Read the architecture of a search's folder, or of an `architecture.json`.

    Raises:
        BadRequest: there is none, or the file holds none.
    """
    file = architecture_file(path)
    architecture = read_architecture(str(file))
    return Found(architecture, json.loads(file.read_text(encoding="utf-8")))
