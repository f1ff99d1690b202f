"""The Python runner of the host: reads requests from stdin, and answers on stdout.

`latbench.device.host.device` starts it as `python -m latbench.device.host.worker` with the options of `main`;
the protocol is docs/runner-protocol.md. An orphaned worker ends in three ways: at the end of its input, by a
thread that notices the end of its host while a model runs, and by an alarm after `--max-seconds`.
"""

import argparse
import base64
import contextlib
import json
import os
import platform
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from latbench._version import __version__
from latbench.device.host import affinity
from latbench.device.host.reference import WORKLOAD, ReferenceWorkload
from latbench.device.host.state import host_conditions
from latbench.device.host.timing import ClockReader, sample
from latbench.device.linux import LocalFiles
from latbench.device.protocol.messages import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    REFERENCE_HANDLE,
    REQUESTS,
    VERSIONS,
    ConditionsRequest,
    Engine,
    Failure,
    Hello,
    HelloRequest,
    Loaded,
    LoadRequest,
    Output,
    RunReply,
    RunRequest,
    UnloadRequest,
    as_fields,
    read_message,
)
from latbench.errors import LatbenchError, RuntimeFailed, UnknownName
from latbench.files import sha256_of
from latbench.runtime.base import LoadedModel, TensorInfo
from latbench.runtime.registry import (
    descriptor,
    import_engine,
    load_model,
    runtime_library,
    runtime_version,
)
from latbench.target import Runtime
from latbench.wording import count_of

_ORPHAN_S = 5  # for the last request of a host that is gone


class Refused(LatbenchError):
    """A request that this runner refuses."""


class Worker:
    """The loaded models, and the threads and cores that they share.

    Args:
        scratch: a folder for what several loads of a file share, also those of other runners of a run.
    """

    def __init__(self, files: LocalFiles, scratch: Path | None = None) -> None:
        self._files, self._scratch = files, scratch
        self._models: dict[str, LoadedModel] = {}
        self._pools: dict[str, frozenset[int]] = {}
        self._loads = 0
        self._shared: tuple[int, tuple[int, ...]] | None = None
        self._reference: ReferenceWorkload | None = None

    def hello(self, request: HelloRequest) -> Hello:
        common = set(request.versions) & set(VERSIONS)
        if not common:
            raise Refused(
                f"no protocol version in common: this runner speaks {', '.join(map(str, VERSIONS))}"
            )
        return Hello(
            version=max(common),
            runner=f"latbench-host {__version__}",
            pid=os.getpid(),
            os=platform.system().lower(),
            abi=platform.machine(),
            engines=tuple(_engines()),
            reference=WORKLOAD,
        )

    def load(self, request: LoadRequest) -> Loaded:
        self._settle(request.threads, tuple(sorted(set(request.cores))))
        import_engine(request.runtime)
        started = time.perf_counter()
        before = affinity.thread_ids()
        descriptor(request.runtime).prepare_process()
        model = load_model(
            request.runtime,
            Path(request.path),
            threads=request.threads,
            accelerator=request.accelerator,
            input_shapes=request.input_shapes,
            prepared=self._prepared(request) if request.again else None,
        )
        model.set_inputs([info.sample(request.seed) for info in model.inputs])
        load_ms = (time.perf_counter() - started) * 1e3
        pool = affinity.thread_ids() - before
        cores = affinity.observed_cores()
        if request.cores and cores != tuple(sorted(set(request.cores))):
            raise Refused(f"asked for {_cores(request.cores)}, but got {_cores(cores or ())}")
        library, sha256 = runtime_library(request.runtime)
        self._loads += 1
        handle = f"m{self._loads}"
        self._models[handle], self._pools[handle] = model, pool
        return Loaded(
            handle=handle,
            load_ms=load_ms,
            cores_observed=cores,
            threads_observed=self._threads(handle),
            inputs=model.inputs,
            outputs=model.outputs,
            coverage=dict(model.coverage),
            engine=Engine(
                runtime=request.runtime,
                version=runtime_version(request.runtime),
                library=library,
                sha256=sha256,
            ),
        )

    def _prepared(self, request: LoadRequest) -> Path | None:
        """Where to keep what a load computes: a path of its own for each file and each way to load it."""
        path = Path(request.path)
        if self._scratch is None or not path.is_file():
            return None
        state = path.stat()
        way = request.model_dump_json(exclude={"seed", "cores"})
        name = sha256_of(f"{way} {state.st_mtime_ns} {state.st_size}".encode())
        return self._scratch / name

    def run(self, request: RunRequest) -> RunReply:
        work = self._work(request.handle)
        clock = ClockReader.of_cores(self._files, affinity.observed_cores() or ())
        waited = affinity.waited_ns()
        samples, clocks = sample(work, request, clock)
        now_waited = affinity.waited_ns()
        return RunReply(
            samples_ns=samples,
            clocks_khz=clocks,
            cores_observed=affinity.observed_cores(),
            threads_observed=self._threads(request.handle),
            waited_ms=None
            if waited is None or now_waited is None
            else max(0, now_waited - waited) / 1e6,
            outputs=self._outputs(request.handle) if request.outputs else None,
        )

    def _work(self, handle: str) -> Callable[[], None]:
        """The function to time: a loaded model, or the reference workload, which is not loaded."""
        if handle != REFERENCE_HANDLE:
            return self._model(handle).run
        self._reference = self._reference or ReferenceWorkload()
        return self._reference.run

    def _outputs(self, handle: str) -> tuple[Output, ...]:
        """The outputs of the last run; the reference workload has none."""
        if handle == REFERENCE_HANDLE:
            return ()
        model = self._model(handle)
        arrays = model.get_outputs()
        infos = model.outputs or [
            TensorInfo(f"output{index}", array.shape, array.dtype.name)
            for index, array in enumerate(arrays)
        ]
        return tuple(
            Output(
                name=info.name,
                shape=array.shape,
                dtype=array.dtype.name,
                scale=info.scale,
                zero_point=info.zero_point,
                values=base64.b64encode(
                    array.astype(array.dtype.newbyteorder("<"), order="C").tobytes()
                ).decode(),
            )
            for info, array in zip(infos, arrays, strict=True)
        )

    def conditions(self, request: ConditionsRequest) -> BaseModel:
        return host_conditions(self._files)

    def unload(self, request: UnloadRequest) -> None:
        self._model(request.handle)
        del self._models[request.handle], self._pools[request.handle]

    def _model(self, handle: str) -> LoadedModel:
        if handle not in self._models:
            raise UnknownName("handle", handle, tuple(self._models))
        return self._models[handle]

    def _settle(self, threads: int, cores: tuple[int, ...]) -> None:
        """Set the threads and cores of the first load; refuse others afterwards."""
        if self._shared == (threads, cores):
            return
        if self._shared is not None:
            now_threads, now_cores = self._shared
            raise Refused(
                f"this runner is set to {count_of(now_threads, 'thread')} on {_cores(now_cores)}, "
                f"not {threads} on {_cores(cores)}",
                hint="open another runner for another target",
            )
        if cores:
            try:
                affinity.pin(cores)
            except (OSError, ValueError, OverflowError) as error:
                allowed = affinity.allowed_cores()
                may = f"; it may use {_cores(allowed)}" if allowed else ""
                raise Refused(f"cannot run on {_cores(cores)}: {error}{may}") from None
        self._shared = (threads, cores)

    def _threads(self, handle: str) -> int | None:
        """The engine's number of threads, or else the calling thread and the model's living ones."""
        if handle == REFERENCE_HANDLE:
            return 1
        if (reported := self._models[handle].engine_threads) is not None:
            return reported
        alive = affinity.thread_ids()
        return 1 + len(self._pools[handle] & alive) if alive else None


def _cores(cores: tuple[int, ...]) -> str:
    if not cores:
        return "any core"
    return f"core{'s' if len(cores) > 1 else ''} {','.join(map(str, cores))}"


def _engines() -> Iterator[Engine]:
    for runtime in Runtime:
        with contextlib.suppress(RuntimeFailed):
            yield Engine(runtime=runtime, version=runtime_version(runtime))


# Lines in, lines out


def serve(worker: Worker, requests: IO[bytes], replies: IO[bytes]) -> bool:
    """Answer requests until `quit`, the end of the input, or the loss of the client.

    Returns whether it was `quit`.
    """
    handlers: Mapping[str, Callable[[Any], BaseModel | None]] = {
        "hello": worker.hello,
        "load": worker.load,
        "run": worker.run,
        "conditions": worker.conditions,
        "unload": worker.unload,
        "quit": lambda _: None,
    }
    for line in _lines(requests):
        reply, last = _answer(handlers, line)
        try:
            replies.write(_encoded(reply))
            replies.flush()
        except BrokenPipeError:
            return False
        if last:
            return True
    return False


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, which is skipped."""
    while line := stream.readline(MAX_REQUEST_BYTES):
        if line.endswith(b"\n"):
            if line.strip():
                yield line
        elif len(line) < MAX_REQUEST_BYTES:
            return  # incomplete at the end of the input: nobody waits for the reply
        else:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_REQUEST_BYTES)
            yield None


def _answer(
    handlers: Mapping[str, Callable[[Any], BaseModel | None]], line: bytes | None
) -> tuple[dict[str, Any], bool]:
    """Return the reply to one line, and whether it is the last."""
    if line is None:
        return _failed(None, "request", f"the line is longer than {MAX_REQUEST_BYTES} bytes"), False
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _failed(None, "request", f"the line is not JSON: {error}"), False
    if not isinstance(message, dict):
        return _failed(None, "request", "the line is not a JSON object"), False
    number, op = message.get("id"), message.get("op")
    if not isinstance(op, str) or op not in REQUESTS:
        known = ", ".join(REQUESTS)
        return _failed(number, "request", f"unknown op {op!r}; known: {known}"), False
    try:
        request = read_message(REQUESTS[op], line)
    except ValueError as error:
        return _failed(number, op, str(error)), False
    try:
        result = handlers[op](request)
    except LatbenchError as error:
        return _failed(number, op, error.message, error.details, error.hint), False
    except MemoryError:
        return _failed(number, op, "out of memory"), False
    fields = {} if result is None else as_fields(result)
    return {"id": number, "ok": True} | fields, op == "quit"


def _encoded(reply: dict[str, Any]) -> bytes:
    """Encode a reply as a line; one that is too long for clients becomes a refusal."""
    line = json.dumps(reply, separators=(",", ":")).encode() + b"\n"
    if len(line) <= MAX_REPLY_BYTES:
        return line
    message = f"the reply would take more than {MAX_REPLY_BYTES} bytes"
    return _encoded(_failed(reply["id"], "run", message))  # no other reply is so long


def _failed(
    number: Any,
    stage: str,
    message: str,
    details: tuple[str, ...] = (),
    hint: str | None = None,
) -> dict[str, Any]:
    failure = Failure(stage=stage, message=message, details=details, hint=hint)
    return {"id": number, "ok": False, "error": as_fields(failure)}


# The process


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Reserve stdin and stdout for the protocol; other code gets an empty stdin, and stderr as stdout.

    Engines print from C++, which may not get between the replies.
    """
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _end_without_host(requests: IO[bytes]) -> None:
    """End the process a while after its input was closed, whatever it is doing.

    The main thread notices the end when it reads, but not while a model runs.
    """
    poller = select.poll()
    poller.register(requests, 0)  # hang-ups are reported without being requested
    poller.poll()
    time.sleep(_ORPHAN_S)
    os._exit(3)


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; returns its exit status."""
    parser = argparse.ArgumentParser(prog="latbench.device.host.worker", description=__doc__)
    parser.add_argument("--max-seconds", type=int, default=0, help="end after this long (0: never)")
    parser.add_argument(
        "--system-root", type=Path, default=Path("/"), help="where /proc and /sys are"
    )
    parser.add_argument("--scratch", type=Path, help="folder for what loads of the same file share")
    options = parser.parse_args(arguments)
    requests, replies = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host handles Ctrl-C
    if options.max_seconds > 0 and hasattr(signal, "alarm"):
        # The default action of SIGALRM ends the process even in native code.
        signal.alarm(options.max_seconds)
    if hasattr(select, "poll"):
        threading.Thread(target=_end_without_host, args=[requests], daemon=True).start()
    worker = Worker(LocalFiles(options.system_root), options.scratch)
    if not serve(worker, requests, replies) and options.scratch is not None:
        # The host was killed, or it ends this runner by force: the others can do without.
        shutil.rmtree(options.scratch, ignore_errors=True)
    # Do not wait for the daemon thread and native thread pools.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
