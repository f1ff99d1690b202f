"""Architectures: one choice a layer, as text, as ops, and as counts.

The notation has one token a layer and '|' between stages:

    k3e1|k3e6 skip k3e1 k3e1|k5e6 k5e3 k5e6 k3e6|…

Published networks are known by name (`latbench.space.shipped`).
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.errors import BadNotation, BadRequest, CannotRead, UnknownName
from latbench.space.macro import Candidate, PublishedNetwork, Release
from latbench.space.opspec import OpSpec
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import CANDIDATES, PUBLISHED, RELEASES


@dataclass(frozen=True)
class Architecture:
    """One network of a search space: a candidate for each layer, and a head width.

    Raises:
        BadRequest: the number of choices is not the space's number of layers, or the head is not
            a positive number.
    """

    space: SearchSpace
    choices: tuple[Candidate, ...]
    head: int
    name: str | None = None

    def __post_init__(self) -> None:
        wanted = len(self.space.layers)
        if len(self.choices) != wanted:
            raise BadRequest(
                f"an architecture of {self.space.name} has {wanted} layers, not {len(self.choices)}"
            )
        if self.head < 1:
            raise BadRequest(f"a head of {self.head} channels makes no sense")

    @classmethod
    def parse(
        cls, notation: str, space: SearchSpace, *, head: int | None = None, name: str | None = None
    ) -> "Architecture":
        """Parse the notation for a space; `head` defaults to the space's first.

        Raises:
            BadNotation: a token is no block, or a stage has another number of layers than it must.
        """
        stages = [stage.split() for stage in notation.split("|")]
        wanted = [stage.layers for stage in space.macro.stages]
        if [len(stage) for stage in stages] != wanted:
            raise BadNotation(
                f"{notation!r} has {'+'.join(str(len(stage)) for stage in stages)} layers in its "
                f"stages, but {space.name} has {'+'.join(map(str, wanted))}",
                hint="write one token a layer and '|' between stages, "
                "or give a published name such as fbnet_c",
            )
        choices = tuple(Candidate.parse(token) for stage in stages for token in stage)
        return cls(space, choices, space.heads[0] if head is None else head, name)

    def __str__(self) -> str:
        return self.name or self.notation

    @property
    def notation(self) -> str:
        """The canonical notation; `parse` reads it back."""
        tokens = iter(map(str, self.choices))
        return "|".join(
            " ".join(next(tokens) for _ in range(stage.layers)) for stage in self.space.macro.stages
        )

    @property
    def layer_ops(self) -> tuple[OpSpec | None, ...]:
        """The op at each searchable layer; None where a skip is the identity."""
        return tuple(map(self.space.op, self.space.layers, self.choices))

    @property
    def ops(self) -> tuple[OpSpec, ...]:
        """Every op in order, stem to classifier; identities are not ops."""
        blocks = tuple(op for op in self.layer_ops if op is not None)
        return (self.space.stem, *blocks, *self.space.head_ops(self.head))

    @property
    def params(self) -> int:
        """Convolution and linear weights, as FBNet's releases count them: no bias, no BN."""
        return sum(op.params for op in self.ops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear layers only."""
        return sum(op.macs for op in self.ops)

    def macs_by(self, release: Release) -> int:
        """Multiply-accumulates counted as `release` counts them."""
        _, pool, _ = self.space.head_ops(self.head)
        extra = pool.in_channels * pool.height * pool.width if release.counts_pool else 0
        return self.macs + extra

    def to_dict(self) -> dict[str, Any]:
        """The architecture as JSON data; `from_dict` reads it back."""
        return {
            "name": self.name,
            "space": self.space.to_dict(),
            "layers": self.notation,
            "head": self.head,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Architecture":
        """Read what `to_dict` wrote, or `fbnet-search`'s architecture.json.

        Raises:
            BadNotation: a field is missing or is not what it must be.
            UnknownName, BadRequest: as `SearchSpace.named` and `parse`.
        """
        try:
            space = SearchSpace.from_dict(data["space"])
            return cls.parse(data["layers"], space, head=int(data["head"]), name=data.get("name"))
        except KeyError as error:
            raise BadNotation(f"not an architecture: it has no {error}") from None
        except (TypeError, ValueError, AttributeError):
            raise BadNotation("not an architecture: a field is not what it must be") from None


def published(
    name: str,
    *,
    release: str = "2020",
    space: SearchSpace | None = None,
    head: int | None = None,
) -> Architecture:
    """Return a published network.

    Args:
        release: '2019' or '2020'; says which layers, and whether e1 blocks keep their first 1x1.
        space: build it in this space instead of the published one; the space's rule for e1 holds.
        head: in place of the published width.

    Raises:
        UnknownName: there is no such network or release.
    """
    if name not in PUBLISHED:
        raise UnknownName("architecture", name, tuple(PUBLISHED))
    network, rule = PUBLISHED[name], release_named(release)
    if space is None:
        space = _published_space(network, keeps_first_1x1=rule.keeps_first_1x1)
    notation = network.layers.get(release, network.layers["2020"])
    if head is None:
        head = network.head if network.head in space.heads else space.heads[0]
    return Architecture.parse(notation, space, head=head, name=name)


def _published_space(
    network: PublishedNetwork | None,
    *,
    keeps_first_1x1: bool,
    input_size: int | None = None,
    width: float | None = None,
) -> SearchSpace:
    network = network or PublishedNetwork({})
    return SearchSpace.named(
        "fbnet",
        input_size=network.input_size if input_size is None else input_size,
        width=network.width if width is None else width,
        keeps_first_1x1=keeps_first_1x1,
    )


def release_named(name: str) -> Release:
    """Return the release called '2019' or '2020'.

    Raises:
        UnknownName: there is no such release.
    """
    if name not in RELEASES:
        raise UnknownName("release", name, tuple(RELEASES))
    return RELEASES[name]


def read_architecture(
    text: str,
    space: SearchSpace | None = None,
    *,
    release: str | None = None,
    head: int | None = None,
    input_size: int | None = None,
    width: float | None = None,
) -> Architecture:
    """Turn what a user typed into an architecture.

    Args:
        text: a published name, the notation, or the path of an architecture.json.
        space: the space it is wanted in (a LUT's, say). A published name or a notation is built in
            it; a file must have been made for it.
        release: build it as that release does. Without space and release, it is built in the
            search space `fbnet`, whose e1 blocks keep their first 1x1, so that what is measured is
            what a LUT of that space predicts.
        head, input_size, width: in place of the published ones, where no space is given.

    Raises:
        BadRequest: it is none of these, or the file is of another space.
    """
    if text.endswith(".json"):
        if (head, input_size, width) != (None, None, None):
            raise BadRequest(f"{text} has a head, input and width of its own")
        return _read_file(Path(text), space)
    if space is None:
        keeps = release is None or release_named(release).keeps_first_1x1
        space = _published_space(
            PUBLISHED.get(text), keeps_first_1x1=keeps, input_size=input_size, width=width
        )
    if "|" in text or " " in text:
        return Architecture.parse(text, space, head=head)
    return published(text, release=release or "2020", space=space, head=head)


def _read_file(path: Path, space: SearchSpace | None) -> Architecture:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except ValueError as error:
        raise BadNotation(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadNotation(f"{path} is not an architecture: it holds no JSON object")
    try:
        architecture = Architecture.from_dict(data)
    except BadRequest as error:
        raise BadNotation(f"{path}: {error.message}", hint=error.hint) from None
    if space is not None and architecture.space != space:
        own, wanted = architecture.space.to_dict(), space.to_dict()
        differing = [name for name in own if own[name] != wanted[name]]
        raise BadRequest(
            f"{path} is an architecture of another space than is wanted:",
            details=[f"{name}: {own[name]} instead of {wanted[name]}" for name in differing],
            hint="give its notation in place of the file, and it is built in that space"
            if differing == ["keeps_first_1x1"]
            else f"profile its space: latbench profile {architecture.space.arguments}",
        )
    return architecture


def random_architectures(space: SearchSpace, count: int, *, seed: int = 0) -> list[Architecture]:
    """Return `count` architectures drawn uniformly and reproducibly from `space`."""
    rng = random.Random(seed)
    return [
        Architecture(
            space, tuple(rng.choice(CANDIDATES) for _ in space.layers), rng.choice(space.heads)
        )
        for _ in range(count)
    ]
