"""An iPhone as a device: the runner in the companion app, over USB or at an explicit address.

The app is one process. Each connection to it serves as a runner with models of its own; the app answers
one request at a time. iOS does not allow a process to choose its cores.
"""

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.conditions import Conditions
from latbench.device.ios.artifacts import send_artifacts
from latbench.device.ios.link import AppLink, UsbLink, network_link
from latbench.device.ios.lockdown import properties
from latbench.device.ios.pairing import (
    PhoneFacts,
    PhoneTaken,
    keep_token,
    known_token,
    prove,
    read_token,
)
from latbench.device.ios.stream import BACK, Conversation, PhoneStream
from latbench.device.ios.usbmux import UsbUnit, list_units
from latbench.device.lock import UnitLock
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import Request
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, RunnerFailed

Reply = TypeVar("Reply", bound=BaseModel)

#: How long to wait for the last request of a previous host, which may be gone already.
PATIENCE_S = 3.0

#: The first words of the app's error when it is not in front (runner/ios/app/phone_state.c).
_NOT_IN_FRONT = "the companion app"


class IosDevice:
    """One iPhone, locked for this process until `close`.

    Args:
        link: the connection to it.
        entry: its entry in the catalogue.
        token: the pairing token; by default the stored one.
        skip_identity_check: accept it as that device, whatever it identifies itself as.

    Raises:
        DeviceUnavailable: it is another device, another process or host uses it, it is in low-power
            mode, the token is wrong or unknown, or it cannot be reached.
        OutputFailed: latbench's home cannot be written.
    """

    def __init__(
        self,
        link: AppLink,
        entry: CatalogueDevice,
        *,
        token: str | None = None,
        skip_identity_check: bool = False,
    ) -> None:
        self._link = link
        self._token = known_token(link.shown) if token is None else token
        self._session = secrets.token_hex(16)
        self.name = entry.name
        # Open until the end, so that no other host connects between two runners.
        self._held, facts = self._first_connection()
        self._build = f"iOS {facts.os_version}, {facts.model}"
        self.unit = link.udid if isinstance(link, UsbLink) else facts.unit
        self.emulated = facts.emulated
        self._lock: UnitLock | None = None
        try:
            self.description = self._described(entry, facts, skip_identity_check)
            self._lock = UnitLock(self.unit)
            with self.open_runner() as runner:
                self.reference = runner.hello().reference
        except BaseException:  # Ctrl-C included
            self.close()
            raise

    def open_runner(self) -> RunnerClient:
        """Open a connection to the app, which serves as a runner.

        Raises:
            DeviceLost: the phone is gone, or the app no longer runs.
            DeviceUnavailable: it no longer accepts this host.
        """
        try:
            conversation, _ = self._connect()
        except DeviceLost:
            raise
        except DeviceUnavailable as error:
            if hasattr(self, "reference"):  # it answered before
                raise DeviceLost(error.message, hint=BACK) from None
            raise
        return _AppRunner(conversation.stream, self._build)

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Send the artifacts that the phone does not have.

        Raises:
            DeviceUnavailable: the phone refuses them, or is gone.
        """
        try:
            return send_artifacts(self._held, artifacts)
        except DeviceLost as lost:
            self._held.close()
            try:  # the cable may have been unplugged for a moment
                self._held, _ = self._connect()
            except DeviceUnavailable:
                raise lost from None
            return send_artifacts(self._held, artifacts)

    def conditions(self) -> Conditions:
        """Read the state of the phone from the app."""
        with self.open_runner() as runner:
            return runner.conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Refuse any choice of cores.

        Raises:
            BadRequest: some were chosen.
        """
        if cores:
            raise BadRequest(
                "iOS does not allow a process to choose its cores", hint="leave out --cores"
            )

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Empty: iOS chooses the cores."""
        return ()

    def clear(self) -> int:
        """Remove every artifact from the phone; returns the bytes freed.

        Raises:
            DeviceLost: it is gone.
        """
        return int(self._held.ask("clear")["freed_bytes"])

    def close(self) -> None:
        """Release the phone. Never raises; may be repeated."""
        self._held.close()
        if self._lock is not None:
            self._lock.release()

    def _first_connection(self) -> tuple[Conversation, PhoneFacts]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._connect()
            except PhoneTaken:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _connect(self) -> tuple[Conversation, PhoneFacts]:
        conversation = Conversation(PhoneStream(self._link), self._link.shown)
        try:
            return conversation, prove(conversation, self._token, self._session)
        except BaseException:  # Ctrl-C included
            conversation.close()
            raise

    def _described(
        self, entry: CatalogueDevice, facts: PhoneFacts, skip_identity_check: bool
    ) -> str:
        phone = f"{facts.model}, iOS {facts.os_version}"
        if facts.low_power_mode:
            raise DeviceUnavailable(
                f"{self._link.shown} is in low-power mode, which caps its clocks",
                hint="turn it off: Settings, Battery, Low Power Mode",
            )
        known = recognise({"ProductType": facts.model})
        if known is not None and known.name == entry.name:
            return phone
        if skip_identity_check:
            return f"{phone}, measured as {entry.name} by --as"
        what = "which is not in the catalogue" if known is None else f"which is {known.name}"
        raise DeviceUnavailable(
            f"{self._link.shown} identifies itself as {facts.model}, {what}, not {entry.name}",
            hint="choose its own --device, or describe it in ./devices/NAME.toml; "
            f"to measure it as {entry.name} anyway: --device {entry.name} --as",
        )


class _AppRunner(RunnerClient):
    """A connection to the app that loads and runs models."""

    def __init__(self, stream: PhoneStream, build: str) -> None:
        super().__init__(stream)
        self._build = build

    def conditions(self, timeout_s: float = 30.0) -> Conditions:
        """As `RunnerClient.conditions`."""
        seen = super().conditions(timeout_s)
        build = ", ".join(part for part in (self._build, seen.build) if part)
        return seen.model_copy(update={"build": build})

    def _ask(self, stage: str, request: Request, reply: type[Reply], timeout_s: float) -> Reply:
        try:
            return super()._ask(stage, request, reply, timeout_s)
        except RunnerFailed as error:
            if error.kind == "refused" and error.reason.startswith(_NOT_IN_FRONT):
                raise DeviceLost(error.reason, hint=f"{error.hint}; {BACK}") from None
            raise


def pair_phone(entry: CatalogueDevice, token: str, unit: str | None, address: str | None) -> str:
    """Store a pairing token if it is the one that the phone shows; returns the phone's name.

    Raises:
        BadRequest, DeviceUnavailable: as `find_iphone`; or the token is invalid, or not the phone's.
        OutputFailed: latbench's home cannot be written.
    """
    link = find_iphone(entry, unit, address)
    read = read_token(token)
    conversation = Conversation(PhoneStream(link), link.shown)
    prove(conversation, read, secrets.token_hex(16))
    conversation.close()
    keep_token(link.shown, read)
    return link.shown


def find_iphone(entry: CatalogueDevice, unit: str | None, address: str | None) -> AppLink:
    """Return a link to the phone at `address`, else to one on USB: `unit`, the only one of `entry`, or the
    only one.

    Raises:
        BadRequest: several are attached and none is named, the named one is not attached, or both an
            address and a unit are named.
        DeviceUnavailable: none is attached, or no usbmuxd answers.
    """
    if entry.os != "ios":
        raise BadRequest(f"{entry.name} is not an iPhone", hint="latbench devices lists them")
    if address is not None:
        if unit is not None:
            raise BadRequest("--address and --unit exclude each other", hint="leave out --unit")
        return network_link(address)
    try:
        found = list_units()
    except DeviceUnavailable as error:
        raise _not_here(entry, error.message, error.hint) from None
    if not found:
        raise _not_here(entry, "no iPhone is attached", "connect it and unlock it")
    if unit is None and len(found) > 1:
        same = [one for one in found if _recognised(one) == entry.name]
        found = same if len(same) == 1 else found
    matching = [one for one in found if unit in (None, one.udid)]
    if len(matching) == 1:
        return UsbLink(matching[0].udid)
    listed = ", ".join(one.udid for one in found)
    if unit is None:
        raise BadRequest(
            f"several iPhones are attached: {listed}", hint=f"choose one: --unit {found[0].udid}"
        )
    raise BadRequest(f"no iPhone {unit} is attached", hint=f"attached: {listed}")


def _not_here(entry: CatalogueDevice, reason: str, cure: str | None) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"cannot measure on {entry.name}: {reason}",
        hint=f"{cure}; or on Wi-Fi: --address HOST:PORT; to measure on this machine instead: --device host",
    )


def _recognised(unit: UsbUnit) -> str | None:
    with contextlib.suppress(DeviceUnavailable):
        known = recognise(properties(unit.udid))
        return None if known is None else known.name
    return None
