"""The data types that a search space and its published networks are described with."""

import re
from dataclasses import dataclass

from latbench.errors import BadNotation


@dataclass(frozen=True)
class Candidate:
    """One choice of block. `str(candidate)` is its token in the notation: k3e6, k5e1g2, k3e6sep, skip."""

    kernel: int = 0
    expansion: int = 0
    groups: int = 1
    separable: bool = False

    def __str__(self) -> str:
        if self == SKIP:
            return "skip"
        groups = f"g{self.groups}" if self.groups > 1 else ""
        return f"k{self.kernel}e{self.expansion}{groups}{'sep' if self.separable else ''}"

    @classmethod
    def parse(cls, token: str) -> "Candidate":
        """Parse one token of the notation.

        Raises:
            BadNotation: the token is not a block.
        """
        if token == "skip":
            return SKIP
        match = re.fullmatch(r"k([357])e([1-9])(?:g([2-9]))?(sep)?", token)
        if match is None:
            raise BadNotation(
                f"unknown block {token!r}",
                hint="write a block like k3e6, k5e1g2, k3e6sep or skip",
            )
        return cls(int(match[1]), int(match[2]), int(match[3] or 1), match[4] is not None)


SKIP = Candidate()


@dataclass(frozen=True)
class Stage:
    """A row of the macro-architecture: `layers` blocks of `channels`, the first with `stride`."""

    channels: int
    layers: int
    stride: int


@dataclass(frozen=True)
class MacroArchitecture:
    """The fixed part of a search space, before input size and width are chosen.

    `input_sizes` are those of the literature, the default first; any multiple of `input_multiple` is
    accepted. `heads` are head widths in channels, the default first.
    """

    name: str
    input_sizes: tuple[int, ...]
    input_multiple: int
    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    heads: tuple[int, ...]
    classes: int


@dataclass(frozen=True)
class Release:
    """The conventions of one release of published networks."""

    name: str
    keeps_first_1x1: bool
    counts_pool: bool


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network: its layers in each release, and the shape it was published with.

    `transcription` means that third parties read the layers off a figure of the paper: there is no official
    file, and the head is an assumption.
    """

    layers: dict[str, str]
    head: int = 1984
    input_size: int = 224
    width: float = 1.0
    transcription: bool = False
