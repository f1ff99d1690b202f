"""An Android phone as a device: the C runner over ADB, artifacts by their hash, settings put back.

What lies on the phone is in `artifacts.FOLDER`; what is kept here about it, in latbench's home.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from latbench.device.android import cores as cores_of
from latbench.device.android.artifacts import clean, send_artifacts, send_program
from latbench.device.android.conditions import ask_services, merged
from latbench.device.android.link import AdbLink, quote
from latbench.device.android.prepare import Preparation, restore
from latbench.device.android.root import Root, find_root
from latbench.device.android.sysfiles import PhoneFiles
from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.conditions import Conditions
from latbench.device.linux import read_conditions
from latbench.device.lock import UnitLock
from latbench.device.protocol.client import Hello, RunnerClient
from latbench.device.protocol.transport import Transport
from latbench.device.runner_files import ENGINES, PROGRAM, InstalledFile, program_for
from latbench.device.tools.programs import TOOLS
from latbench.errors import (
    BadRequest,
    DeviceLost,
    DeviceUnavailable,
    LatbenchError,
    RunnerFailed,
)
from latbench.runtime.registry import descriptor
from latbench.target import Runtime

_log = logging.getLogger(__name__)

#: No profile of a whole space takes this long; a runner that is older is forgotten.
_MAX_SECONDS = 6 * 3600
_LEAST_BATTERY_PERCENT = 5  # below it phones save power, and soon switch themselves off
_BACK_S = 2.0  # for a phone that was gone to answer; a run asks again and again
_START_S = 60.0  # the engines' libraries are hashed on the phone


class AndroidDevice:
    """One phone, locked for this process until `close`.

    Args:
        link: the way to it; closed with the device.
        entry: what the catalogue says of it.
        claimed: take it for that device whatever it says it is.
        prepared: change its settings for steadier times (`latbench.device.android.prepare`).

    `description`, which a LUT keeps, tells of both.

    Raises:
        DeviceUnavailable: it is another device, another process has it, or it cannot be reached.
        OutputFailed: latbench's home cannot be written.
    """

    def __init__(
        self,
        link: AdbLink,
        entry: CatalogueDevice,
        *,
        claimed: bool = False,
        prepared: bool = False,
    ) -> None:
        self._link = link
        self.name = entry.name
        self._properties = link.properties()
        self.unit = unit_of(self._properties, link.serial)
        self.emulated = is_emulated(self._properties)
        self._command: str | None = None
        self._preparation: Preparation | None = None
        self._root: Root | None = None
        self._cores = cores_of.ask_cores(link)
        doubt = self._doubt(entry)
        if doubt is not None and not claimed:
            raise DeviceUnavailable(
                doubt,
                hint="name the device that it is, or describe it in ./devices/NAME.toml; "
                f"to take it for {entry.name} all the same, add --as",
            )
        said = describe(self._properties)
        self.description = said if doubt is None else f"{said}, taken for {entry.name} by --as"
        self._lock = UnitLock(self.unit)
        try:
            restore(link, self.unit)
            if prepared:
                self._preparation = Preparation(link, self.unit)
                self._root = find_root(link)
                self._preparation.make(self._root, emulated=self.emulated)
                self.description += f"; prepared: {self._preparation}"
        except BaseException:  # Ctrl-C included
            self.close()
            raise

    @cached_property
    def reference(self) -> str | None:
        """The workload without an engine that the phone's runner has; it is asked once.

        None of an emulated phone: its times mean nothing, and the workload takes half a minute there.

        Raises:
            RunnerFailed, DeviceUnavailable: as `open_runner`.
        """
        if self.emulated:
            return None
        with self.open_runner() as runner:
            return runner.hello().reference

    def open_runner(self, max_seconds: int = _MAX_SECONDS) -> RunnerClient:
        """Start a runner on the phone, which is sent there if it is not, with the engines.

        Args:
            max_seconds: when the runner ends itself, whatever it is doing.

        Raises:
            RunnerFailed: it does not start, or does not speak the protocol.
            DeviceUnavailable: there is none for this phone (the command that makes one is told),
                none of its engines can be opened there, or the phone cannot be reached.
        """
        if self._command is None:
            self._command = self._sent_command()
        stream = self._link.open_stream(f"exec {self._command} --max-seconds {max_seconds}")
        fingerprint = self._properties.get("ro.build.fingerprint")
        client = _PhoneRunner(stream, self._link, fingerprint, self._root)
        try:
            self._require_engine(client, client.hello(_START_S))
        except BaseException:  # Ctrl-C included: nothing must stay behind
            client.kill()
            raise
        return client

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Bring artifacts to the phone, those that it does not have. A phone that was gone may be back.

        Raises:
            DeviceUnavailable, FileRefused: the phone cannot be reached, would not take them, or is
                about to switch itself off.
        """
        try:
            return self._sent(artifacts)
        except DeviceLost:
            self._come_back()
            return self._sent(artifacts)

    def require_runtime(self, runtime: Runtime) -> None:
        """Make sure that the runner in C may have an engine for `runtime`; which it has it tells later.

        Raises:
            BadRequest: it has none in any case.
        """
        found = descriptor(runtime)
        if found.runner_engine is None:
            programs = [
                f"--runner {tool.name}=FILE" for tool in TOOLS.values() if tool.runtime is runtime
            ]
            raise BadRequest(
                f"latbench's own runner on phones has no engine for {found.title}",
                hint=f"build {found.title}'s program for the phone: {programs[0]}"
                if programs
                else None,
            )

    def conditions(self) -> Conditions:
        """The state of the phone, as a runner that is started for it and its services tell."""
        with self.open_runner() as runner:
            return runner.conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Make sure that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: the phone shows no such core, or they are fewer than the threads.
        """
        cores_of.require_cores(self._cores, cores, threads)

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """The `threads` fastest cores; empty where the phone shows none.

        Raises:
            BadRequest: the phone has fewer.
        """
        return cores_of.fastest(self._cores, threads)

    def close(self) -> None:
        """Put the phone's settings back, and give it up. Never fails; may be repeated.

        A phone that is gone has its settings put back by the next command that opens it. What the phone
        would not put back is told as a warning of this module's logger.
        """
        try:
            if self._preparation is not None:
                restore(self._link, self.unit)
        except DeviceLost:
            pass
        except LatbenchError as error:
            told = "\n  ".join([error.message, *error.details])
            _log.warning("%s\n%s", told, error.hint)
        self._lock.release()
        self._link.close()

    def _sent(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        told: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):  # busy services: unavailable this time
            told = ask_services(self._link)
        percent = told.get("battery_percent")
        if percent is not None and percent < _LEAST_BATTERY_PERCENT and not told.get("charging"):
            raise DeviceUnavailable(
                f"the battery of {self._link.serial} is at {percent:.0f} %, and does not charge",
                hint="plug it into a charger, then run the same command again",
            )
        try:
            return send_artifacts(self._link, artifacts)
        except TimeoutError as error:
            raise DeviceUnavailable(
                f"{self._link.serial}: {error}",
                hint="restart the phone, then run the same command again",
            ) from None

    def _come_back(self) -> None:
        """Find a phone again that was gone; it may have restarted meanwhile.

        Raises:
            DeviceUnavailable: it is still gone or starting, something else answers in its place, or it
                cannot be prepared again.
        """
        self._link.reconnect(_BACK_S)
        self._command = None  # what it keeps is looked at anew
        properties = self._link.properties()
        answers = unit_of(properties, self._link.serial)
        if answers != self.unit:
            raise DeviceUnavailable(
                f"{self._link.serial} is now {answers}, not {self.unit}",
                hint="plug the phone in again that was there before",
            )
        if self._preparation is not None:
            if properties.get("sys.boot_completed") != "1":
                raise DeviceLost(f"{self._link.serial} is still starting")
            self._preparation.make_again()

    def _doubt(self, entry: CatalogueDevice) -> str | None:
        """Why this may not be the device that it is to be; None if nothing says so."""
        known = recognise(self._properties)
        said = f"{self._link.serial} says it is {describe(self._properties)}"
        if known is None:
            return f"{said}, which the catalogue does not know, not {entry.name}"
        if known.name != entry.name:
            return f"{said}, which is {known.name}, not {entry.name}"
        odd = cores_of.contradiction(self._cores, entry)
        return None if odd is None else f"{said}, but unlike a {entry.title} {odd}"

    def _sent_command(self) -> str:
        abi = self._properties.get("ro.product.cpu.abi", "unknown")
        files = program_for(abi, emulated=self.emulated)
        places = send_program(self._link, [file.path for file in files])
        return " ".join(word for file in files for word in _words(file, places[file.path]))

    def _require_engine(self, client: RunnerClient, hello: Hello) -> None:
        """Say why, where not one of the engines that were sent can be opened."""
        if hello.engines:
            return
        reasons = []
        for runtime in Runtime:
            engine = descriptor(runtime).runner_engine
            if engine is None or engine.plugin is not None:
                continue  # it is not sent to phones
            try:
                client.load("/", runtime)
            except RunnerFailed as error:
                reasons.append(f"{runtime}: {error.reason}")
        raise DeviceUnavailable(
            f"{self._link.serial} can open none of the engines:",
            details=reasons,
            hint="install others: latbench runner install --replace --engine FILE",
        )


class _PhoneRunner(RunnerClient):
    """A runner on a phone; what it cannot see of the phone's state, services are asked."""

    def __init__(
        self, transport: Transport, link: AdbLink, fingerprint: str | None, root: Root | None
    ) -> None:
        super().__init__(transport)
        self._link, self._fingerprint, self._root = link, fingerprint, root

    def conditions(self, timeout_s: float = 30.0) -> Conditions:
        """As `RunnerClient.conditions`; also raises DeviceLost."""
        seen = super().conditions(timeout_s)
        told: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):  # busy services: unavailable this time
            told = ask_services(self._link)
            if self._root is not None and not seen.temperatures_c:
                zones = read_conditions(PhoneFiles.ask(self._link, self._root)).temperatures_c
                told["temperatures_c"] = (zones or {}) | told.get("temperatures_c", {})
        return merged(seen, told, self._fingerprint)


def clean_phone(link: AdbLink) -> int:
    """Put back what was changed on a phone and remove what was left; returns the bytes freed.

    Raises:
        DeviceUnavailable: another process measures on it, or it cannot be reached.
    """
    unit = unit_of(link.properties(), link.serial)
    lock = UnitLock(unit)
    try:
        restore(link, unit)
        return clean(link)
    finally:
        lock.release()


def unit_of(properties: Mapping[str, str], serial: str) -> str:
    """What tells the phone apart, by whatever way it is reached; `serial` is the way's own name.

    Emulators of one kind all tell one serial number.
    """
    number = properties.get("ro.serialno") or properties.get("ro.boot.serialno") or ""
    return serial if is_emulated(properties) or number in ("", "unknown") else number


def is_emulated(properties: Mapping[str, str]) -> bool:
    """Whether it says that it is run by qemu, as Android's emulator and the test rig do."""
    return "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))


def describe(properties: Mapping[str, str]) -> str:
    """Maker, model and release: "samsung SM-G950U, Android 9"."""
    names = ("ro.product.manufacturer", "ro.product.model")
    model = " ".join(properties[name] for name in names if properties.get(name)) or "unknown"
    release = properties.get("ro.build.version.release")
    return f"{model}, Android {release}" if release else model


def _words(file: InstalledFile, place: str) -> list[str]:
    if file.name == PROGRAM:
        return [quote(place)]
    words = [ENGINES[file.name], quote(place)]
    if file.name == "libLiteRt.so" and file.version is not None:
        words += ["--litert-version", quote(file.version)]
    return words
