"""Content-addressed files on a phone: each is sent once, and verified before it is used.

All files are in one folder, which `clean` removes. A file's name is the SHA-256 of its content. Before use
the phone hashes the file, and it is sent again if the hash differs. So a partial or modified copy is never
measured, and files can be written in place: moving them there would start two more programs on the phone,
which takes as long as sending many files.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from latbench.device.android.adb.link import AdbLink, FileRefused, quote
from latbench.errors import DeviceUnavailable
from latbench.files import sha256_of

#: The folder of all files that latbench leaves on a phone.
FOLDER = "/data/local/tmp/latbench"

_HASHING_S = 120.0  # for as many files as fit into one command
_DIGEST = re.compile(r"^\\?([0-9a-f]{64})\s+\*?(.+?)\r?$", re.MULTILINE)


def send_artifacts(link: AdbLink, files: Sequence[Path]) -> dict[Path, str]:
    """Send artifacts to the phone, in one batch; returns the path of each there.

    Raises:
        DeviceUnavailable: after sending a file twice, its hash on the phone is still wrong.
        FileRefused, DeviceLost: as `AdbLink.push`.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in dict.fromkeys(files)}
    paths = {path: f"{FOLDER}/artifacts/{digest}" for path, digest in digests.items()}
    _send(link, {paths[path]: (path, digest) for path, digest in digests.items()}, mode=0o644)
    return paths


def send_program(link: AdbLink, files: Sequence[Path]) -> dict[Path, str]:
    """Send programs and libraries, which keep their names, each to a folder named by its hash.

    Raises as `send_artifacts`.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in files}
    paths = {path: f"{FOLDER}/programs/{digests[path]}/{path.name}" for path in files}
    _send(link, {paths[path]: (path, digests[path]) for path in files}, mode=0o755)
    return paths


def clean(link: AdbLink) -> int:
    """Remove all files of latbench from the phone; returns the bytes freed.

    Raises:
        FileRefused: the phone refuses to remove them.
        DeviceLost: as `AdbLink.shell`.
    """
    used = link.shell(f"du -sk {FOLDER} 2>/dev/null").stdout.split()
    removed = link.shell(f"rm -rf {FOLDER}", timeout_s=_HASHING_S)
    if removed.exit_code:
        reason = (removed.stderr or removed.stdout).strip()
        raise FileRefused("remove", link.serial, FOLDER, reason)
    return 1024 * int(used[0]) if used and used[0].isdecimal() else 0


def _send(link: AdbLink, files: Mapping[str, tuple[Path, str]], *, mode: int) -> None:
    """Send the local file of each remote path whose SHA-256 differs; maps to (local file, digest)."""
    missing = _differing(link, {remote: digest for remote, (_, digest) in files.items()})
    if not missing:
        return
    link.push([(files[remote][0], remote) for remote in missing], mode=mode)
    wrong = _differing(link, {remote: files[remote][1] for remote in missing})
    if wrong:
        raise DeviceUnavailable(
            f"{wrong[0]} on {link.serial} differs from the file that was sent",
            hint="check the cable, and free some space on the phone "
            "(adb shell df /data/local/tmp), then run the same command again",
        )


def _differing(link: AdbLink, expected: Mapping[str, str]) -> list[str]:
    """The paths at which the phone has no file, or one with another hash."""
    found: dict[str, str] = {}
    for folder, names in _batches(list(expected), link.longest):
        # A missing folder has no files; files that sha256sum cannot read are missing from its output.
        command = f"cd {quote(folder)} 2>/dev/null && sha256sum {names} 2>/dev/null"
        result = link.shell(command, timeout_s=_HASHING_S)
        if result.exit_code == 127:
            raise DeviceUnavailable(
                f"{link.serial} has no sha256sum, which comes with Android 8",
                hint="measure on a phone with Android 8 or later",
            )
        for digest, name in _DIGEST.findall(result.stdout):
            found[posixpath.join(folder, name)] = digest
    return [path for path, digest in expected.items() if found.get(path) != digest]


def _batches(paths: Sequence[str], longest: int) -> Iterator[tuple[str, str]]:
    """Split paths into (folder, quoted names) of at most `longest` characters each, or one name.

    Names are relative to the folder that contains all paths: artifacts are directly in it, programs in
    folders of their own.
    """
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    words: list[str] = []
    for word in (quote(posixpath.relpath(path, folder)) for path in paths):
        if words and sum(map(len, words)) + len(words) + len(word) > longest:
            yield folder, " ".join(words)
            words = []
        words.append(word)
    yield folder, " ".join(words)
