"""A runner with what is loaded in it, and a new one when it dies."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from latbench.device.base import Conditions, Device
from latbench.errors import RunnerFailed
from latbench.measure.plan import Plan, Role, Subject

if TYPE_CHECKING:
    from latbench.device.runner_client import RunnerClient, RunReply

#: Models kept loaded at once; beyond it the one visited longest ago is unloaded.
MAX_LOADED = 512


class Workbench:
    """Runs a plan's subjects on a device. `close` it, whatever happens.

    Every method may raise `RunnerFailed`; a runner that crashed or hung is replaced at the next
    request, with nothing loaded.

    Args:
        greet: gets what each new runner says of itself, as JSON data.
    """

    def __init__(
        self,
        plan: Plan,
        device: Device,
        paths: dict[str, str],
        greet: Callable[[dict[str, Any]], None],
    ) -> None:
        self._plan, self._device, self._paths, self._greet = plan, device, paths, greet
        self._runner: RunnerClient | None = None
        self._handles: OrderedDict[str, str] = OrderedDict()
        self.runners_started = 0

    def load(self, subject: Subject) -> str:
        """Return the handle of `subject` in the runner, loading it if it is not."""
        with self._replacing() as runner:
            if subject.key in self._handles:
                self._handles.move_to_end(subject.key)
                return self._handles[subject.key]
            while len(self._handles) >= MAX_LOADED:
                runner.unload(self._handles.popitem(last=False)[1])
            target = self._plan.target
            loaded = runner.load(
                self._paths[subject.key],
                target.runtime,
                threads=target.threads,
                cores=target.cores,
                accelerator=target.accelerator,
                input_shapes=subject.input_shapes,
                timeout_s=self._plan.settings.timeout_s,
            )
            self._handles[subject.key] = loaded.handle
            return loaded.handle

    def run(self, subject: Subject, handle: str) -> "RunReply":
        """Time `subject` once, as the plan's settings say."""
        settings = self._plan.settings
        sentinel = subject.role is Role.SENTINEL
        with self._replacing() as runner:
            return runner.run(
                handle,
                warmups=settings.warmups_of(subject.role),
                min_samples=settings.sentinel_min_samples if sentinel else settings.min_samples,
                max_samples=settings.max_samples,
                seconds=settings.seconds,
                timeout_s=settings.timeout_s,
            )

    def conditions(self) -> Conditions:
        """What state the unit is in, as the runner sees it."""
        with self._replacing() as runner:
            return runner.conditions()

    def close(self, *, by_force: bool) -> None:
        """End the runner: gently, or whatever it is doing."""
        runner, self._runner = self._runner, None
        self._handles.clear()
        if runner is not None and by_force:
            runner.kill()
        elif runner is not None:
            runner.quit()

    @contextlib.contextmanager
    def _replacing(self) -> "Iterator[RunnerClient]":
        """The runner, started if there is none; it is dropped if it does not survive the block."""
        if self._runner is None:
            self._runner = self._device.open_runner()
            self.runners_started += 1
            self._greet(self._runner.hello().model_dump(mode="json"))
        try:
            yield self._runner
        except RunnerFailed:
            if not self._runner.alive:
                self.close(by_force=True)
            raise
