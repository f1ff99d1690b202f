"""The content-addressed store of artifacts.

    <root>/<first two digits>/<sha256><suffix>     the files, named by their content
    <root>/recipes/<sha256>.json                   recipe -> artifact: what an export was made from

A known recipe whose file is intact is not exported again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.files import home, sha256_of, write_atomically
from latbench.runtime.registry import descriptor
from latbench.target import Precision, Runtime


@dataclass(frozen=True)
class Artifact:
    """One exported file, checked against PyTorch.

    `key` is an op's key or a network's name. `error`, against PyTorch in fp32, is the relative error of
    floats or the signal-to-noise ratio in dB of int8; None if this machine cannot run it, so that only its
    structure was checked. `written_by` is the
    ecosystem's exporter that wrote it; None if latbench did.
    """

    key: str
    path: Path
    sha256: str
    runtime: Runtime
    precision: Precision
    macs: int
    error: float | None
    written_by: str | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything an export depends on; equal recipes give equivalent artifacts."""

    key: str
    ops: tuple[str, ...]
    runtime: Runtime
    precision: Precision
    macs: int
    exporter: str

    @property
    def identity(self) -> str:
        """The SHA-256 of the recipe, which names its file."""
        return sha256_of(json.dumps(self.to_dict(), sort_keys=True).encode())

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data; it is part of the artifact's metadata."""
        return {
            "key": self.key,
            "ops": list(self.ops),
            "runtime": self.runtime.value,
            "precision": self.precision.value,
            "macs": self.macs,
            "exporter": self.exporter,
        }


class ArtifactStore:
    """The store under `root`, by default in latbench's home."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = home() / "artifacts" if root is None else root

    def get(self, recipe: Recipe) -> Artifact | None:
        """Return the artifact of `recipe`, or None if it is missing or damaged."""
        try:
            record = json.loads(self._recipe_file(recipe).read_text(encoding="utf-8"))
            path = self._path(record["sha256"], recipe.runtime)
            intact = sha256_of(path.read_bytes()) == record["sha256"]
            error = None if record["error"] is None else float(record["error"])
            written_by = record.get("written_by")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._artifact(recipe, record["sha256"], error, written_by) if intact else None

    def put(
        self,
        recipe: Recipe,
        data: bytes,
        check: Callable[[Path], float | None],
        *,
        written_by: str | None = None,
    ) -> Artifact:
        """Store `data` as the artifact of `recipe`, once `check` has passed on the file.

        Args:
            check: returns the error of the file at a path, None if it cannot be run here, or raises.
            written_by: what wrote it; None if latbench did.

        Raises:
            ExportFailed: from `check`; the recipe is then not stored.
            OutputFailed: the store cannot be written.
        """
        digest = sha256_of(data)
        path = self._path(digest, recipe.runtime)
        write_atomically(path, data)
        error = check(path)
        record = {"sha256": digest, "error": error, "recipe": recipe.to_dict()}
        if written_by is not None:
            record["written_by"] = written_by
        write_atomically(self._recipe_file(recipe), json.dumps(record, sort_keys=True) + "\n")
        return self._artifact(recipe, digest, error, written_by)

    def _recipe_file(self, recipe: Recipe) -> Path:
        return self.root / "recipes" / f"{recipe.identity}.json"

    def _path(self, digest: str, runtime: Runtime) -> Path:
        return self.root / digest[:2] / f"{digest}{descriptor(runtime).suffix}"

    def _artifact(
        self, recipe: Recipe, digest: str, error: float | None, written_by: str | None
    ) -> Artifact:
        path = self._path(digest, recipe.runtime)
        return Artifact(
            recipe.key,
            path,
            digest,
            recipe.runtime,
            recipe.precision,
            recipe.macs,
            error,
            written_by,
        )
