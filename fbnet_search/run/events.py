"""The logs of a run: `events.jsonl` for programs, `tensorboard/` for people.

TensorBoard's own writer works in a thread, so its failure (a full disk) surfaces late and as a
traceback. Here records are written synchronously, in TensorBoard's record format.
"""

import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from latbench.errors import OutputFailed
from latbench.files import write_atomically

_FOLDER = "tensorboard"
_CELL = 16  # pixels for each value of a heat map


class EventLog:
    """Appends events to a folder's two logs.

    Args:
        folder: the run's output folder, created if missing; None writes nothing, for all but the first
            process of a run.
        resume_after: None truncates both logs; n keeps the events of epochs up to n.

    Raises:
        OutputFailed: from any method, if the folder cannot be written to.
    """

    def __init__(self, folder: Path | None, *, resume_after: int | None = None) -> None:
        self._board: BinaryIO | None = None
        self._folder = folder
        if folder is None:
            return
        self._path = folder / "events.jsonl"
        lines = [] if resume_after is None else _lines_up_to(self._path, resume_after)
        write_atomically(self._path, "".join(lines))
        try:
            self._board = _open_board(folder / _FOLDER, truncate=resume_after is None)
        except OSError as error:
            raise _failed(folder / _FOLDER, error) from None
        if resume_after is not None:
            self._discard_steps_after(resume_after)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event to `events.jsonl`; the fields are JSON data."""
        if self._folder is None:
            return
        line = json.dumps({"event": event, "time": time.time(), **fields}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise _failed(self._path, error) from None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write `values` to TensorBoard at `step`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._record(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())

    def heat_map(self, step: int, tag: str, shares: NDArray[np.float64]) -> None:
        """Write a matrix of values from 0 to 1 as an image: a row for each layer, 1 is white."""
        from PIL import Image
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        cells = np.kron((shares * 255).round().astype(np.uint8), np.ones((_CELL, _CELL), np.uint8))
        encoded = io.BytesIO()
        Image.fromarray(cells).save(encoded, "png")
        height, width = cells.shape
        image = Summary.Image(
            height=height, width=width, colorspace=1, encoded_image_string=encoded.getvalue()
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._record(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())

    def close(self) -> None:
        """Close the logs."""
        if self._board is not None:
            self._board.close()

    def _discard_steps_after(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        session = SessionLog(status=SessionLog.START)
        event = Event(wall_time=time.time(), step=step + 1, session_log=session)
        self._record(event.SerializeToString())

    def _record(self, data: bytes) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._board is None:
            return
        try:
            RecordWriter(self._board).write(data)
            self._board.flush()
        except OSError as error:
            raise _failed(Path(self._board.name), error) from None


def _open_board(folder: Path, *, truncate: bool) -> BinaryIO:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    if truncate:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    now = time.time()
    file = (folder / f"events.out.tfevents.{now:.6f}.{os.getpid()}").open("wb")
    RecordWriter(file).write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    file.flush()
    return file


def _lines_up_to(path: Path, epoch: int) -> list[str]:
    """The complete lines of an event log that belong to no epoch, or to one up to `epoch`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return []
    kept = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line, truncated when the run was killed
            continue
        if event.get("event") != "end" and event.get("epoch", 0) <= epoch:
            kept.append(line)
    return kept


def _failed(path: Path, error: OSError) -> OutputFailed:
    return OutputFailed(
        f"cannot write {path}: {error.strerror}", hint="free some space, or choose another folder"
    )
