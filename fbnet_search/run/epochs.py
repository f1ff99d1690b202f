"""A run of epochs: resumable at any step, with rollback where it diverges.

The common base of searches and trainings: when checkpoints are taken, what is restored from them, and
the rollback: to the last checkpoint, and on at half the learning rates.
"""

import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbnet_search.run.checkpoint import Checkpoints
from fbnet_search.run.distributed import Peers
from fbnet_search.run.events import EventLog
from fbnet_search.run.passes import Diverged, Pass, require_finite
from fbnet_search.run.recipe import OnProgress, Progress
from latbench.errors import LatbenchError
from latbench.files import remove

#: Rollbacks before a run fails.
MAX_ROLLBACKS = 3


class Run(ABC):
    """One run with its state.

    Args:
        what: the kind of run, for messages: "a search", "a training".
        checkpoints: of this run.
        module: the module that is trained.
        optimizers: of its parameters, by name.
        generator: of all random numbers after initialisation.
        peers: the processes of the run; the first reads and writes the checkpoints.

    `epoch` counts finished epochs, `current` is the pass in progress (None between passes), `rollbacks`
    counts how often the run diverged.
    """

    def __init__(
        self,
        what: str,
        checkpoints: Checkpoints,
        module: nn.Module,
        optimizers: dict[str, torch.optim.Optimizer],
        generator: torch.Generator,
        peers: Peers,
    ) -> None:
        self.epoch, self.rollbacks = 0, 0
        self.current: Pass | None = None
        self.generator = generator
        self._what, self._checkpoints, self.peers = what, checkpoints, peers
        self._module, self._optimizers = module, optimizers
        self._saved_at = -math.inf
        self._checkpoint_s = math.inf
        self._progress: OnProgress | None = None

    @abstractmethod
    def one_epoch(self, log: EventLog) -> None:
        """Run the rest of the current epoch, and count it."""

    @abstractmethod
    def progress(self) -> Progress:
        """The progress of the run."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """The state of the subclass for a checkpoint; plain data."""

    @abstractmethod
    def restore_own(self, state: dict[str, Any]) -> None:
        """Restore the state that `own_state` returned."""

    @property
    def lr_scale(self) -> float:
        """The factor of all learning rates: halved by each rollback."""
        return 0.5**self.rollbacks

    def resume(self) -> Path:
        """Restore the newest undamaged checkpoint, and return its file.

        Raises:
            BadRequest, LatbenchError: there is none; see `Checkpoints.load`.
        """
        failed: LatbenchError | None = None
        loaded: Any = None
        if self.peers.first:
            try:
                loaded = self._checkpoints.load()
            except LatbenchError as error:
                failed = error
        failed, loaded = self.peers.broadcast((failed, loaded))
        if failed is not None:
            raise failed
        state: dict[str, Any] = loaded[0]
        path: Path = loaded[1]
        try:
            self._module.load_state_dict(state["module"])
            for name, optimizer in self._optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.generator.set_state(state["generator"])
            self.epoch, self.rollbacks = state["epoch"], state["rollbacks"]
            self.current = None if state["pass"] is None else Pass.restored(state["pass"])
            self.restore_own(state["own"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise LatbenchError(
                f"{path} does not hold the state of {self._what}: {error}",
                hint="start over: run the same command without --resume",
            ) from None
        return path

    def begin(self, *stale_outputs: Path) -> None:
        """Take the first checkpoint, then remove the outputs of an earlier run.

        In this order a run that cannot start leaves the earlier one intact.

        Args:
            stale_outputs: files of an earlier run that could be mistaken for results of this one.

        Raises:
            Diverged, OutputFailed: as `save`; or a file cannot be removed.
        """
        self.save()
        if self.peers.first:
            self._checkpoints.remove_older()
            for path in stale_outputs:
                remove(path)

    def save(self) -> None:
        """Take a checkpoint.

        Raises:
            Diverged: the module has values that are not finite; nothing is written.
            OutputFailed: the checkpoint cannot be written.
        """
        require_finite(self._module.state_dict(), f"epoch {self.epoch}")
        self._saved_at = time.monotonic()
        if not self.peers.first:
            return
        self._checkpoints.save(
            {
                "epoch": self.epoch,
                "rollbacks": self.rollbacks,
                "pass": None if self.current is None else self.current.state(),
                "module": self._module.state_dict(),
                "optimizers": {name: one.state_dict() for name, one in self._optimizers.items()},
                "generator": self.generator.get_state(),
                "own": self.own_state(),
            }
        )

    def run_epochs(
        self, count: int, log: EventLog, checkpoint_s: float, progress: OnProgress | None
    ) -> None:
        """Run the epochs up to `count`, with a checkpoint after each and every `checkpoint_s` seconds.

        Raises:
            LatbenchError: the run diverged more than `MAX_ROLLBACKS` times; the message says which value
                in which step.
            OutputFailed: a checkpoint cannot be written.
        """
        self._checkpoint_s, self._progress = checkpoint_s, progress
        while self.epoch < count:
            try:
                self.one_epoch(log)
                self.save()
            except Diverged as diverged:
                self._roll_back(diverged, log)

    def step_done(self) -> None:
        """Checkpoint if it is time, and report progress; called after each step."""
        # All processes follow the first one's clock, or one would wait for others at the checkpoint.
        if self.peers.broadcast(time.monotonic() - self._saved_at >= self._checkpoint_s):
            self.save()
        self.report(self.progress())

    def report(self, progress: Progress) -> None:
        """Report the progress to the caller of the run."""
        if self._progress is not None and self.peers.first:
            self._progress(progress)

    def _roll_back(self, diverged: Diverged, log: EventLog) -> None:
        times = self.rollbacks + 1
        if times > MAX_ROLLBACKS:
            raise LatbenchError(
                f"{self._what} diverged: {diverged.message}, "
                f"after {MAX_ROLLBACKS} rollbacks, each of which halved the learning rates",
                hint="give a recipe with smaller learning rates: --recipe FILE.toml",
            )
        self.resume()
        self.rollbacks = times
        log.write("rollback", epoch=self.epoch, why=diverged.message, rates=self.lr_scale)
        self.save()
