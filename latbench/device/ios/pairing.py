"""The pairing token of an iPhone: stored here, proved to the phone, and never sent.

Both sides prove by HMAC-SHA-256 that they know the token, over nonces of both and the session, which
distinguishes the connections of this process from another host's (runner/ios/app/pairing.h).
"""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from pydantic import ValidationError

from latbench.device.ios.stream import Conversation
from latbench.device.lock import unit_file
from latbench.errors import BadRequest, DeviceUnavailable, RunnerFailed
from latbench.files import write_atomically
from latbench.record import Record

#: Environment variable with the token; it takes precedence over the stored one.
VARIABLE = "LATBENCH_IPHONE_TOKEN"
#: The first words of the app's error when another host uses it (runner/ios/app/conversation.c).
_TAKEN = "another host"
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


class PhoneFacts(Record, extra="ignore"):
    """What a phone reports to a paired host.

    Attributes:
        model: Apple's name, such as "iPhone10,3".
        os_version: the version of iOS.
        unit: the phone's identifier over Wi-Fi; iOS gives every developer's apps another one.
        emulated: whether its times are meaningless.
        low_power_mode: whether low-power mode is on, which caps the clocks.
    """

    model: str
    os_version: str
    unit: str
    emulated: bool
    low_power_mode: bool = False


class PhoneTaken(DeviceUnavailable):
    """Another host uses the phone."""


def read_token(text: str) -> str:
    """Normalise a token to the form that the phone shows.

    Raises:
        BadRequest: it is not a token.
    """
    digits = re.sub(r"[\s-]", "", text).upper()
    if len(digits) != 16 or not set(digits) <= set(_ALPHABET):
        raise BadRequest(
            "this is not a pairing token",
            hint="type the 16 letters and digits that the app shows, like ABCD-EFGH-JKMN-PQRS",
        )
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def known_token(unit: str) -> str:
    """The token of the phone `unit`, from $LATBENCH_IPHONE_TOKEN or stored by `keep_token`.

    Raises:
        DeviceUnavailable: there is none.
        BadRequest: the variable does not hold a token.
    """
    if named := os.environ.get(VARIABLE):
        return read_token(named)
    try:
        return read_token(_file(unit).read_text(encoding="ascii"))
    except (OSError, ValueError, BadRequest):
        raise DeviceUnavailable(
            f"this computer is not paired with {unit}",
            hint="latbench runner pair --device NAME, and type the token that the app on the phone shows",
        ) from None


def keep_token(unit: str, token: str) -> Path:
    """Store a token, readable by this user only; returns the file.

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
    """Prove to the phone that this host knows the token, and check that the phone knows it too.

    Raises:
        DeviceUnavailable: the phone shows another token, or does not know it either.
        PhoneTaken: another host uses it.
        DeviceLost: it is gone.
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
            "the other side does not know the token: it is not the phone that showed it",
            hint="check the address; on an open network, use a cable",
        )
    try:
        return PhoneFacts.model_validate(reply, strict=True)
    except ValidationError as error:
        conversation.close()
        first = error.errors()[0]
        raise DeviceUnavailable(
            f"the companion app's reply is invalid: field {first['loc'][0]}: {first['msg']}",
            hint="install the app of this version of latbench: runner/ios/README.md",
        ) from None


def _proof(token: str, role: str, session: str, host_nonce: str, phone_nonce: str) -> str:
    message = f"latbench {role}:{session}:{host_nonce}:{phone_nonce}"
    return hmac.new(token.encode(), message.encode(), hashlib.sha256).hexdigest()


def _file(unit: str) -> Path:
    return unit_file("iphones", unit, ".token")
