"""Units with runners of fixed times (`fixed_runner`), whose cable can be pulled."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import fixed_runner

from latbench.device.conditions import Conditions
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.errors import DeviceLost
from latbench.files import sha256_of
from latbench.measure import Plan, Role, Settings, Workload
from latbench.target import Precision, Runtime, Target

#: Nothing but the rounds decides when a workload is done.
SETTINGS = Settings(ci=0.05, seconds=0.0, min_samples=4, sentinel_every=8, cool_down_s=0.0)


class FixedUnit:
    """A unit whose runs take fixed times.

    Args:
        unit: its name, and the seed of its noise.
        sleep_s: what a run really takes.
        slowness: what it tells that a run takes, relative to other units.
        noise: relative, of what it tells.
        reference_s: what a visit to the reference really takes.
    """

    name = "host"
    description = "a unit of fixed times"
    emulated = True
    reference: str | None = None

    def __init__(
        self,
        unit: str,
        *,
        sleep_s: float = 0.0,
        slowness: float = 1.0,
        noise: float = 0.002,
        reference_s: float = 0.0,
    ) -> None:
        self.unit = unit
        self._arguments = [
            *("--sleep-s", str(sleep_s), "--slowness", str(slowness)),
            *("--noise", str(noise), "--seed", unit, "--reference-s", str(reference_s)),
        ]
        self.plugged_in = threading.Event()
        self.plugged_in.set()
        self.opened = 0
        self._cables: list[_Cable] = []

    def unplug(self) -> None:
        """Let the unit be gone, and all runners on it."""
        self.plugged_in.clear()
        for cable in self._cables:
            cable.cut()

    def open_runner(self) -> RunnerClient:
        self.opened += 1
        self.require_plugged_in()
        command = [sys.executable, "-I", "-S", fixed_runner.__file__, *self._arguments]
        self._cables.append(_Cable(command, self))
        return RunnerClient(self._cables[-1])

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        self.require_plugged_in()
        return {path: str(path) for path in artifacts}

    def conditions(self) -> Conditions:
        return Conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Any will do."""

    def default_cores(self, threads: int) -> tuple[int, ...]:
        return ()

    def close(self) -> None:
        """Nothing is held."""

    def require_plugged_in(self) -> None:
        """Raise `DeviceLost` unless it is."""
        if not self.plugged_in.is_set():
            raise DeviceLost(f"{self.unit} is not there")


class _Cable(ProcessTransport):
    """The way to one runner; once the unit is unplugged it leads nowhere."""

    def __init__(self, command: Sequence[str], unit: FixedUnit) -> None:
        super().__init__(command, dict(os.environ))
        self._unit = unit
        self._closing = False

    def cut(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def send(self, data: bytes, deadline: float) -> None:
        with self._led():
            super().send(data, deadline)

    def receive(self, deadline: float) -> bytes:
        with self._led():
            return super().receive(deadline)

    def close(self, grace_s: float) -> None:
        self._closing = True
        super().close(grace_s)

    @contextlib.contextmanager
    def _led(self) -> Iterator[None]:
        try:
            yield
        except EOFError:
            if not self._closing:
                self._unit.require_plugged_in()
            raise


def fixed_plan(workloads: int, **settings: object) -> Plan:
    """A plan of files that need not be there, one of them the sentinel."""

    def workload(key: str, role: Role) -> Workload:
        return Workload(key, role, Path(f"{key}.onnx"), sha256_of(key.encode()))

    return Plan(
        Target(device="host", runtime=Runtime.ONNX, precision=Precision.FP32),
        tuple(workload(f"op{number}", Role.OP) for number in range(workloads)),
        workload("network", Role.SENTINEL),
        replace(SETTINGS, **settings),  # type: ignore[arg-type]
    )


def all_at_work(units: list[FixedUnit]) -> Callable[[int, str, Role], None]:
    """Let no unit's first visit end before each has one."""
    waiting, barrier = {unit.unit for unit in units}, threading.Barrier(len(units))

    def wait(_: int, unit: str, role: Role) -> None:
        if role is Role.OP and unit in waiting:
            waiting.remove(unit)
            barrier.wait(60)

    return wait
