"""The runners on one unit with what is loaded in each, and a new one when one dies."""

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

if TYPE_CHECKING:
    from latbench.device.protocol.client import RunnerClient, RunReply

#: Models kept loaded at once, in all runners, where a plan does not reload; beyond it the one visited
#: longest ago is unloaded.
MAX_LOADED = 512


@dataclass
class _Place:
    """One runner, if it lives, and the handles of what it has loaded."""

    runner: "RunnerClient | None" = None
    handles: OrderedDict[str, str] = field(default_factory=OrderedDict)


class RunnerPool:
    """Runs a plan's workloads on a device. `close` it, whatever happens.

    It has several places, each a runner of its own. Every method may raise `RunnerFailed`; a runner that
    crashed or hung is replaced at the next request, with nothing loaded. If the unit itself is gone it is
    `DeviceLost`.

    Args:
        greet: gets what each new runner says of itself, as JSON data.
    """

    def __init__(self, plan: Plan, device: Device, greet: Callable[[dict[str, Any]], None]) -> None:
        self._plan, self._device, self._greet = plan, device, greet
        self._paths: dict[str, str] = {}
        self._places = [_Place() for _ in range(plan.settings.runners)]
        self._abandoned = False

    def send(self) -> None:
        """Bring the plan's files to the unit. It must be called before anything is loaded.

        Raises:
            DeviceUnavailable: the unit cannot be reached.
        """
        files = {one.key: one.path for one in self._plan.all_workloads if one.path is not None}
        paths = self._device.send(list(files.values()))
        self._paths = {key: paths[path] for key, path in files.items()}

    def load(self, workload: Workload, place: int) -> str:
        """Return the handle of `workload` in the runner at `place`, loading it if it is not.

        Where the plan reloads, it is loaded anew; all that stays loaded is the sentinel, whose level is
        that of one placement.
        """
        handles = self._places[place].handles
        if workload.role is Role.REFERENCE:
            if not handles:  # a runner takes on its cores when it first loads something
                self.load(self._plan.workloads[0], place)
            return REFERENCE_HANDLE
        with self._replacing(place) as runner:
            if workload.key in handles and (workload.role.watches or not self._plan.reloads):
                handles.move_to_end(workload.key)
                return handles[workload.key]
            for key in self._to_unload(handles):
                handle = handles.pop(key, None)
                if handle is not None:  # nothing is left where another thread ended the runner
                    runner.unload(handle)
            target = self._plan.target
            loaded = runner.load(
                self._paths[workload.key],
                target.runtime,
                threads=target.threads,
                cores=target.cores,
                accelerator=target.accelerator,
                input_shapes=workload.input_shapes,
                timeout_s=self._plan.settings.timeout_s,
            )
            handles[workload.key] = loaded.handle
            return loaded.handle

    def _to_unload(self, handles: "OrderedDict[str, str]") -> list[str]:
        """What has to go before a place loads one more model."""
        if self._plan.reloads:
            sentinel = self._plan.sentinel
            return [key for key in handles if sentinel is None or key != sentinel.key]
        return list(handles)[: max(0, len(handles) + 1 - MAX_LOADED // len(self._places))]

    def run(self, workload: Workload, handle: str, place: int) -> "RunReply":
        """Time `workload` once at `place`, as the plan's settings say."""
        settings = self._plan.settings
        with self._replacing(place) as runner:
            return runner.run(
                handle,
                warmups=settings.warmups_of(workload.role),
                min_samples=settings.min_samples_of(workload.role),
                max_samples=settings.max_samples,
                seconds=settings.seconds,
                timeout_s=settings.timeout_s,
            )

    def conditions(self) -> Conditions:
        """What state the unit is in, as the first runner sees it."""
        with self._replacing(0) as runner:
            return runner.conditions()

    def close(self, *, by_force: bool) -> None:
        """End the runners: gently, or whatever they are doing."""
        for place in self._places:
            self._end(place, by_force=by_force)

    def abandon(self) -> None:
        """End the runners now, whatever another thread asks them, and start no more."""
        self._abandoned = True
        self.close(by_force=True)

    @staticmethod
    def _end(place: _Place, *, by_force: bool) -> None:
        runner, place.runner = place.runner, None
        place.handles.clear()
        if runner is not None and by_force:
            runner.kill()
        elif runner is not None:
            runner.quit()

    @contextlib.contextmanager
    def _replacing(self, number: int) -> "Iterator[RunnerClient]":
        """The runner at a place, started if there is none; dropped if it does not survive."""
        place = self._places[number]
        runner, is_new = place.runner, place.runner is None
        if runner is None and not self._abandoned:
            runner = place.runner = self._device.open_runner()
        if runner is None or self._abandoned:  # perhaps only just now
            self._end(place, by_force=True)
            raise RunnerFailed("start", "refused", "the run is over")
        if is_new:
            self._greet(runner.hello().model_dump(mode="json"))
        try:
            yield runner
        except RunnerFailed:
            if not runner.alive:
                self._end(place, by_force=True)
            raise
