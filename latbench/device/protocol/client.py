"""The client side of the runner protocol, for any runner over any transport.

Every request has a deadline. A request is *refused* if the runner answers with an error; the runner stays
usable. A runner that ends has *crashed*; one that misses a deadline has *hung* and is killed. Both are
final: open another runner. If the unit itself is gone, every request raises `DeviceLost`.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from latbench.device.conditions import Conditions
from latbench.device.protocol.messages import (
    MAX_REPLY_BYTES,
    VERSIONS,
    ConditionsRequest,
    Done,
    Failure,
    Hello,
    HelloRequest,
    Loaded,
    LoadRequest,
    QuitRequest,
    Request,
    RunReply,
    RunRequest,
    UnloadRequest,
    as_fields,
    read_message,
)
from latbench.device.protocol.transport import Transport
from latbench.errors import DeviceLost, RunnerFailed
from latbench.target import Runtime

__all__ = ["Hello", "Loaded", "RunReply", "RunnerClient"]

_REPLY_S = 30.0  # for requests that take next to no work
_RUN_S = 120.0  # for a run, beyond the seconds that it asks for
_GRACE_S = 5.0  # to end by itself
_MAX_STRAY_LINES = 100

Reply = TypeVar("Reply", bound=BaseModel)


class RunnerClient:
    """A conversation with one runner. Not thread-safe; a context manager that ends the runner."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._last_id = 0
        self._end: str | None = None  # how the runner ended, once it did

    @property
    def alive(self) -> bool:
        """Whether requests can still be answered."""
        return self._end is None and self._transport.alive

    def hello(self, timeout_s: float = _REPLY_S) -> Hello:
        """Identify the runner and agree on a protocol version.

        Raises:
            RunnerFailed: as for every request; also if there is no version in common.
        """
        hello = self._ask("hello", HelloRequest(), Hello, timeout_s)
        if hello.version not in VERSIONS:
            raise RunnerFailed(
                "hello",
                "refused",
                f"it speaks version {hello.version} of the protocol, "
                f"this latbench {', '.join(map(str, VERSIONS))}",
                hint="use the runner of this version of latbench: latbench runner build",
            )
        return hello

    def load(
        self,
        path: str,
        runtime: Runtime,
        *,
        threads: int = 1,
        cores: Sequence[int] = (),
        accelerator: str = "cpu",
        input_shapes: Sequence[tuple[int, ...]] | None = None,
        seed: int = 0,
        again: bool = False,
        timeout_s: float = 60.0,
    ) -> Loaded:
        """Load the artifact at `path`, a path on the runner's machine.

        Threads and cores belong to the whole runner: its first load sets them, and it refuses others.

        Args:
            seed: of the inputs (`latbench.runtime.base.TensorInfo.sample`).
            again: the file is loaded many times in a run, so the runner may keep what it computes from
                it; `load_ms` is then not the time that a program needs to load it.
            timeout_s: the deadline, seconds from now.

        Raises:
            RunnerFailed: refused (no such file, not a model of this runtime, cores that the runner may
                not use), crashed or hung.
        """
        request = LoadRequest(
            path=path,
            runtime=runtime,
            threads=threads,
            cores=tuple(cores),
            accelerator=accelerator,
            input_shapes=None if input_shapes is None else tuple(input_shapes),
            seed=seed,
            again=again,
        )
        return self._ask("load", request, Loaded, timeout_s)

    def run(
        self,
        handle: str,
        *,
        warmups: int = 2,
        warmup_seconds: float = 0.0,
        min_samples: int = 8,
        max_samples: int = 1000,
        seconds: float = 0.0,
        idle_ms: float = 0.0,
        outputs: bool = False,
        timeout_s: float | None = None,
    ) -> RunReply:
        """Time a loaded model.

        Args:
            warmups: the least number of untimed runs before the first sample.
            warmup_seconds: the least time to warm up for.
            min_samples, max_samples, seconds: sample until `seconds` have passed and there are
                `min_samples`, or until there are `max_samples`.
            idle_ms: a pause before each sample.
            outputs: whether to return the outputs of the last run.
            timeout_s: the deadline, seconds from now; by default two minutes more than all requested
                seconds and pauses.

        Returns:
            The samples in ns, in order, and what was observed while they were taken.

        Raises:
            RunnerFailed: refused (unknown handle, the runtime failed), crashed or hung.
        """
        request = RunRequest(
            handle=handle,
            warmups=warmups,
            warmup_seconds=warmup_seconds,
            min_samples=min(min_samples, max_samples),
            max_samples=max_samples,
            seconds=seconds,
            idle_ms=idle_ms,
            outputs=outputs,
        )
        if timeout_s is None:
            timeout_s = _RUN_S + warmup_seconds + seconds + max_samples * idle_ms / 1e3
        return self._ask("run", request, RunReply, timeout_s)

    def conditions(self, timeout_s: float = _REPLY_S) -> Conditions:
        """Read the state of the runner's unit. Raises RunnerFailed."""
        return self._ask("conditions", ConditionsRequest(), Conditions, timeout_s)

    def unload(self, handle: str, timeout_s: float = _REPLY_S) -> None:
        """Unload a model. Raises RunnerFailed."""
        self._ask("unload", UnloadRequest(handle=handle), Done, timeout_s)

    def quit(self) -> None:
        """End the runner, by force if it does not end by itself. Never raises; may be repeated."""
        if self._end is not None:
            return
        try:
            self._ask("quit", QuitRequest(), Done, _GRACE_S)
        except (RunnerFailed, DeviceLost):
            self._finish(0.0)
        else:
            self._finish(_GRACE_S)

    def kill(self) -> None:
        """End the runner now."""
        self._finish(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After Ctrl-C or a failure the runner may be in the middle of something.
        if kind is None:
            self.quit()
        else:
            self.kill()

    def _ask(self, stage: str, request: Request, reply: type[Reply], timeout_s: float) -> Reply:
        if self._end is not None:
            raise RunnerFailed(stage, "crashed", f"it ended earlier: {self._end}")
        self._last_id += 1
        message = {"id": self._last_id} | as_fields(request)
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        deadline = time.monotonic() + timeout_s
        try:
            self._transport.send(line, deadline)
            answer, line = self._await_reply(stage, deadline)
        except TimeoutError:
            self._finish(0.0)
            raise RunnerFailed(
                stage, "hung", f"no answer within {timeout_s:g} s; it was killed"
            ) from None
        except DeviceLost:  # some are EOFErrors too
            self._finish(0.0)
            raise
        except EOFError:
            self._finish(_GRACE_S)
            raise RunnerFailed(stage, "crashed", str(self._end)) from None
        if answer.get("ok") is not True:
            raise _refusal(stage, answer)
        try:
            return read_message(reply, line)
        except ValueError as error:
            raise RunnerFailed(
                stage, "refused", f"its reply does not follow the protocol: {error}"
            ) from None

    def _await_reply(self, stage: str, deadline: float) -> tuple[dict[str, Any], bytes]:
        """Return the reply to the last request, parsed and as its line; skip lines that are no replies."""
        for _ in range(_MAX_STRAY_LINES):
            line = self._read_line(stage, deadline)
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(answer, dict) or "id" not in answer:
                continue
            number = answer["id"]
            if type(number) is int and number == self._last_id:  # `True == 1` in Python
                return answer, line
            if number is None and answer.get("ok") is not True:
                return answer, line  # the runner could not even read the id of what it refuses
        self._finish(0.0)
        raise RunnerFailed(
            stage,
            "refused",
            f"it does not speak the runner protocol: {line[:120].decode(errors='replace')!r}",
        )

    def _read_line(self, stage: str, deadline: float) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_REPLY_BYTES:
                self._finish(0.0)
                raise RunnerFailed(
                    stage, "refused", f"its reply is longer than {MAX_REPLY_BYTES >> 20} MiB"
                )
            self._buffer += self._transport.receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _finish(self, grace_s: float) -> None:
        if self._end is None:
            self._end = "…"  # whatever happens below, no more requests
            with contextlib.suppress(DeviceLost):  # the runner is gone with its unit
                self._transport.close(grace_s)
            self._end = self._transport.post_mortem()


def _refusal(stage: str, answer: dict[str, Any]) -> RunnerFailed:
    try:
        failure = read_message(Failure, json.dumps(answer.get("error")).encode())
    except ValueError:
        return RunnerFailed(stage, "refused", "it gave no reason")
    message = ": ".join([failure.message, *failure.details])
    return RunnerFailed(failure.stage, "refused", message, hint=failure.hint)
