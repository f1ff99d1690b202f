"""Files that a phone needs, sent in the protocol and kept there by their SHA-256: each is sent once."""

import base64
from collections.abc import Sequence
from pathlib import Path

from latbench.device.ios.stream import Conversation
from latbench.errors import DeviceUnavailable, RunnerFailed
from latbench.files import sha256_of

#: Bytes of a piece: in base64 and with the rest of its request it must fit into a line of 64 KiB.
PIECE = 45 * 1024
_NAMES = 500  # in one request


def send_artifacts(conversation: Conversation, files: Sequence[Path]) -> dict[Path, str]:
    """Bring artifacts to the phone, those that it does not have; returns each one's name there.

    The phone hashes what it has, so a file that was cut off or changed there is sent again.

    Raises:
        DeviceUnavailable: the phone would not keep one; `DeviceLost` if it went away. What had come by
            then in whole is there the next time.
    """
    digests = {path: sha256_of(path.read_bytes()) for path in dict.fromkeys(files)}
    paths = {digest: path for path, digest in digests.items()}
    names = list(paths)
    for at in range(0, len(names), _NAMES):
        asked = names[at : at + _NAMES]
        missing = conversation.ask("missing", sha256=asked).get("missing", asked)
        for name in asked:
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
                f"the phone would not keep {name[:12]}…: {error.reason}",
                hint=error.hint or "free some space on the phone, then run the same command again",
            ) from None
