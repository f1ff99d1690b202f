"""The errors that users meet, and the exit codes of all commands.

Library code raises these errors; each says what was wrong, where, and what to type next. Only the command
line prints them and turns `exit_code` into the exit code of the process.
"""

import difflib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """The exit codes of every command, as docs/scripting.md lists them."""

    OK = 0
    """The command did what was asked. `latbench drift`: no drift."""

    FAILED = 1
    """The request was valid but could not be carried out. `latbench drift`: drift."""

    BAD_REQUEST = 2
    """The command line must change: an unknown or invalid command, option, name or value, or an input
    file that is missing, unreadable or not of the expected format. `latbench drift`: cannot compare."""


class LatbenchError(Exception):
    """An error that the user can act on.

    Args:
        message: what was wrong and where, in one sentence.
        details: further lines, such as the names that are missing.
        hint: what to type or do next.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self, message: str, *, details: Iterable[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: tuple[str, ...] = tuple(details)
        self.hint = hint


class BadRequest(LatbenchError):
    """The request is invalid, whatever the state of the machine and the device."""

    exit_code = ExitCode.BAD_REQUEST


class UnknownName(BadRequest):
    """A name that is not known; the message lists the nearest known names.

    Args:
        kind: what the name is of, such as "device" or "space".
        name: the name that was given.
        known: all valid names.
        hint: what to type next; by default, the nearest known names.
    """

    def __init__(
        self, kind: str, name: str, known: Sequence[str], *, hint: str | None = None
    ) -> None:
        nearest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
        if hint is None:
            few = ", ".join(known[:9]) + (", …" if len(known) > 9 else "")
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {few}"
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        super().__init__(f"unknown {kind} {shown!r}", hint=hint)
        self.kind, self.name, self.known, self.nearest = kind, name, tuple(known), tuple(nearest)


class CannotRead(BadRequest):
    """An input file or folder is missing, of the wrong kind, or unreadable."""

    @classmethod
    def because(cls, path: str | Path, error: OSError, *, hint: str | None = None) -> "CannotRead":
        """The error for `path`, with the operating system's reason."""
        return cls(f"cannot read {path}: {error.strerror or error}", hint=hint)


class BadNotation(BadRequest):
    """An architecture or op key that cannot be parsed."""


class LutRefused(LatbenchError):
    """A LUT that cannot be used: unreadable, altered, of an unknown schema, or of another target."""

    exit_code = ExitCode.BAD_REQUEST


class CannotCompare(LatbenchError):
    """Two LUTs, or a LUT and a device, whose drift cannot be determined."""

    exit_code = ExitCode.BAD_REQUEST  # 1 means drift

    @classmethod
    def because(cls, error: LatbenchError) -> "CannotCompare":
        """The same error, with the exit code of a comparison that was not made."""
        return cls(error.message, details=error.details, hint=error.hint)


class MissingOps(LatbenchError):
    """A LUT lacks ops that a prediction or a search needs.

    Args:
        missing: keys of the ops without an entry.
        wanted: how many ops are needed in all.
        lut: name of the LUT.
        what: what needs the ops, such as "fbnet_c".
        command: the complete command that measures them.
    """

    def __init__(
        self, missing: Sequence[str], wanted: int, lut: str, what: str, command: str
    ) -> None:
        shown = list(missing[:12])
        if len(missing) > len(shown):
            shown.append(f"… and {len(missing) - len(shown)} more")
        super().__init__(
            f"{lut} has no entry for {len(missing)} of the {wanted} ops of {what}:",
            details=shown,
            hint=f"measure them with: {command}",
        )
        self.missing = tuple(missing)
        self.command = command


class ExportFailed(LatbenchError):
    """An artifact could not be written, or its outputs differ from PyTorch's."""


class DeviceUnavailable(LatbenchError):
    """No unit of the device can be reached, or this version cannot measure on it."""


class RunnerFailed(LatbenchError):
    """A runner could not do what was requested.

    Args:
        stage: what was requested: start, hello, load, run, conditions, unload, quit or request.
        kind: refused (the runner answered with an error), crashed (it ended) or hung (it did not answer
            in time).
        reason: why, in the runner's own words if it answered.
        model: the name of the model concerned, where it is known.
    """

    def __init__(
        self,
        stage: str,
        kind: str,
        reason: str,
        *,
        model: str | None = None,
        hint: str | None = None,
    ) -> None:
        subject = "the model" if model is None else model
        do, doing = {
            "start": ("start the runner", "starting"),
            "hello": ("use the runner", "starting"),
            "load": (f"load {subject}", f"loading {subject}"),
            "run": (f"run {subject}", f"running {subject}"),
            "conditions": ("read the state of the unit", "reading the state of the unit"),
            "unload": (f"unload {subject}", f"unloading {subject}"),
        }.get(stage, (f"do {stage}", f"doing {stage}"))
        failed = f"cannot {do}" if kind == "refused" else f"the runner {kind} while {doing}"
        super().__init__(f"{failed}: {reason}", hint=hint)
        self.stage, self.kind, self.reason = stage, kind, reason

    def of(self, model: str) -> "RunnerFailed":
        """The same error, naming the model concerned."""
        return RunnerFailed(self.stage, self.kind, self.reason, model=model, hint=self.hint)


class RuntimeFailed(LatbenchError):
    """A runtime is not installed, or cannot load or run a model."""


class JournalRefused(LatbenchError):
    """A journal that cannot be used: missing, damaged, or of another version or run."""

    exit_code = ExitCode.BAD_REQUEST


class JournalInUse(JournalRefused):
    """Another process is writing the journal."""

    exit_code = ExitCode.FAILED


class OutputFailed(LatbenchError):
    """A file could not be written; an earlier file of that name is intact."""


class DeviceLost(DeviceUnavailable):
    """A unit that answered before no longer does; what ran on it there may be lost too."""
