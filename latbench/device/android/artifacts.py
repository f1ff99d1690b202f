"""Files that a phone needs, kept there by what is in them: sent once, and never trusted unseen.

Everything lies below one folder, which `clean` removes. A file is at the SHA-256 of its content; what
is found there is hashed by the phone itself before it is used, and sent again if it is not what its
name says. So a copy that broke off, or that somebody changed, is never measured; and files go straight to
their places, since two more programs on the phone, which move them there, take as long as many files.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from latbench.device.android.link import AdbLink, FileRefused, quote
from latbench.errors import DeviceUnavailable
from latbench.files import sha256_of

#: All that latbench leaves on a phone.
FOLDER = "/data/local/tmp/latbench"

_HASHING_S = 120.0  # for as many files as fit into one command
_DIGEST = re.compile(r"^\\?([0-9a-f]{64})\s+\*?(.+?)\r?$", re.MULTILINE)


def send_artifacts(link: AdbLink, files: Sequence[Path]) -> dict[Path, str]:
    """Bring artifacts to the phone, in one batch; returns each one's path there.

    Raises:
        DeviceUnavailable: the phone holds something else than was sent, twice.
        FileRefused, DeviceLost: as `AdbLink.push`.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in dict.fromkeys(files)}
    places = {path: f"{FOLDER}/artifacts/{digest}" for path, digest in digests.items()}
    _send(link, {places[path]: (path, digest) for path, digest in digests.items()}, mode=0o644)
    return places


def send_program(link: AdbLink, files: Sequence[Path]) -> dict[Path, str]:
    """Bring programs and libraries, which keep their names, to folders named after their content.

    Raises as `send_artifacts`.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in files}
    places = {path: f"{FOLDER}/programs/{digests[path]}/{path.name}" for path in files}
    _send(link, {places[path]: (path, digests[path]) for path in files}, mode=0o755)
    return places


def clean(link: AdbLink) -> int:
    """Remove all that latbench left on the phone; returns how many bytes that were.

    Raises:
        FileRefused: the phone would not remove it.
        DeviceLost: as `AdbLink.shell`.
    """
    used = link.shell(f"du -sk {FOLDER} 2>/dev/null").stdout.split()
    removed = link.shell(f"rm -rf {FOLDER}", timeout_s=_HASHING_S)
    if removed.exit_code:
        reason = (removed.stderr or removed.stdout).strip()
        raise FileRefused("remove", link.serial, FOLDER, reason)
    return 1024 * int(used[0]) if used and used[0].isdecimal() else 0


def _send(link: AdbLink, wanted: Mapping[str, tuple[Path, str]], *, mode: int) -> None:
    """Make sure that each remote path holds what its (local file, digest) says."""
    missing = _differing(link, {remote: digest for remote, (_, digest) in wanted.items()})
    if not missing:
        return
    link.push([(wanted[remote][0], remote) for remote in missing], mode=mode)
    wrong = _differing(link, {remote: wanted[remote][1] for remote in missing})
    if wrong:
        raise DeviceUnavailable(
            f"{link.serial} holds something else at {wrong[0]} than was sent there",
            hint="check the cable, and free some space on the phone "
            "(adb shell df /data/local/tmp), then run the same command again",
        )


def _differing(link: AdbLink, expected: Mapping[str, str]) -> list[str]:
    """The paths at which the phone has no file, or one with another hash."""
    found: dict[str, str] = {}
    for folder, names in _batches(list(expected), link.longest):
        # A folder that is not there holds nothing; sha256sum names what it cannot read by itself.
        command = f"cd {quote(folder)} 2>/dev/null && sha256sum {names} 2>/dev/null"
        result = link.shell(command, timeout_s=_HASHING_S)
        if result.exit_code == 127:
            raise DeviceUnavailable(
                f"{link.serial} has no sha256sum, which Android 8 and later have",
                hint="measure on a newer phone",
            )
        for digest, name in _DIGEST.findall(result.stdout):
            found[posixpath.join(folder, name)] = digest
    return [path for path, digest in expected.items() if found.get(path) != digest]


def _batches(paths: Sequence[str], longest: int) -> Iterator[tuple[str, str]]:
    """(folder, quoted names) for all paths, each at most `longest` characters, or one name.

    Artifacts are named inside their folder. Programs have folders of their own, so they are named
    from the one above.
    """
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    words: list[str] = []
    for word in (quote(posixpath.relpath(path, folder)) for path in paths):
        if words and sum(map(len, words)) + len(words) + len(word) > longest:
            yield folder, " ".join(words)
            words = []
        words.append(word)
    yield folder, " ".join(words)
