"""Checkpoints: everything a search needs to go on as if it had never stopped."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data to `path`, whole or not at all.

    Raises:
        OutputFailed: it cannot be written; what was there is intact.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the run that `identity` describes. Reading one never runs code.

    Raises:
        BadRequest: there is none, or it is of another run; the message says what differs.
        LatbenchError: it is damaged.
    """
    if not path.exists():
        raise BadRequest(f"there is no checkpoint at {path}", hint="start anew, without --resume")
    try:
        with zipfile.ZipFile(path) as archive:  # which is what torch.save writes
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, weights_only=True)
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from None
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("identity"), dict):
        raise LatbenchError(
            f"{path} is not a checkpoint of a search, or it is damaged",
            hint="start anew, without --resume",
        )
    found = content["identity"]
    differing = [
        f"{name}: {found.get(name)!r} there, {wanted!r} now"
        for name, wanted in identity.items()
        if found.get(name) != wanted
    ]
    if differing:
        raise BadRequest(
            f"{path} is of another search:",
            details=differing,
            hint="give the same arguments, or start anew without --resume",
        )
    return content
