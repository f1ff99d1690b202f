"""The base of everything that the device rooms read from files and from runners, and strict number types.

pydantic takes `true` for 1 unless told otherwise. No file or message here uses booleans as numbers, so a
boolean in place of a number is an error.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: A number that is written as a number: neither a boolean nor a string.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True)]


class Record(BaseModel):
    """An immutable record. Unknown fields are errors, unless a subclass says `extra="ignore"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
