"""Reads an iPhone's model and release from its lockdown service, without pairing.

A message is its length as a big-endian 32-bit number and an XML property list. Model and release can be
read without a session.
"""

import plistlib
import socket
import struct
from typing import Any
from xml.parsers.expat import ExpatError

from latbench.device.ios.usbmux import connect
from latbench.errors import DeviceUnavailable

PORT = 62078
_LENGTH = struct.Struct(">I")
_MAX_MESSAGE = 1 << 20
_TIMEOUT_S = 10.0
_KEYS = ("ProductType", "ProductVersion", "BuildVersion")


def properties(udid: str) -> dict[str, str]:
    """ProductType ("iPhone10,3"), ProductVersion ("16.7.10") and BuildVersion, if the phone reports them.

    Raises:
        DeviceUnavailable: it is not attached, or does not answer, for instance because it is locked.
    """
    with connect(udid, PORT) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            values = {key: _ask(connection, key).get("Value") for key in _KEYS}
        except (OSError, ValueError, ExpatError) as error:
            raise DeviceUnavailable(
                f"cannot read the model of {udid}: {error}",
                hint="unlock the phone, then run the same command again",
            ) from None
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _ask(connection: socket.socket, key: str) -> dict[str, Any]:
    body = plistlib.dumps({"Label": "latbench", "Request": "GetValue", "Key": key})
    connection.sendall(_LENGTH.pack(len(body)) + body)
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    reply = plistlib.loads(_exactly(connection, length))
    if not isinstance(reply, dict):
        raise ValueError("a message that is not a dictionary")
    return reply


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return bytes(data)
