"""A run of epochs that can stop at any step and go on as if it had not, and that goes back when it must.

What a search and a training have in common: when checkpoints are taken, what is restored from them,
and what happens when a run diverges: back to the last checkpoint, and on at half the rates.
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

#: How often a run goes back and halves its rates before it gives up.
MOST_ROLLBACKS = 3


class Run(ABC):
    """One run with its state.

    Args:
        what: a search, a training.
        checkpoints: of this run.
        module: what is trained.
        optimizers: that train it, by name.
        generator: of all random numbers after the start.
        peers: the processes of the run; the first has the checkpoints.

    `epoch` counts the whole epochs, `current` is the pass under way (None between passes),
    `rollbacks` counts how often the run diverged.
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
        """Do what is left of the epoch, and count it."""

    @abstractmethod
    def progress(self) -> Progress:
        """How far the run is."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides what every run has; plain data."""

    @abstractmethod
    def restore_own(self, state: dict[str, Any]) -> None:
        """Take over what `own_state` gave."""

    @property
    def caution(self) -> float:
        """What rates are multiplied by: half as much after each time the run diverged."""
        return 0.5**self.rollbacks

    def resume(self) -> Path:
        """Go to the newest checkpoint that is whole; returns its file.

        Raises:
            BadRequest, LatbenchError: there is none; see `Checkpoints.load`.
        """
        failed: LatbenchError | None = None
        told: Any = None
        if self.peers.first:
            try:
                told = self._checkpoints.load()
            except LatbenchError as error:
                failed = error
        failed, told = self.peers.broadcast((failed, told))
        if failed is not None:
            raise failed
        state: dict[str, Any] = told[0]
        path: Path = told[1]
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
                hint="start anew, without --resume",
            ) from None
        return path

    def begin(self, *answers: Path) -> None:
        """Take the first checkpoint, before logs start anew: what cannot be begun leaves an earlier run's.

        Args:
            answers: files that an earlier run left here, which would be taken for this one's.

        Raises:
            Diverged, OutputFailed: as `save`; or a file cannot be removed.
        """
        self.save()
        if self.peers.first:
            self._checkpoints.only_newest()
            for answer in answers:
                remove(answer)

    def save(self) -> None:
        """Take a checkpoint.

        Raises:
            Diverged: what is trained holds numbers that are not finite; nothing is written.
            OutputFailed: it cannot be written.
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

    def epochs(
        self, count: int, log: EventLog, checkpoint_s: float, progress: OnProgress | None
    ) -> None:
        """Do the epochs up to `count`, with a checkpoint after each and every `checkpoint_s` seconds.

        Raises:
            LatbenchError: the run diverged once too often; the message says when, and what.
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
        """To be called after each step."""
        # One clock for all processes, else they part ways where one finds the run diverged.
        if self.peers.broadcast(time.monotonic() - self._saved_at >= self._checkpoint_s):
            self.save()
        self.tell(self.progress())

    def tell(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self._progress is not None and self.peers.first:
            self._progress(progress)

    def _roll_back(self, diverged: Diverged, log: EventLog) -> None:
        times = self.rollbacks + 1
        if times > MOST_ROLLBACKS:
            raise LatbenchError(
                f"{self._what} diverged: {diverged.message}, "
                f"after {MOST_ROLLBACKS} times at half the rates",
                hint="give a recipe of smaller rates: --recipe FILE.toml",
            )
        self.resume()
        self.rollbacks = times
        log.write("rollback", epoch=self.epoch, why=diverged.message, rates=self.caution)
        self.save()
