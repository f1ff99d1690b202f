"""Where latbench keeps things, and how it writes them: whole or not at all."""

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
    """Write `data` to `path` so that the file holds either all of it or what it held before.

    Raises:
        OutputFailed: the folder is read-only, the disk is full, or the like; `path` is as it was.
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
        reason = f"{path.parent} is no folder" if blocked else error.strerror
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputFailed(
            f"cannot write {path}: {reason}",
            hint="free some space, or choose another place" if full else "choose another place",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def remove(path: Path) -> None:
    """Remove the file `path` if it is there.

    Raises:
        OutputFailed: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:  # it is not there
        return
    except OSError as error:
        raise OutputFailed(
            f"cannot remove {path}: {error.strerror}", hint="choose another place"
        ) from None


def make_folder(path: Path) -> None:
    """Create `path` and its parents unless they are there.

    Raises:
        OutputFailed: it cannot be created, or it is there and is no folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot create the folder {path}: {error.strerror}") from None


def sha256_of(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
