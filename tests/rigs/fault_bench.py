"""Measures a small plan on a disturbed phone with fixed times, and compares with the true times.

As a program it measures until a given trial and then kills itself:

    python -m tests.rigs.fault_bench ADDRESS FOLDER TRIAL
"""

import contextlib
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from latbench.device.android.adb.direct import DirectLink
from latbench.device.android.artifacts import FOLDER
from latbench.device.android.device import AndroidDevice
from latbench.device.catalogue import find_device
from latbench.files import sha256_of
from latbench.lut import Lut
from latbench.measure import Journal, Plan, Role, RunReport, Settings, Workload, measure
from latbench.measure.records import RunNote, Trial
from latbench.space import SearchSpace, parse_key
from latbench.target import Precision, Runtime, Target
from latbench.workflows.build_lut import lut_of_run
from tests.rigs import fixed_phone

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
OPS = SPACE.unique_ops[:6]
KILOBYTES = 30  # an artifact

#: Nothing but the rounds decides when a workload is done.
SETTINGS = Settings(
    ci=0.05, seconds=0.0, min_samples=4, sentinel_every=4, cool_down_s=0.0, runners=1
)


@dataclass
class FaultBench:
    """A plan, where its trials go, and what happened so far.

    Args:
        address: of the phone.
        root: its file system, if it is of this process.
        device: the catalogue's name of it.
        authorise_s: how long its user has to let us in; on a busy machine it takes a while.
    """

    folder: Path
    address: str
    root: Path | None = None
    device: str = "galaxy-s8"
    orders: dict[int, Callable[[], object]] = field(default_factory=dict)
    trials_before: int = 0
    authorise_s: float = 30.0

    @property
    def journal(self) -> Path:
        return self.folder / "trials.sqlite"

    def plan(self, **settings: Any) -> Plan:
        """Six ops of a space and a sentinel, as files that only their names are in."""
        self.folder.mkdir(exist_ok=True)
        return Plan(
            Target(device=self.device, runtime=Runtime.ONNX, precision=Precision.FP32),
            tuple(self._workload(op.key, Role.OP) for op in OPS),
            self._workload("sentinel", Role.SENTINEL),
            replace(SETTINGS, **settings),
        )

    def _workload(self, key: str, role: Role) -> Workload:
        path = self.folder / f"{key}.onnx"
        content = (key + "\n").encode().ljust(KILOBYTES << 10, b".")
        path.write_bytes(content)
        return Workload(key, role, path, sha256_of(content))

    def at(self, trial: int, action: Callable[[], object]) -> None:
        """Do something right before the trial with this number, counted over all sessions."""
        self.orders[trial] = action

    def open(self) -> AndroidDevice:
        """The phone as a device."""
        link = DirectLink.tcp(self.address, authorise_s=self.authorise_s)
        try:
            return AndroidDevice(link, find_device(self.device))
        except BaseException:
            link.close()
            raise

    def measure(self, **settings: Any) -> RunReport:
        """Measure what is left of the plan."""
        add = Journal.add_trial
        numbers = itertools.count(self.trials_before)

        def noticed(journal: Journal, *words: Any, **values: Any) -> Trial:
            number = next(numbers)
            self.trials_before = number + 1
            if number in self.orders:
                self.orders.pop(number)()
            return add(journal, *words, **values)

        note = RunNote(space=SPACE.to_dict(), context="alone")
        with (
            mock.patch.object(Journal, "add_trial", noticed),
            contextlib.closing(self.open()) as device,
            Journal(self.journal) as journal,
        ):
            return measure(self.plan(**settings), device, journal, note=note)

    def kept(self) -> list[Trial]:
        """The trials in the journal."""
        with Journal(self.journal, readonly=True) as journal:
            return journal.trials(journal.run().id)

    def lut(self) -> Lut:
        """The LUT of the ops that were measured."""
        with Journal(self.journal, readonly=True) as journal:
            return lut_of_run(journal, macs=lambda key: parse_key(key).macs, partial=True)

    def require_nothing_lost(self, *, missing: tuple[str, ...] = ()) -> None:
        """Make sure that the LUT is complete and right, that every trial was kept and none made twice,
        and that no runner is left on the phone.
        """
        trials = self.kept()
        assert [trial.id for trial in trials] == list(range(1, len(trials) + 1))
        assert len(trials) == self.trials_before, "every trial that was made is kept"
        visits = Counter(
            (trial.workload, trial.round)
            for trial in trials
            if trial.role is Role.OP and trial.failure is None
        )
        assert set(visits.values()) == {1}, "no visit is made again"
        lut = self.lut()
        assert set(lut.entries) == {op.key for op in OPS} - set(missing)
        truth = {one.key: fixed_phone.latency_ns(one.sha256) / 1e6 for one in self.plan().workloads}
        for key, entry in lut.entries.items():
            assert abs(entry.ms / truth[key] - 1) < 0.01, "noise of 0.2 %"
            assert entry.rounds >= SETTINGS.min_rounds, "it was not given up after a few"
        artifacts = self._on_phone("artifacts/*")
        assert artifacts, "or they lie elsewhere"
        for artifact in artifacts:
            assert sha256_of(artifact.read_bytes()) == artifact.name, "whole, however it got there"
        self.require_quiet()

    def _on_phone(self, pattern: str) -> list[Path]:
        """What latbench keeps on the phone."""
        assert self.root is not None
        return sorted((self.root / FOLDER.lstrip("/")).glob(pattern))

    def require_quiet(self) -> None:
        """Make sure that no runner is left on the phone, or wait until none is."""
        assert self.root is not None
        fixed_phone.await_end(self.root)


def await_strike(root: Path) -> None:
    """Wait until the runner of the phone at `root` has done what was ordered."""
    deadline = time.monotonic() + 60
    while not (root / fixed_phone.STRUCK).exists():
        assert time.monotonic() < deadline, "it was never asked"
        time.sleep(0.005)


if __name__ == "__main__":
    bench = FaultBench(Path(sys.argv[2]), sys.argv[1])
    bench.at(int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    bench.measure()
