"""What can go wrong, told to the person at the keyboard.

Library code raises these; they carry what was wrong, where, and what to type next. Only `latbench.cli`
prints them, and turns `exit_code` into the process's own: 1 it failed, 2 the request makes no sense.
"""

import difflib
from collections.abc import Iterable, Sequence


class LatbenchError(Exception):
    """Something failed for a reason the user can act on.

    Args:
        message: what was wrong and where, one sentence.
        details: further lines, such as the names that are missing.
        hint: what to type or do next.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, details: Iterable[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: tuple[str, ...] = tuple(details)
        self.hint = hint


class BadRequest(LatbenchError):
    """The request makes no sense, whatever the state of the machine."""

    exit_code = 2


class UnknownName(BadRequest):
    """A name that is not known, with the nearest that are."""

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


class BadNotation(BadRequest):
    """An architecture or op key that cannot be parsed."""


class LutRefused(LatbenchError):
    """A LUT file that must not be trusted: unreadable, altered, foreign, or of an unknown schema."""


class CannotCompare(LatbenchError):
    """Two LUTs, or a LUT and a device, between which drift cannot be told."""

    exit_code = 2  # 1 means drift

    @classmethod
    def because(cls, error: LatbenchError) -> "CannotCompare":
        """Something else failed first."""
        return cls(error.message, details=error.details, hint=error.hint)


class MissingOps(LatbenchError):
    """A LUT lacks ops that a prediction or search needs."""

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
    """An artifact could not be written, or does not compute what PyTorch computes."""


class DeviceUnavailable(LatbenchError):
    """No unit of the device can be reached, or this version cannot measure on it."""


class RunnerFailed(LatbenchError):
    """The runner could not do what it was asked; `stage` says at what.

    `stage` is one of start, hello, load, run, conditions, unload, quit, request; `kind` one of
    refused (it answered with an error), crashed (it died), hung (it did not answer in time).
    """

    def __init__(self, stage: str, kind: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"the runner {kind} at {stage}: {reason}", hint=hint)
        self.stage, self.kind, self.reason = stage, kind, reason


class JournalRefused(LatbenchError):
    """A journal that cannot be used: of another version, damaged, or in use by another process."""


class OutputFailed(LatbenchError):
    """A file could not be written; what was there before is intact."""


class DeviceLost(DeviceUnavailable):
    """A unit that answered before is gone; what was running on it there may be lost too."""
