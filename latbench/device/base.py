"""The interface of a device: it opens runners, receives artifacts, and reports its conditions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from latbench.device.conditions import Conditions
from latbench.device.protocol.client import RunnerClient
from latbench.errors import BadRequest
from latbench.target import Runtime
from latbench.wording import count_of


class Device(Protocol):
    """One open unit.

    Attributes:
        name: the device's name in the catalogue.
        unit: the identifier of this physical unit.
        description: what the unit identifies itself as; a LUT records it.
        emulated: whether its times are meaningless; its outputs are right.
    """

    name: str
    unit: str
    description: str
    emulated: bool

    @property
    def reference(self) -> str | None:
        """The reference workload of its runners; None if they have none."""

    def open_runner(self) -> RunnerClient:
        """Start a runner on the unit and return a client for it.

        Raises:
            RunnerFailed: it does not start.
            DeviceUnavailable: the unit cannot be reached.
        """

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """Send artifacts to where the runner can load them; returns the path of each there.

        Raises:
            DeviceUnavailable: the unit cannot be reached.
        """

    def conditions(self) -> Conditions:
        """Read the state of the unit."""

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Check that `threads` threads can be pinned to `cores`.

        Raises:
            BadRequest: the unit lacks a core, or there are fewer cores than threads.
        """

    def default_cores(self, threads: int) -> tuple[int, ...]:
        """Choose the cores to pin `threads` threads to; empty if the system chooses.

        Raises:
            BadRequest: the unit has fewer.
        """

    def close(self) -> None:
        """Restore the unit and release it. Never raises; may be repeated."""


def require_a_core_each(cores: Sequence[int], threads: int) -> None:
    """Check that there are at least as many cores as threads.

    Raises:
        BadRequest: there are fewer.
    """
    if len(cores) < threads:
        raise BadRequest(
            f"{count_of(threads, 'thread')} on {count_of(len(cores), 'core')} would wait for each other",
            hint=f"name as many cores as threads: --cores LIST; or use --threads {max(1, len(cores))}",
        )


@runtime_checkable
class LimitsRuntimes(Protocol):
    """A device whose runner does not run every runtime of latbench."""

    def require_runtime(self, runtime: Runtime) -> None:
        """Check that its runner runs models of `runtime`.

        Raises:
            BadRequest: it does not.
        """
