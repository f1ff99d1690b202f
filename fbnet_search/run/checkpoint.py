"""Checkpoints: the whole state of a run, so that a resumed run continues identically.

A run keeps its last three: `checkpoint.pt` is the newest, `checkpoint.1.pt` the one before, and so on.
Each is written atomically; a damaged one is skipped in favour of the one before.
"""

import contextlib
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from latbench.errors import BadRequest, LatbenchError
from latbench.files import remove, write_atomically

_KEPT = 3
_START_OVER = "start over: run the same command without --resume"


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data to `path` atomically.

    Raises:
        OutputFailed: `path` cannot be written; its earlier content is intact.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


class Checkpoints:
    """The checkpoints of one run.

    Args:
        path: of the newest checkpoint.
        what: the kind of run, for messages: "a search", "a training".
        identity: plain data that must be equal for a checkpoint to belong to this run.
    """

    def __init__(self, path: Path, what: str, identity: dict[str, Any]) -> None:
        self._path, self._what, self._identity = path, what, identity

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors and plain data as the newest checkpoint, and remove the oldest.

        Raises:
            OutputFailed: it cannot be written; the newest one before is intact.
        """
        for number in range(_KEPT - 1, 1, -1):
            with contextlib.suppress(OSError):  # does not exist yet
                self._numbered(number - 1).replace(self._numbered(number))
        # A failed copy is no reason to stop: the newest stays until it is replaced.
        with contextlib.suppress(OSError):
            _copy(self._path, self._numbered(1))
        save_tensors(self._path, state | {"identity": self._identity})

    def remove_older(self) -> None:
        """Remove all but the newest: they belong to an earlier run that this one replaces.

        Raises:
            OutputFailed: a checkpoint cannot be removed.
        """
        for number in range(1, _KEPT):
            remove(self._numbered(number))

    def load(self) -> tuple[dict[str, Any], Path]:
        """Return the newest undamaged checkpoint and its file. Reading one never executes code.

        Raises:
            BadRequest: there is no checkpoint, or it is of another run; the details say what differs.
            LatbenchError: all checkpoints are damaged.
        """
        existing = [path for path in map(self._numbered, range(_KEPT)) if path.exists()]
        if not existing:
            raise BadRequest(f"there is no checkpoint at {self._path}", hint=_START_OVER)
        for path in existing:
            content = _read(path)
            if content is not None:
                self._require_same(content["identity"], path)
                return content, path
        raise LatbenchError(
            f"{self._path} is damaged, or is not a checkpoint of {self._what}", hint=_START_OVER
        )

    def _numbered(self, number: int) -> Path:
        return self._path.with_suffix(f".{number}.pt") if number else self._path

    def _require_same(self, found: dict[str, Any], path: Path) -> None:
        differing = _differences(found, self._identity)
        if differing:
            raise BadRequest(
                f"cannot resume from {path}: it is of {self._what} with other settings:",
                details=differing,
                hint="give the settings of the checkpoint, or start over without --resume",
            )


def _differences(then: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each value that differs; nested tables are compared value by value."""
    lines: list[str] = []
    for name in then | now:
        saved, current = then.get(name), now.get(name)
        if isinstance(saved, dict) and isinstance(current, dict):
            lines += _differences(saved, current, f"{prefix}{name}.")
        elif saved != current:
            lines.append(f"{prefix}{name}: {saved!r} in the checkpoint, {current!r} now")
    return lines


def _copy(source: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    try:
        os.link(source, copy)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, copy)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:  # the format of torch.save
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from None
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError):
        return None
    if isinstance(content, dict) and isinstance(content.get("identity"), dict):
        return content
    return None
