"""The ways to a companion app: a cable, through usbmuxd, or the network, by an explicit address."""

import re
import socket
from dataclasses import dataclass
from typing import Protocol

from latbench.device.ios import usbmux
from latbench.errors import BadRequest, DeviceUnavailable

#: Where the app listens, on the phone; COMPANION_PORT of runner/ios/app/companion.h.
PORT = 58627
_CONNECT_S = 10.0
_OPEN_APP = "open the latbench app on the phone, and leave it in front"


class Way(Protocol):
    """How to reach one phone."""

    @property
    def shown(self) -> str:
        """What to call the phone in messages."""

    def dial(self) -> socket.socket:
        """Open a connection to the app; the caller closes it.

        Raises:
            DeviceUnavailable: the phone cannot be reached, or the app does not run.
        """

    def is_there(self) -> bool:
        """Whether the phone can be reached at all, whatever the app does."""


@dataclass(frozen=True)
class Cable:
    """A phone on USB."""

    udid: str

    @property
    def shown(self) -> str:
        return self.udid

    def dial(self) -> socket.socket:
        try:
            return usbmux.connect(self.udid, PORT)
        except usbmux.PortClosed:
            raise DeviceUnavailable(
                f"the companion app does not run on {self.udid}",
                hint=f"{_OPEN_APP} (to install it: latbench runner install --device NAME)",
            ) from None

    def is_there(self) -> bool:
        try:
            return any(unit.udid == self.udid for unit in usbmux.list_units())
        except DeviceUnavailable:
            return False


@dataclass(frozen=True)
class Network:
    """A phone on the same network, whose app was told to listen there."""

    host: str
    port: int = PORT

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"

    def dial(self) -> socket.socket:
        try:
            connection = socket.create_connection((self.host, self.port), _CONNECT_S)
        except OSError as error:
            raise DeviceUnavailable(
                f"no companion app answers at {self.shown}: {error.strerror or error}",
                hint=f"{_OPEN_APP}, with Wi-Fi allowed in it",
            ) from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(None)
        return connection

    def is_there(self) -> bool:
        try:
            self.dial().close()
        except DeviceUnavailable:
            return False
        return True


def network_way(address: str) -> Network:
    """Read HOST or HOST:PORT.

    Raises:
        BadRequest: it is neither.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/]+)(?::(\d{1,5}))?", address)
    port = PORT if match is None or match[2] is None else int(match[2])
    if match is None or not 0 < port < 65536:
        raise BadRequest(
            f"{address!r} is no address of a phone", hint=f"write HOST:PORT, as 192.168.1.7:{PORT}"
        )
    return Network(match[1].strip("[]"), port)
