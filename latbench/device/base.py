"""What a device is to the rest of latbench: a way to run artifacts, and to see its own state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from latbench.device.conditions import Conditions
from latbench.device.protocol.client import RunnerClient
from latbench.target import Runtime


class Device(Protocol):
    """One attached unit that can run artifacts and report its own conditions.

    A unit is one physical device; `unit` tells it apart from others of the same device. `emulated`
    units compute right but their times mean nothing.
    """

    name: str
    unit: str
    description: str
    emulated: bool

    @property
    def reference(self) -> str | None:
        """The workload without an engine that its runners have; None where they have none."""

    def open_runner(self) -> RunnerClient:
        """Start a runner on the unit and return the client that talks to it.

        Raises:
            RunnerFailed: it does not start.
            DeviceUnavailable: the unit cannot be reached.
        """

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Bring artifacts to where the runner can load them; returns each one's path there.

        Raises:
            DeviceUnavailable: the unit cannot be reached.
        """

    def conditions(self) -> Conditions:
        """Return what the unit says of its state now."""

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Make sure that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: the unit has no such core for us, or there are fewer cores than threads.
        """

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Choose the cores to pin `threads` threads to; empty where the system chooses.

        Raises:
            BadRequest: the unit has fewer.
        """

    def close(self) -> None:
        """Give the unit up, as it was found. Never fails; may be repeated."""


@runtime_checkable
class Particular(Protocol):
    """A device whose runner has not every runtime that latbench knows for it."""

    def require_runtime(self, runtime: Runtime) -> None:
        """Make sure that its runner runs models of `runtime`.

        Raises:
            BadRequest: it does not.
        """
