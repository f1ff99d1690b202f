"""Candidates: what a layer of a search space may be, before its shape is known.

In the notation of architectures a candidate is a token: `k3e6`, `conv5`, `skip`. Each family parses its own
tokens, in its file of `latbench.space.families`. A space file may also name candidates of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field

from latbench.errors import BadNotation
from latbench.record import Integer, Record
from latbench.space.opspec import OpSpec


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, got {value}")
    return value


#: A kernel: odd, so that 'same' padding is symmetric.
OddKernel = Annotated[Integer, Field(ge=1, le=63), AfterValidator(_odd)]


@dataclass(frozen=True)
class Layer:
    """One searchable position.

    Attributes:
        stage, index: its stage, and its index there.
        in_channels, out_channels, stride: what its op must make of its input.
        height, width: size of the input, pixels.
        batch: the number of images that run together.
        candidates: what may be chosen here.
    """

    stage: int
    index: int
    in_channels: int
    out_channels: int
    stride: int
    height: int
    width: int
    batch: int
    candidates: tuple["Candidate", ...]

    @property
    def keeps_shape(self) -> bool:
        """Whether the output may be the input: stride 1 and equal channels."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def shape(self) -> dict[str, int]:
        """The fields of an op that the layer determines."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "height": self.height,
            "width": self.width,
            "stride": self.stride,
            "batch": self.batch,
        }

    @property
    def size(self) -> str:
        """The size of the input as text: 56², or 40×98."""
        square = self.height == self.width
        return f"{self.height}²" if square else f"{self.height}×{self.width}"


class Candidate(Record, ABC):
    """One choice for a layer. A family is a subclass, whose fields say everything but the shape.

    Attributes:
        name: the name that a space file gives it; without one it is called by its token.
    """

    #: What space files call the family.
    family: ClassVar[str]
    #: A token of the family, as an example.
    example: ClassVar[str]

    name: str = ""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "family" in cls.__dict__:
            FAMILIES[cls.family] = cls

    def __str__(self) -> str:
        return self.name or self.token

    @property
    @abstractmethod
    def token(self) -> str:
        """The token in the notation; `of_token` reads it back where nothing else is set."""

    @classmethod
    @abstractmethod
    def of_token(cls, token: str) -> Self | None:
        """The candidate that `token` means; None if it is none of this family."""

    @abstractmethod
    def op(self, layer: Layer) -> OpSpec | None:
        """The op at `layer`; None where it is the identity.

        Raises:
            ValueError: it does not fit there, such as groups that do not divide the channels.
        """

    def settled(self, settings: Mapping[str, Any]) -> Self:
        """This candidate with `settings` for the fields that it leaves open; others do not concern it.

        Raises:
            ValidationError: a setting is out of range.
        """
        fields = type(self).model_fields
        taken = {name: value for name, value in settings.items() if name in fields}
        if taken.keys() <= self.model_fields_set:
            return self
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(taken | own)


#: Every family of candidates by the name that space files use; families enter themselves.
FAMILIES: dict[str, type[Candidate]] = {}


def parse_token(token: str) -> Candidate:
    """Parse one token of the notation.

    Raises:
        BadNotation: no family has such a token.
    """
    for family in FAMILIES.values():
        found = family.of_token(token)
        if found is not None:
            return found
    examples = [family.example for family in FAMILIES.values()]
    raise BadNotation(
        f"unknown block {token!r}",
        hint=f"write a block like {', '.join(examples[:-1])} or {examples[-1]}",
    )
