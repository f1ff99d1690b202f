"""The row of a run in its journal, and what changes in it while the run lasts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from latbench.device.base import Device
from latbench.errors import DeviceUnavailable, JournalRefused
from latbench.measure.journal import Journal
from latbench.measure.records import Run, RunState
from latbench.target import Runtime


class RunRecord:
    """A run and its journal. Not thread-safe: `latbench.measure.coordinator` holds the lock.

    Attributes:
        run: the run as the journal holds it, except for its state and times.
        runners_started: number of runners that introduced themselves in this session.
    """

    def __init__(self, journal: Journal, run: Run) -> None:
        self.journal, self.run = journal, run
        self.runners_started = 0

    def save(self, *, state: RunState | None = None, wall_s: float | None = None) -> None:
        """Write the state of the run, or the seconds it took so far."""
        self.journal.update_run(self.run.id, state=state, wall_s=wall_s)

    def count_drop_out(self, unit: str) -> None:
        """Note that `unit` dropped out once more."""
        units = dict(self.run.device["units"])
        units[unit] = units[unit] | {"dropped_out": units[unit]["dropped_out"] + 1}
        self.run = replace(self.run, device=dict(self.run.device) | {"units": units})
        self.journal.update_run(self.run.id, device=self.run.device)

    def add_runner(self, device: Device, runtime: Runtime, hello: dict[str, Any]) -> None:
        """Note how a runner introduced itself.

        Raises:
            DeviceUnavailable: it has no engine for `runtime`.
            JournalRefused: the run was measured with another version or build of the runtime.
        """
        engine = _engine(hello, runtime)
        if engine is None:
            raise DeviceUnavailable(
                f"the runner on {device.name} has no engine for {runtime}",
                hint="install the runtime, or choose another with --runtime",
            )
        self.runners_started += 1
        if self.run.hello is None:
            self.journal.update_run(self.run.id, hello=hello)
            self.run = replace(self.run, hello=hello)
            return
        first = _engine(self.run.hello, runtime) or {}
        if any(first.get(mark) != engine.get(mark) for mark in ("version", "sha256")):
            where = f"on {device.unit}" if len(self.run.units) > 1 else "now"
            raise JournalRefused(
                f"run {self.run.id} in {self.journal.path} was measured with {runtime} "
                f"{first.get('version')}, but {_difference(first, engine)} is installed {where}",
                hint="repeat the command with --fresh to start a new run",
            )


def _engine(hello: Mapping[str, Any], runtime: Runtime) -> Mapping[str, Any] | None:
    """A runner's description of its engine for `runtime`."""
    return next((engine for engine in hello["engines"] if engine["runtime"] == runtime), None)


def _difference(first: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How to name an engine that is not the first one."""
    version = str(now["version"])
    return version if version != first.get("version") else "another build of it"
