"""An iPhone as a device: the runner inside the companion app, on a cable or at an explicit address.

The app is one process. Its conversations stand for runners: each loads models of its own, and the app
answers one request at a time. iOS lets nobody choose cores.
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
from latbench.device.ios.way import Cable, Way, network_way
from latbench.device.lock import UnitLock
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import Request
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, RunnerFailed

Reply = TypeVar("Reply", bound=BaseModel)

#: How long to wait for a host to end that may be gone already: what it asked last is still being done.
PATIENCE_S = 3.0

#: How the app begins when it says that iOS does not let it measure (runner/ios/app/phone_state.c).
_NOT_IN_FRONT = "the companion app"


class IosDevice:
    """One iPhone, locked for this process until `close`.

    Args:
        way: how to reach it.
        entry: what the catalogue says of it.
        token: the pairing token; by default the one that is known here.
        claimed: take it for that device whatever it says it is.

    Raises:
        DeviceUnavailable: it is another device, another process or host has it, it is in low-power
            mode, the token is wrong or not known, or it cannot be reached.
        OutputFailed: latbench's home cannot be written.
    """

    def __init__(
        self,
        way: Way,
        entry: CatalogueDevice,
        *,
        token: str | None = None,
        claimed: bool = False,
    ) -> None:
        self._way = way
        self._token = known_token(way.shown) if token is None else token
        self._session = secrets.token_hex(16)
        self.name = entry.name
        # Held to the end, so that no other host gets in between two runners.
        self._held, facts = self._first()
        self._build = f"iOS {facts.os_version}, {facts.model}"
        self.unit = way.udid if isinstance(way, Cable) else facts.unit
        self.emulated = facts.emulated
        self._lock: UnitLock | None = None
        try:
            self.description = self._described(entry, facts, claimed)
            self._lock = UnitLock(self.unit)
            with self.open_runner() as runner:
                self.reference = runner.hello().reference
        except BaseException:  # Ctrl-C included
            self.close()
            raise

    def open_runner(self) -> RunnerClient:
        """Open a conversation with the app, which serves as a runner.

        Raises:
            DeviceLost: the phone is gone, or the app does not run any more.
            DeviceUnavailable: it does not let us in any more.
        """
        try:
            conversation, _ = self._converse()
        except DeviceLost:
            raise
        except DeviceUnavailable as error:
            if hasattr(self, "reference"):  # it answered before
                raise DeviceLost(error.message, hint=BACK) from None
            raise
        return _AppRunner(conversation.stream, self._build)

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Bring artifacts to the phone, those that it does not have.

        Raises:
            DeviceUnavailable: the phone would not keep them, or is gone.
        """
        try:
            return send_artifacts(self._held, artifacts)
        except DeviceLost as lost:
            self._held.close()
            try:  # the cable may only have been out meanwhile
                self._held, _ = self._converse()
            except DeviceUnavailable:
                raise lost from None
            return send_artifacts(self._held, artifacts)

    def conditions(self) -> Conditions:
        """The state of the phone, as the app tells it."""
        with self.open_runner() as runner:
            return runner.conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Refuse any choice of cores.

        Raises:
            BadRequest: some were chosen.
        """
        if cores:
            raise BadRequest("iOS lets no process choose its cores", hint="leave --cores out")

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """None: iOS chooses."""
        return ()

    def clear(self) -> int:
        """Remove every artifact from the phone; returns the bytes freed.

        Raises:
            DeviceLost: it is gone.
        """
        return int(self._held.ask("clear")["freed_bytes"])

    def close(self) -> None:
        """Give the phone up. Never fails; may be repeated."""
        self._held.close()
        if self._lock is not None:
            self._lock.release()

    def _first(self) -> tuple[Conversation, PhoneFacts]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._converse()
            except PhoneTaken:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _converse(self) -> tuple[Conversation, PhoneFacts]:
        conversation = Conversation(PhoneStream(self._way), self._way.shown)
        try:
            return conversation, prove(conversation, self._token, self._session)
        except BaseException:  # Ctrl-C included
            conversation.close()
            raise

    def _described(self, entry: CatalogueDevice, facts: PhoneFacts, claimed: bool) -> str:
        said = f"{facts.model}, iOS {facts.os_version}"
        if facts.low_power:
            raise DeviceUnavailable(
                f"{self._way.shown} is in low-power mode, which caps its clocks",
                hint="switch it off: Settings, Battery, Low Power Mode",
            )
        known = recognise({"ProductType": facts.model})
        if known is not None and known.name == entry.name:
            return said
        if claimed:
            return f"{said}, taken for {entry.name} by --as"
        what = "which the catalogue does not know" if known is None else f"which is {known.name}"
        raise DeviceUnavailable(
            f"{self._way.shown} says it is {facts.model}, {what}, not {entry.name}",
            hint="name the device that it is, or describe it in ./devices/NAME.toml; "
            f"to take it for {entry.name} all the same, add --as",
        )


class _AppRunner(RunnerClient):
    """A conversation with the app that loads and runs models."""

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
    """Prove a token to the phone, and keep it if that is the one it shows; returns the phone's name.

    Raises:
        BadRequest, DeviceUnavailable: as `find_iphone`; the token is none, or not the phone's.
        OutputFailed: latbench's home cannot be written.
    """
    way = find_iphone(entry, unit, address)
    read = read_token(token)
    conversation = Conversation(PhoneStream(way), way.shown)
    prove(conversation, read, secrets.token_hex(16))
    conversation.close()
    keep_token(way.shown, read)
    return way.shown


def find_iphone(entry: CatalogueDevice, unit: str | None, address: str | None) -> Way:
    """Return the way to the phone at `address`, else to the one on a cable: `unit`, or the only one of
    `entry`, or the only one.

    Raises:
        BadRequest: there are several and none is named, the named one is not among them, or both an
            address and a unit are named.
        DeviceUnavailable: none is attached, or no usbmuxd answers.
    """
    if entry.os != "ios":
        raise BadRequest(f"{entry.name} is no iPhone", hint="latbench devices lists them")
    if address is not None:
        if unit is not None:
            raise BadRequest("--address and --unit name two phones", hint="give one of them")
        return network_way(address)
    try:
        found = list_units()
    except DeviceUnavailable as error:
        raise _not_here(entry, error.message, error.hint) from None
    if not found:
        raise _not_here(entry, "no iPhone is attached", "plug it in and unlock it")
    if unit is None and len(found) > 1:
        same = [one for one in found if _recognised(one) == entry.name]
        found = same if len(same) == 1 else found
    wanted = [one for one in found if unit in (None, one.udid)]
    if len(wanted) == 1:
        return Cable(wanted[0].udid)
    listed = ", ".join(one.udid for one in found)
    if unit is None:
        raise BadRequest(f"several iPhones are attached: {listed}", hint="choose one: --unit UDID")
    raise BadRequest(f"no iPhone {unit} is attached", hint=f"attached: {listed}")


def _not_here(entry: CatalogueDevice, reason: str, cure: str | None) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"cannot measure on {entry.name}: {reason}",
        hint=f"{cure}; on Wi-Fi, name it: --address HOST:PORT; without one, measure on this machine "
        "with --device host",
    )


def _recognised(unit: UsbUnit) -> str | None:
    with contextlib.suppress(DeviceUnavailable):
        known = recognise(properties(unit.udid))
        return None if known is None else known.name
    return None
