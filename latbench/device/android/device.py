"""An Android phone as a device: the native runner over ADB, content-addressed artifacts, restored settings.

Files on the phone are in `artifacts.FOLDER`; files here about it are in latbench's home.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from latbench.device.android import cores as cores_of
from latbench.device.android.adb.link import AdbLink, quote
from latbench.device.android.artifacts import clean, send_artifacts, send_program
from latbench.device.android.conditions import merged, query_services
from latbench.device.android.identity import describe, is_emulated, unit_of
from latbench.device.android.prepare import Preparation, restore
from latbench.device.android.root import Root, find_root
from latbench.device.android.sysfiles import PhoneFiles
from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.conditions import Conditions
from latbench.device.linux import read_conditions
from latbench.device.lock import UnitLock
from latbench.device.native.files import ENGINES, PROGRAM, InstalledFile, program_for
from latbench.device.protocol.client import Hello, RunnerClient
from latbench.device.protocol.transport import Transport
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

#: No run takes this long: an older runner is a leftover, and ends by itself.
_MAX_SECONDS = 6 * 3600
_LEAST_BATTERY_PERCENT = 5  # below it phones save power, and soon turn off
_BACK_S = 2.0  # for a lost phone to answer; a run tries repeatedly
_START_S = 60.0  # the phone hashes the engines' libraries


class AndroidDevice:
    """One phone, locked for this process until `close`.

    Args:
        link: the connection to it; closed with the device.
        entry: its entry in the catalogue.
        skip_identity_check: accept it as that device, whatever it identifies itself as.
        prepare: change its settings for steadier times (`latbench.device.android.prepare`).

    `description`, which a LUT records, mentions both.

    Raises:
        DeviceUnavailable: it is another device, another process has it, or it cannot be reached.
        OutputFailed: latbench's home cannot be written.
    """

    def __init__(
        self,
        link: AdbLink,
        entry: CatalogueDevice,
        *,
        skip_identity_check: bool = False,
        prepare: bool = False,
    ) -> None:
        self._link = link
        self.name = entry.name
        self._properties = link.properties()
        self.unit = unit_of(self._properties, link.serial)
        self.emulated = is_emulated(self._properties)
        self._command: str | None = None
        self._preparation: Preparation | None = None
        self._root: Root | None = None
        self._cores = cores_of.query_cores(link)
        mismatch = self._mismatch(entry)
        if mismatch is not None and not skip_identity_check:
            raise DeviceUnavailable(
                mismatch,
                hint="choose its own --device, or describe it in ./devices/NAME.toml; "
                f"to measure it as {entry.name} anyway: --device {entry.name} --as",
            )
        self.description = describe(self._properties)
        if mismatch is not None:
            self.description += f", measured as {entry.name} by --as"
        self._lock = UnitLock(self.unit)
        try:
            restore(link, self.unit)
            if prepare:
                self._preparation = Preparation(link, self.unit)
                self._root = find_root(link)
                self._preparation.make(self._root, emulated=self.emulated)
                self.description += f"; prepared: {self._preparation}"
        except BaseException:  # Ctrl-C included
            self.close()
            raise

    @cached_property
    def reference(self) -> str | None:
        """The reference workload of the phone's runner.

        None for an emulated phone: its times are meaningless, and the workload takes half a minute there.

        Raises:
            RunnerFailed, DeviceUnavailable: as `open_runner`.
        """
        if self.emulated:
            return None
        with self.open_runner() as runner:
            return runner.hello().reference

    def open_runner(self, max_seconds: int = _MAX_SECONDS) -> RunnerClient:
        """Start a runner on the phone. It and its engines are sent first if necessary.

        Args:
            max_seconds: after this time the runner ends itself, whatever it is doing.

        Raises:
            RunnerFailed: it does not start, or does not speak the protocol.
            DeviceUnavailable: no runner was built for such phones (the hint is the command that builds
                it), none of its engines can be loaded there, or the phone cannot be reached.
        """
        if self._command is None:
            self._command = self._sent_command()
        stream = self._link.open_stream(f"exec {self._command} --max-seconds {max_seconds}")
        fingerprint = self._properties.get("ro.build.fingerprint")
        client = _PhoneRunner(stream, self._link, fingerprint, self._root)
        try:
            self._require_engine(client, client.hello(_START_S))
        except BaseException:  # Ctrl-C included: no process may stay behind
            client.kill()
            raise
        return client

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Send the artifacts that the phone does not have; reconnects to a phone that was lost.

        Raises:
            DeviceUnavailable, FileRefused: the phone cannot be reached, refuses the files, or has a
                nearly empty battery.
        """
        try:
            return self._sent(artifacts)
        except DeviceLost:
            self._come_back()
            return self._sent(artifacts)

    def require_runtime(self, runtime: Runtime) -> None:
        """Check that an engine of the native runner exists for `runtime`; what is installed shows later.

        Raises:
            BadRequest: there is none.
        """
        found = descriptor(runtime)
        if found.runner_engine is None:
            programs = [
                f"--runner {tool.name}=FILE" for tool in TOOLS.values() if tool.runtime is runtime
            ]
            raise BadRequest(
                f"the native runner has no engine for {found.title}",
                hint=f"build {found.title}'s own program for the phone, then: {programs[0]}"
                if programs
                else None,
            )

    def conditions(self) -> Conditions:
        """Read the state of the phone, by a runner of its own and the phone's services."""
        with self.open_runner() as runner:
            return runner.conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Check that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: the phone has no such core, or there are fewer cores than threads.
        """
        cores_of.require_cores(self._cores, cores, threads)

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Choose the `threads` fastest cores; empty if the phone lists none.

        Raises:
            BadRequest: the phone has fewer.
        """
        return cores_of.fastest(self._cores, threads)

    def close(self) -> None:
        """Restore the phone's settings and release it. Never raises; may be repeated.

        The settings of a lost phone are restored by the next command that opens it. If the phone refuses
        to restore one, this module's logger warns.
        """
        try:
            if self._preparation is not None:
                restore(self._link, self.unit)
        except DeviceLost:
            pass
        except LatbenchError as error:
            message = "\n  ".join([error.message, *error.details])
            _log.warning("%s\n%s", message, error.hint)
        self._lock.release()
        self._link.close()

    def _sent(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        state: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):  # busy services: unavailable this time
            state = query_services(self._link)
        percent = state.get("battery_percent")
        if percent is not None and percent < _LEAST_BATTERY_PERCENT and not state.get("charging"):
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
        """Reconnect to a lost phone, which may have restarted.

        Raises:
            DeviceUnavailable: it is still gone or starting, another phone answers in its place, or it
                cannot be prepared again.
        """
        self._link.reconnect(_BACK_S)
        self._command = None  # its files are verified again
        properties = self._link.properties()
        answers = unit_of(properties, self._link.serial)
        if answers != self.unit:
            raise DeviceUnavailable(
                f"{self._link.serial} is now {answers}, not {self.unit}",
                hint=f"connect {self.unit} again, then run the same command again",
            )
        if self._preparation is not None:
            if properties.get("sys.boot_completed") != "1":
                raise DeviceLost(f"{self._link.serial} is still starting")
            self._preparation.make_again()

    def _mismatch(self, entry: CatalogueDevice) -> str | None:
        """How the phone differs from the catalogue's entry; None if it does not."""
        known = recognise(self._properties)
        phone = f"{self._link.serial} identifies itself as {describe(self._properties)}"
        if known is None:
            return f"{phone}, which is not in the catalogue, not as {entry.name}"
        if known.name != entry.name:
            return f"{phone}, which is {known.name}, not {entry.name}"
        odd = cores_of.contradiction(self._cores, entry)
        return None if odd is None else f"{phone}, but unlike a {entry.title} {odd}"

    def _sent_command(self) -> str:
        abi = self._properties.get("ro.product.cpu.abi", "unknown")
        files = program_for(abi, emulated=self.emulated)
        paths = send_program(self._link, [file.path for file in files])
        return " ".join(word for file in files for word in _words(file, paths[file.path]))

    def _require_engine(self, client: RunnerClient, hello: Hello) -> None:
        """Raise with the reasons if none of the engines can be loaded."""
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
            f"{self._link.serial} can load none of the engines:",
            details=reasons,
            hint="install others: latbench runner install --replace --engine FILE",
        )


class _PhoneRunner(RunnerClient):
    """A runner on a phone, whose conditions are completed by the phone's services."""

    def __init__(
        self, transport: Transport, link: AdbLink, fingerprint: str | None, root: Root | None
    ) -> None:
        super().__init__(transport)
        self._link, self._fingerprint, self._root = link, fingerprint, root

    def conditions(self, timeout_s: float = 30.0) -> Conditions:
        """As `RunnerClient.conditions`; also raises DeviceLost."""
        seen = super().conditions(timeout_s)
        state: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):  # busy services: unavailable this time
            state = query_services(self._link)
            if self._root is not None and not seen.temperatures_c:
                zones = read_conditions(PhoneFiles.query(self._link, self._root)).temperatures_c
                state["temperatures_c"] = (zones or {}) | state.get("temperatures_c", {})
        return merged(seen, state, self._fingerprint)


def clean_phone(link: AdbLink) -> int:
    """Restore the settings of a phone and remove latbench's files; returns the bytes freed.

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


def _words(file: InstalledFile, path: str) -> list[str]:
    if file.name == PROGRAM:
        return [quote(path)]
    words = [ENGINES[file.name], quote(path)]
    if file.name == "libLiteRt.so" and file.version is not None:
        words += ["--litert-version", quote(file.version)]
    return words
