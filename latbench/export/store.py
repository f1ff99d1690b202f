"""The content-addressed store of artifacts.

    <root>/<first two digits>/<sha256><suffix>     the files, named by what they hold
    <root>/recipes/<sha256>.json                   recipe -> artifact: what an export was made from

A recipe that is known and whose file is intact costs nothing but a look.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.files import home, sha256_of, write_atomically
from latbench.target import Precision, Runtime


@dataclass(frozen=True)
class Artifact:
    """One exported file, checked against PyTorch.

    `key` is an op's key or a network's name; `error` is the relative error of fp32 or the
    signal-to-noise ratio in dB of int8, against PyTorch in fp32; None: this machine cannot run it, so
    that its structure alone was checked.
    """

    key: str
    path: Path
    sha256: str
    runtime: Runtime
    precision: Precision
    macs: int
    error: float | None


@dataclass(frozen=True)
class Recipe:
    """Everything an export depends on; equal recipes give artifacts that are as good as equal."""

    key: str
    ops: tuple[str, ...]
    runtime: Runtime
    precision: Precision
    macs: int
    exporter: str

    @property
    def identity(self) -> str:
        """The SHA-256 that the recipe is filed under."""
        return sha256_of(json.dumps(self.to_dict(), sort_keys=True).encode())

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data; it is also what the artifact's own metadata says of it."""
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
        """Return the artifact of `recipe`, or None if it is not there or not intact."""
        try:
            note = json.loads(self._note(recipe).read_text(encoding="utf-8"))
            path = self._place(note["sha256"], recipe.runtime)
            intact = sha256_of(path.read_bytes()) == note["sha256"]
            error = None if note["error"] is None else float(note["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._artifact(recipe, note["sha256"], error) if intact else None

    def put(self, recipe: Recipe, data: bytes, check: Callable[[Path], float | None]) -> Artifact:
        """Store `data` as what `recipe` gave, once `check` has passed on the file.

        Args:
            check: returns the error of the file at a path, None if it cannot be run here, or raises.

        Raises:
            ExportFailed: from `check`; the artifact is then not filed.
            OutputFailed: the store cannot be written.
        """
        digest = sha256_of(data)
        place = self._place(digest, recipe.runtime)
        write_atomically(place, data)
        error = check(place)
        note = {"sha256": digest, "error": error, "recipe": recipe.to_dict()}
        write_atomically(self._note(recipe), json.dumps(note, sort_keys=True) + "\n")
        return self._artifact(recipe, digest, error)

    def _note(self, recipe: Recipe) -> Path:
        return self.root / "recipes" / f"{recipe.identity}.json"

    def _place(self, digest: str, runtime: Runtime) -> Path:
        return self.root / digest[:2] / f"{digest}{runtime.suffix}"

    def _artifact(self, recipe: Recipe, digest: str, error: float | None) -> Artifact:
        path = self._place(digest, recipe.runtime)
        return Artifact(
            recipe.key, path, digest, recipe.runtime, recipe.precision, recipe.macs, error
        )
