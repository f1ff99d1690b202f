"""Checkpoints: everything a run needs to go on as if it had never stopped.

A run keeps its last few: `checkpoint.pt` is the newest, `checkpoint.1.pt` the one before, and so on.
Each is written whole or not at all, and one that a disk damaged is passed over for the one before.
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
_ANEW = "start anew, without --resume"


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data to `path`, whole or not at all.

    Raises:
        OutputFailed: it cannot be written; what was there is intact.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


class Checkpoints:
    """The checkpoints of one run.

    Args:
        path: of the newest.
        what: what the run is, in messages: a search, a training.
        identity: what must be equal for a checkpoint to be of this run; plain data.
    """

    def __init__(self, path: Path, what: str, identity: dict[str, Any]) -> None:
        self._path, self._what, self._identity = path, what, identity

    def save(self, state: dict[str, Any]) -> None:
        """Keep tensors and plain data; the oldest checkpoint makes room.

        Raises:
            OutputFailed: it cannot be written; the newest that was there is intact.
        """
        for number in range(_KEPT - 1, 1, -1):
            with contextlib.suppress(OSError):  # none there yet
                self._numbered(number - 1).replace(self._numbered(number))
        # What cannot be kept a second time is no reason to stop; the newest stays until replaced.
        with contextlib.suppress(OSError):
            _copy(self._path, self._numbered(1))
        save_tensors(self._path, state | {"identity": self._identity})

    def only_newest(self) -> None:
        """Remove those before the newest, which are of a run that this one takes the place of.

        Raises:
            OutputFailed: one cannot be removed.
        """
        for number in range(1, _KEPT):
            remove(self._numbered(number))

    def load(self) -> tuple[dict[str, Any], Path]:
        """Return the newest checkpoint that is whole, and its file. Reading one never runs code.

        Raises:
            BadRequest: there is none, or it is of another run; the message says what differs.
            LatbenchError: all are damaged.
        """
        there = [path for path in map(self._numbered, range(_KEPT)) if path.exists()]
        if not there:
            raise BadRequest(f"there is no checkpoint at {self._path}", hint=_ANEW)
        for path in there:
            content = _read(path)
            if content is not None:
                self._require_same(content["identity"], path)
                return content, path
        raise LatbenchError(
            f"{self._path} is not a checkpoint of {self._what}, or it is damaged", hint=_ANEW
        )

    def _numbered(self, number: int) -> Path:
        return self._path.with_suffix(f".{number}.pt") if number else self._path

    def _require_same(self, found: dict[str, Any], path: Path) -> None:
        differing = _differences(found, self._identity)
        if differing:
            raise BadRequest(
                f"{path} is not of this run, but of {self._what} that differs in:",
                details=differing,
                hint="give the same arguments, or start anew without --resume",
            )


def _differences(there: dict[str, Any], now: dict[str, Any], within: str = "") -> list[str]:
    """What is not the same in both, a line each; of tables, only what differs in them."""
    lines: list[str] = []
    for name in there | now:
        found, wanted = there.get(name), now.get(name)
        if isinstance(found, dict) and isinstance(wanted, dict):
            lines += _differences(found, wanted, f"{within}{name}.")
        elif found != wanted:
            lines.append(f"{within}{name}: {found!r} there, {wanted!r} now")
    return lines


def _copy(source: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    try:
        os.link(source, copy)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, copy)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:  # which is what torch.save writes
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from None
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError):
        return None
    if isinstance(content, dict) and isinstance(content.get("identity"), dict):
        return content
    return None
