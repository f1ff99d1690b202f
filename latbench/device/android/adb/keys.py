"""The key that authenticates this computer to phones: adb's own, so that one dialog allows both."""

import contextlib
import os
import tempfile
from pathlib import Path

from adb_shell.auth.keygen import keygen, write_public_keyfile
from adb_shell.auth.sign_cryptography import CryptographySigner

from latbench.device.android.adb.connection import Signer
from latbench.errors import OutputFailed


def own_key() -> Path:
    """The path of adb's private key of the user: `~/.android/adbkey`."""
    return Path.home() / ".android" / "adbkey"


def signer(key: Path) -> Signer:
    """Return a signer with the private key in the file `key`, which is created if missing.

    Raises:
        OutputFailed: it cannot be read or created.
    """
    public = key.with_name(key.name + ".pub")
    try:
        if not key.exists():
            _create(key, public)
        elif not public.exists():
            write_public_keyfile(str(key), str(public))
        found: Signer = CryptographySigner(str(key))
    except (OSError, ValueError, TypeError) as error:  # TypeError: it is encrypted
        reason = error.strerror if isinstance(error, OSError) else "it is not an RSA key"
        raise OutputFailed(
            f"cannot use the adb key {key}: {reason}",
            hint="make its folder readable and writable for you, or remove the key to get a new one",
        ) from None
    return found


def _create(key: Path, public: Path) -> None:
    key.parent.mkdir(parents=True, exist_ok=True)
    # adb-shell writes private keys that everybody can read; the folder is private.
    with tempfile.TemporaryDirectory(dir=key.parent) as folder:
        scratch = Path(folder) / "key"
        keygen(str(scratch))
        scratch.chmod(0o600)
        with contextlib.suppress(FileExistsError):  # another process was faster: use its key
            os.link(scratch, key)
            scratch.with_name("key.pub").replace(public)
    if not public.exists():
        write_public_keyfile(str(key), str(public))
