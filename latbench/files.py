"""The folders of latbench, and files that are written completely or not at all."""

import contextlib
import errno
import hashlib
import os
import secrets
from importlib import resources
from pathlib import Path

import platformdirs

from latbench.errors import OutputFailed


def home() -> Path:
    """The folder of artifacts and journals: $LATBENCH_HOME, or the user's data directory."""
    override = os.environ.get("LATBENCH_HOME")
    return Path(override) if override else Path(platformdirs.user_data_dir("latbench"))


def shipped(folder: str) -> Path:
    """The shipped folder `devices` or `luts`: in the wheel, or at the top of a checkout."""
    package = Path(str(resources.files("latbench")))
    in_wheel = package / "_shipped" / folder
    return in_wheel if in_wheel.is_dir() else package.parent / folder


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write `data` to `path`; if that fails, the file keeps its earlier content.

    Raises:
        OutputFailed: the folder is read-only, the disk is full, or the like.
    """
    content = data.encode() if isinstance(data, str) else data
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        blocked = error.errno in (errno.EEXIST, errno.ENOTDIR)
        reason = f"{path.parent} is not a folder" if blocked else error.strerror
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputFailed(
            f"cannot write {path}: {reason}",
            hint="free some space, or write to another folder"
            if full
            else "write to another folder",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def remove(path: Path) -> None:
    """Remove the file `path` if it exists.

    Raises:
        OutputFailed: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:  # it does not exist
        return
    except OSError as error:
        raise OutputFailed(
            f"cannot remove {path}: {error.strerror}", hint="write to another folder"
        ) from None


def make_folder(path: Path) -> None:
    """Create the folder `path` and its parents unless they exist.

    Raises:
        OutputFailed: it cannot be created, or a file of that name exists.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(
            f"cannot create the folder {path}: {error.strerror}", hint="write to another folder"
        ) from None


def sha256_of(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
