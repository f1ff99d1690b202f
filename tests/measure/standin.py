"""A stand-in for a machine whose true latencies are known, behind the real measuring loop.

A `Machine` answers the runner protocol. What it tells follows from a scenario (`standin_scenarios`), its
own time and a seed; how long a request takes has nothing to do with it. There are two ways to it:

    ProcessUnit    a runner process in real time; as a program, this file is that runner
    SimulatedUnit  within this process, on a simulated clock that stops while nobody sleeps. A run of half
                   a minute takes a few seconds, and the same seed gives the same run
"""

import heapq
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from standin_scenarios import SCENARIOS, Kind, Scenario, Workload

from latbench.device.conditions import Conditions
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.measure.clock import Clock

#: What a visit and any other request take, seconds.
RUN_S, OTHER_S = 0.002, 0.0003

_TENSOR = {"name": "x", "shape": [1], "dtype": "float32"}
_ENGINE = {"runtime": "tflite", "version": "1"}


class Machine:
    """One runner of a unit in a scenario.

    Args:
        truth: the latency of every workload, nanoseconds, by path.
        kinds: what each workload is, by path.
        unit: the number of the unit.
        runner: the number of the runner on that unit.
        pace: how many times as long as usual requests take.
        now: seconds since the run began.
        sleep: let seconds pass.
    """

    def __init__(
        self,
        scenario: Scenario,
        truth: Mapping[str, float],
        kinds: Mapping[str, Sequence[Any]],
        seed: int,
        unit: int,
        runner: int,
        pace: float,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._scenario, self._truth, self._kinds = scenario, truth, kinds
        self._unit, self._pace, self._now, self._sleep = unit, pace, now, sleep
        self._rng = np.random.default_rng([seed, unit, runner])
        self._loaded: dict[str, tuple[str, float]] = {}  # handle -> path, and the luck of its place

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one request."""
        self._sleep(self._pace * (RUN_S if request["op"] == "run" else OTHER_S))
        reply: dict[str, Any] = {"id": request["id"], "ok": True}
        match request["op"]:
            case "hello":
                reply |= {"version": 1, "runner": "stand-in", "pid": 1, "os": "none", "abi": "none"}
                reply |= {"engines": [_ENGINE], "reference": "known"}
            case "load":
                handle = f"m{len(self._loaded)}"
                self._loaded[handle] = request["path"], float(self._rng.random())
                reply |= {"handle": handle, "load_ms": 0.0, "inputs": [_TENSOR], "engine": _ENGINE}
            case "run":
                reply["samples_ns"] = self._samples(request["handle"], request["min_samples"])
            case "conditions":
                reply["load_average"] = 0.0
        return reply

    def _samples(self, handle: str, count: int) -> list[int]:
        path, luck = ("reference", 0.5) if handle == "reference" else self._loaded[handle]
        kind, number = self._kinds[path]
        workload = Workload(Kind(kind), number, luck, self._unit)
        now, scenario = self._now(), self._scenario
        latency = self._truth[path] * scenario.slowness(workload, now)
        return [
            max(1, int(ns)) for ns in scenario.samples(latency, count, workload, now, self._rng)
        ]


def serve(config: Mapping[str, Any], unit: int, runner: int) -> None:
    """Answer requests on the standard streams until the input ends."""
    machine = Machine(
        SCENARIOS[config["scenario"]],
        config["truth"],
        config["kinds"],
        config["seed"],
        unit,
        runner,
        config["pace"],
        lambda: time.time() - config["began"],
        time.sleep,
    )
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(machine.answer(request)), flush=True)
        if request["op"] == "quit":
            return


class _Unit:
    """What both kinds of units share."""

    name = "host"
    description = "a machine whose latencies are known"
    emulated = True
    reference: str | None = "known"

    def __init__(self, number: int, reference: str | None) -> None:
        self.number, self.unit, self.reference = number, f"unit{number}", reference
        self.opened = 0

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        return {path: str(path) for path in artifacts}

    def conditions(self) -> Conditions:
        return Conditions()

    def require_cores(self, cores: Sequence[int], threads: int) -> None:
        """Any will do."""

    def default_cores(self, threads: int) -> tuple[int, ...]:
        return ()

    def close(self) -> None:
        """Nothing is held."""


class ProcessUnit(_Unit):
    """A unit whose runners are processes in real time; `config` is the path of what `serve` takes."""

    def __init__(self, number: int, config: Path, reference: str | None = "known") -> None:
        super().__init__(number, reference)
        self._config = config

    def open_runner(self) -> RunnerClient:
        self.opened += 1
        command = [sys.executable, __file__, str(self._config), str(self.number), str(self.opened)]
        return RunnerClient(ProcessTransport(command, dict(os.environ)))


class SimulatedClock(Clock):
    """A clock that moves only while all `sleepers` sleep: to the moment at which the first one wakes.

    One thread at a time is awake, so several units are repeatable too.
    """

    def __init__(self, sleepers: int) -> None:
        self._now = 0.0
        self._sleepers = sleepers
        self._asleep: list[tuple[float, int]] = []
        self._turns = 0
        self._changed = threading.Condition()

    def now(self) -> float:
        return self._now

    def date(self) -> float:
        return 1.8e9 + self._now

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        condition.release()
        try:
            self.sleep(seconds)
        finally:
            condition.acquire()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        with self._changed:
            self._turns += 1
            me = (self._now + seconds, self._turns)
            heapq.heappush(self._asleep, me)
            self._changed.notify_all()
            while len(self._asleep) < self._sleepers or self._asleep[0] != me:
                self._changed.wait()
            heapq.heappop(self._asleep)
            self._now = me[0]

    def leave(self) -> None:
        """One of the sleepers is gone."""
        with self._changed:
            self._sleepers -= 1
            self._changed.notify_all()


class SimulatedUnit(_Unit):
    """A unit whose runners are in this process, on a simulated clock."""

    def __init__(
        self,
        number: int,
        clock: SimulatedClock,
        scenario: Scenario,
        truth: Mapping[str, float],
        kinds: Mapping[str, Sequence[Any]],
        seed: int,
        pace: float,
        reference: str | None = "known",
    ) -> None:
        super().__init__(number, reference)
        self._pace = pace
        self._clock, self._scenario = clock, scenario
        self._truth, self._kinds, self._seed = truth, kinds, seed
        self._alive = 0

    def open_runner(self) -> RunnerClient:
        self.opened += 1
        self._alive += 1
        machine = Machine(
            self._scenario,
            self._truth,
            self._kinds,
            self._seed,
            self.number,
            self.opened,
            self._pace,
            self._clock.now,
            self._clock.sleep,
        )
        return RunnerClient(_Direct(machine, self._ended))

    def _ended(self) -> None:
        self._alive -= 1
        if not self._alive:
            self._clock.leave()


class _Direct:
    """A transport to a machine in this process."""

    def __init__(self, machine: Machine, ended: Callable[[], None]) -> None:
        self._machine, self._ended = machine, ended
        self._replies = bytearray()
        self.alive = True

    def send(self, data: bytes, deadline: float) -> None:
        self._replies += json.dumps(self._machine.answer(json.loads(data))).encode() + b"\n"

    def receive(self, deadline: float) -> bytes:
        data = bytes(self._replies)
        self._replies.clear()
        return data

    def close(self, grace_s: float) -> None:
        if self.alive:
            self.alive = False
            self._ended()

    def post_mortem(self) -> str:
        return "it was closed"


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]), int(sys.argv[3]))
