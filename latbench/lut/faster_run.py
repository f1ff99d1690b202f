"""A run in which a unit was faster than in the run of a LUT, as the LUT's conditions hold it.

A run cannot know that all of it was slow. `latbench.workflows.history` compares it with earlier runs.
"""

from typing import ClassVar, Literal, Self

from pydantic import AwareDatetime, ValidationError

from latbench.lut.schema import Lut
from latbench.record import PositiveNumber, Record
from latbench.wording import milliseconds, percent


class FasterRun(Record):
    """Another run of a unit, in which it was faster than in this one by more than noise.

    Attributes:
        unit: the unit.
        workload: by which workload: the reference, or the sentinel where there is no reference.
        ms, best_ms: its latency in this run and in the faster one, milliseconds.
        when: the start of the faster run.
    """

    unit: str
    workload: Literal["reference", "sentinel"]
    ms: PositiveNumber
    best_ms: PositiveNumber
    when: AwareDatetime

    #: The key in `Lut.conditions`.
    KEY: ClassVar[str] = "faster_run"

    @property
    def slowdown(self) -> float:
        """How much slower the unit was than in the faster run: 1.1 is 10 %."""
        return self.ms / self.best_ms

    @classmethod
    def of(cls, lut: Lut) -> Self | None:
        """What the conditions of `lut` say; None if they name no such run."""
        try:
            return cls.model_validate(lut.conditions.get(cls.KEY))
        except ValidationError:  # conditions are not checked when a LUT is read
            return None

    def __str__(self) -> str:
        """One sentence, without a full stop."""
        return (
            f"the {self.workload} took {milliseconds(self.ms)} ms on {self.unit}, "
            f"{percent(self.slowdown - 1)} more than the {milliseconds(self.best_ms)} ms "
            f"of {self.when:%Y-%m-%d %H:%M %Z}"
        )
