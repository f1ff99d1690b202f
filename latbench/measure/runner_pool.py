"""The runners on one unit and the models loaded in each; a runner that dies is replaced."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latbench.device.base import Device
from latbench.device.conditions import Conditions
from latbench.device.protocol.messages import REFERENCE_HANDLE
from latbench.errors import RunnerFailed
from latbench.measure.plan import Plan, Role, Workload
from latbench.runtime.registry import descriptor

if TYPE_CHECKING:
    from latbench.device.protocol.client import RunnerClient, RunReply

#: The most models kept loaded in all runners of a plan that does not reload; beyond it the least recently
#: visited one is unloaded.
MAX_LOADED = 512


@dataclass
class _Slot:
    """One runner, if it is alive, and the handles of its loaded models, by workload."""

    runner: "RunnerClient | None" = None
    handles: OrderedDict[str, str] = field(default_factory=OrderedDict)


class RunnerPool:
    """Runs a plan's workloads on a device. The caller closes it.

    It has several slots, each with its own runner. Every method may raise `RunnerFailed`; a runner that
    crashed or hung is replaced at the next request, with nothing loaded. If the unit itself is gone,
    methods raise `DeviceLost`.

    Args:
        add_runner: called with the introduction of each new runner, as JSON data.
    """

    def __init__(
        self, plan: Plan, device: Device, add_runner: Callable[[dict[str, Any]], None]
    ) -> None:
        self._plan, self._device, self._add_runner = plan, device, add_runner
        self._paths: dict[str, str] = {}
        self._slots = [_Slot() for _ in range(plan.settings.runners)]
        self._abandoned = False

    def send(self) -> None:
        """Copy the plan's files to the unit, which must happen before anything is loaded.

        Raises:
            DeviceUnavailable: the unit cannot be reached.
        """
        files = {one.key: one.path for one in self._plan.all_workloads if one.path is not None}
        paths = self._device.send(list(files.values()))
        self._paths = {key: paths[path] for key, path in files.items()}

    def load(self, workload: Workload, slot: int) -> str:
        """Load `workload` in a slot unless it is loaded; returns its handle.

        If the plan reloads, it is always loaded again, except for the sentinel: its latency is that of one
        placement in memory.
        """
        handles = self._slots[slot].handles
        if workload.role is Role.REFERENCE:
            if not handles:  # a runner pins itself to its cores at its first load
                self.load(self._plan.workloads[0], slot)
            return REFERENCE_HANDLE
        with self._replacing(slot) as runner:
            if workload.key in handles and (workload.role.watches or not self._plan.reloads):
                handles.move_to_end(workload.key)
                return handles[workload.key]
            for key in self._to_unload(handles):
                handle = handles.pop(key, None)
                if handle is not None:  # another thread may have ended the runner
                    runner.unload(handle)
            target = self._plan.target
            loaded = runner.load(
                self._paths[workload.key],
                target.runtime,
                threads=target.threads,
                cores=target.cores,
                accelerator=target.accelerator,
                input_shapes=workload.input_shapes,
                again=self._plan.reloads and descriptor(target.runtime).reloads_alike,
                timeout_s=self._plan.settings.timeout_s,
            )
            handles[workload.key] = loaded.handle
            return loaded.handle

    def _to_unload(self, handles: "OrderedDict[str, str]") -> list[str]:
        """The workloads to unload before a slot loads one more model."""
        if self._plan.reloads:
            sentinel = self._plan.sentinel
            return [key for key in handles if sentinel is None or key != sentinel.key]
        return list(handles)[: max(0, len(handles) + 1 - MAX_LOADED // len(self._slots))]

    def run(self, workload: Workload, handle: str, slot: int) -> "RunReply":
        """Time `workload` once in a slot, with the plan's settings."""
        settings = self._plan.settings
        with self._replacing(slot) as runner:
            return runner.run(
                handle,
                warmups=settings.warmups_of(workload.role),
                min_samples=settings.min_samples_of(workload.role),
                max_samples=settings.max_samples,
                seconds=settings.seconds,
                timeout_s=settings.timeout_s,
            )

    def conditions(self) -> Conditions:
        """The conditions of the unit, read by the first runner."""
        with self._replacing(0) as runner:
            return runner.conditions()

    def close(self, *, by_force: bool) -> None:
        """End the runners; by force if they may be busy."""
        for slot in self._slots:
            self._end(slot, by_force=by_force)

    def abandon(self) -> None:
        """Kill the runners, even if another thread uses them, and start no more."""
        self._abandoned = True
        self.close(by_force=True)

    @staticmethod
    def _end(slot: _Slot, *, by_force: bool) -> None:
        runner, slot.runner = slot.runner, None
        slot.handles.clear()
        if runner is not None and by_force:
            runner.kill()
        elif runner is not None:
            runner.quit()

    @contextlib.contextmanager
    def _replacing(self, number: int) -> "Iterator[RunnerClient]":
        """The runner of a slot, started if there is none, and dropped if it dies meanwhile."""
        slot = self._slots[number]
        runner, is_new = slot.runner, slot.runner is None
        if runner is None and not self._abandoned:
            runner = slot.runner = self._device.open_runner()
        if runner is None or self._abandoned:  # another thread may have abandoned it meanwhile
            self._end(slot, by_force=True)
            raise RunnerFailed("start", "refused", "the run is over")
        if is_new:
            self._add_runner(runner.hello().model_dump(mode="json"))
        try:
            yield runner
        except RunnerFailed:
            if not runner.alive:
                self._end(slot, by_force=True)
            raise
