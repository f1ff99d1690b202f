"""The base of what is read from files: frozen, of known fields only, with strict numbers.

pydantic takes `true` for 1 and "3" for 3 unless told otherwise. A file that holds either was not written by
latbench, so numbers are strict: an `Integer` is a JSON integer and a `Number` a finite JSON number.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
PositiveNumber = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NonNegativeNumber = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]


class Record(BaseModel):
    """A value that a file holds: immutable, and of known fields only."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def problems_of(error: ValidationError) -> list[str]:
    """What `error` found wrong, one line a field: 'entries.KEY.ms: Input should be greater than 0'."""
    return [
        f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
        for problem in error.errors()
    ]
