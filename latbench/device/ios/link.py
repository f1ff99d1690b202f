"""The two links to a companion app: USB, through usbmuxd, or the network, by an explicit address."""

import re
import socket
from dataclasses import dataclass
from typing import Protocol

from latbench.device.ios import usbmux
from latbench.errors import BadRequest, DeviceUnavailable

#: The app's port on the phone: COMPANION_PORT of runner/ios/app/companion.h.
PORT = 58627
_CONNECT_S = 10.0
_OPEN_APP = "open the latbench app on the phone, and keep it in front"


class AppLink(Protocol):
    """A link to one phone."""

    @property
    def shown(self) -> str:
        """The phone's name in messages."""

    def connect(self) -> socket.socket:
        """Open a connection to the app; the caller closes it.

        Raises:
            DeviceUnavailable: the phone cannot be reached, or the app is not running.
        """

    def is_reachable(self) -> bool:
        """Whether the phone can be reached, whether or not the app runs."""


@dataclass(frozen=True)
class UsbLink:
    """A phone on USB."""

    udid: str

    @property
    def shown(self) -> str:
        return self.udid

    def connect(self) -> socket.socket:
        try:
            return usbmux.connect(self.udid, PORT)
        except usbmux.PortClosed:
            raise DeviceUnavailable(
                f"the companion app is not running on {self.udid}",
                hint=f"{_OPEN_APP}; to install it: latbench runner install --device NAME --app FILE.ipa",
            ) from None

    def is_reachable(self) -> bool:
        try:
            return any(unit.udid == self.udid for unit in usbmux.list_units())
        except DeviceUnavailable:
            return False


@dataclass(frozen=True)
class NetworkLink:
    """A phone on the same network, whose app listens there."""

    host: str
    port: int = PORT

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        try:
            connection = socket.create_connection((self.host, self.port), _CONNECT_S)
        except OSError as error:
            raise DeviceUnavailable(
                f"no companion app answers at {self.shown}: {error.strerror or error}",
                hint=f"{_OPEN_APP}, with Wi-Fi enabled in it",
            ) from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(None)
        return connection

    def is_reachable(self) -> bool:
        try:
            self.connect().close()
        except DeviceUnavailable:
            return False
        return True


def network_link(address: str) -> NetworkLink:
    """Parse HOST or HOST:PORT.

    Raises:
        BadRequest: it is neither.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/]+)(?::(\d{1,5}))?", address)
    port = PORT if match is None or match[2] is None else int(match[2])
    if match is None or not 0 < port < 65536:
        raise BadRequest(
            f"invalid address of a phone: {address!r}",
            hint=f"write it like --address 192.168.1.7:{PORT}",
        )
    return NetworkLink(match[1].strip("[]"), port)
