"""Content-addressed files on an iPhone, sent in the protocol: each is sent once."""

import base64
from collections.abc import Sequence
from pathlib import Path

from latbench.device.ios.stream import Conversation
from latbench.errors import DeviceUnavailable, RunnerFailed
from latbench.files import sha256_of

#: Bytes in one request: base64-encoded, they must fit into a line of 64 KiB.
PIECE = 45 * 1024
_NAMES = 500  # in one request


def send_artifacts(conversation: Conversation, files: Sequence[Path]) -> dict[Path, str]:
    """Send the artifacts that the phone does not have; returns the name of each there.

    The phone hashes its files, so an incomplete or modified one is sent again.

    Raises:
        DeviceUnavailable: the phone refuses one; `DeviceLost` if it is gone. Files that were complete by then
            are not sent again.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in dict.fromkeys(files)}
    paths = {digest: path for path, digest in digests.items()}
    names = list(paths)
    for at in range(0, len(names), _NAMES):
        batch = names[at : at + _NAMES]
        missing = conversation.ask("missing", sha256=batch).get("missing", batch)
        for name in batch:
            if name in missing:
                _send(conversation, name, paths[name].read_bytes())
    return digests


def _send(conversation: Conversation, name: str, data: bytes) -> None:
    for offset in range(0, max(1, len(data)), PIECE):
        piece = base64.b64encode(data[offset : offset + PIECE]).decode()
        try:
            conversation.ask("upload", sha256=name, size=len(data), offset=offset, data=piece)
        except RunnerFailed as error:
            raise DeviceUnavailable(
                f"the phone refuses the artifact {name[:12]}…: {error.reason}",
                hint=error.hint or "free some space on the phone, then run the same command again",
            ) from None
