"""The pairing token of a phone: kept here, proved to the phone, and never sent.

Both sides prove by HMAC-SHA-256 that they know it, over nonces of both and the session, which tells the
connections of this process from another host's (runner/ios/app/pairing.h).
"""

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from latbench.device.ios.stream import Conversation
from latbench.device.lock import unit_file
from latbench.errors import BadRequest, DeviceUnavailable, RunnerFailed
from latbench.files import write_atomically

#: Where a token is looked for before latbench's home.
VARIABLE = "LATBENCH_IPHONE_TOKEN"
#: How the app says that another host has it (runner/ios/app/conversation.c).
_TAKEN = "another host"
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class PhoneFacts:
    """What a phone tells those that it lets in.

    Attributes:
        model: Apple's name of it, as "iPhone10,3".
        os_version: of iOS.
        unit: what tells it apart where no cable does; iOS gives each maker's apps one of their own.
        emulated: whether its times mean nothing.
        low_power: whether low-power mode is on, which caps the clocks.
    """

    model: str
    os_version: str
    unit: str
    emulated: bool
    low_power: bool


class PhoneTaken(DeviceUnavailable):
    """Another host measures on the phone."""


def read_token(text: str) -> str:
    """A token as the phone shows it, however it was typed.

    Raises:
        BadRequest: it is none.
    """
    digits = re.sub(r"[\s-]", "", text).upper()
    if len(digits) != 16 or not set(digits) <= set(_ALPHABET):
        raise BadRequest(
            "that is no pairing token",
            hint="type the 16 letters and digits that the app shows, like ABCD-EFGH-JKMN-PQRS",
        )
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def known_token(unit: str) -> str:
    """The token of the phone `unit`, from $LATBENCH_IPHONE_TOKEN or as `keep_token` kept it.

    Raises:
        DeviceUnavailable: none is known.
        BadRequest: the variable holds none.
    """
    if named := os.environ.get(VARIABLE):
        return read_token(named)
    try:
        return read_token(_file(unit).read_text(encoding="ascii"))
    except (OSError, ValueError, BadRequest):
        raise DeviceUnavailable(
            f"the pairing token of {unit} is not known here",
            hint="latbench runner pair --device NAME asks for what the app on the phone shows",
        ) from None


def keep_token(unit: str, token: str) -> Path:
    """Keep a token for `known_token`, for this user alone; returns the file.

    Raises:
        OutputFailed: latbench's home cannot be written.
    """
    path = _file(unit)
    before = os.umask(0o077)
    try:
        write_atomically(path, token + "\n")
    finally:
        os.umask(before)
    return path


def prove(conversation: Conversation, token: str, session: str) -> PhoneFacts:
    """Prove to the phone that we know the token, and have it prove the same.

    Raises:
        DeviceUnavailable: it shows another token, or does not know it either.
        PhoneTaken: another host has it.
        DeviceLost: it went away.
    """
    nonce = secrets.token_hex(16)
    try:
        other = str(conversation.ask("pair", session=session, nonce=nonce).get("nonce"))
        ours = _proof(token, "host", session, nonce, other)
        reply = conversation.ask("prove", proof=ours)
    except RunnerFailed as error:
        conversation.close()
        kind = PhoneTaken if error.reason.startswith(_TAKEN) else DeviceUnavailable
        raise kind(error.reason, hint=error.hint) from None
    theirs = _proof(token, "phone", session, nonce, other)
    if not hmac.compare_digest(theirs, str(reply.get("proof"))):
        conversation.close()
        raise DeviceUnavailable(
            "what answers does not know the token itself: it is not the phone that showed it",
            hint="check the address; on an open network, use a cable",
        )
    return PhoneFacts(
        model=str(reply.get("model")),
        os_version=str(reply.get("os_version")),
        unit=str(reply.get("unit")),
        emulated=reply.get("emulated") is not False,
        low_power=reply.get("low_power_mode") is True,
    )


def _proof(token: str, role: str, session: str, host_nonce: str, phone_nonce: str) -> str:
    message = f"latbench {role}:{session}:{host_nonce}:{phone_nonce}"
    return hmac.new(token.encode(), message.encode(), hashlib.sha256).hexdigest()


def _file(unit: str) -> Path:
    return unit_file("iphones", unit, ".token")
