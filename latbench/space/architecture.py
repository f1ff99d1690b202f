"""Architectures: a candidate for each layer, as text, as ops, and as counts.

The notation has a token for each layer and '|' between stages:

    k3e1|k3e6 skip k3e1 k3e1|k5e6 k5e3 k5e6 k3e6|…

Published networks are known by name (`latbench.space.shipped`).
"""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.errors import BadNotation, BadRequest, CannotRead, UnknownName
from latbench.space.candidate import Candidate, Layer
from latbench.space.definition import PublishedNetwork, Release, SpaceFile, stage_of_notation
from latbench.space.opspec import OpSpec
from latbench.space.search_space import InputSize, SearchSpace
from latbench.space.shipped import DEFAULT_SPACE, Published, published_networks, space_file


@dataclass(frozen=True)
class Architecture:
    """One network of a search space: a candidate for each layer, and a head width.

    `channels` are those of each stage, before the space's width multiplies them; by default each first one.

    Raises:
        BadRequest: there are more or fewer choices than layers, a stage does not offer its channels, or the
            head is below 1 channel.
    """

    space: SearchSpace
    choices: tuple[Candidate, ...]
    head: int
    name: str | None = None
    channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        offered = [stage.channels for stage in self.space.definition.stages]
        if not self.channels:
            object.__setattr__(self, "channels", self.space.default_channels)
        if len(self.channels) != len(offered):
            raise BadRequest(
                f"channels must be given for {len(offered)} stages, got {self.channels}"
            )
        for number, (one, options) in enumerate(zip(self.channels, offered, strict=True), 1):
            if one not in options:
                raise BadRequest(
                    f"stage {number} of {self.space.name} must have {' or '.join(map(str, options))} "
                    f"channels, got {one}"
                )
        layers = len(self.space.layers)
        if len(self.choices) != layers:
            raise BadRequest(
                f"an architecture of {self.space.name} has {layers} layers, got {len(self.choices)}"
            )
        if self.head < 1:
            raise BadRequest(f"head must be at least 1 channel, got {self.head}")

    @classmethod
    def parse(
        cls, notation: str, space: SearchSpace, *, head: int | None = None, name: str | None = None
    ) -> "Architecture":
        """Parse the notation for a space; `head` defaults to the space's first.

        Raises:
            BadNotation: a token is not a block, or a stage has too many or too few layers.
        """
        chosen = [stage_of_notation(stage) for stage in notation.split("|")]
        stages = [tokens for _, tokens in chosen]
        layers = [stage.layers for stage in space.definition.stages]
        if [len(stage) for stage in stages] != layers:
            raise BadNotation(
                f"{notation!r} has {'+'.join(str(len(stage)) for stage in stages)} layers in its "
                f"stages, but {space.name} has {'+'.join(map(str, layers))}",
                hint="write one token for each layer and '|' between stages, "
                "or give the name of a published network",
            )
        choices = tuple(space.candidate(token) for stage in stages for token in stage)
        channels = tuple(
            default if one is None else one
            for (one, _), default in zip(chosen, space.default_channels, strict=True)
        )
        return cls(space, choices, space.heads[0] if head is None else head, name, channels)

    def __str__(self) -> str:
        return self.name or self.notation

    @property
    def notation(self) -> str:
        """The canonical notation; `parse` reads it back."""
        tokens = iter(map(str, self.choices))
        return "|".join(
            (f"{channels}: " if len(stage.channels) > 1 else "")
            + " ".join(next(tokens) for _ in range(stage.layers))
            for channels, stage in zip(self.channels, self.space.definition.stages, strict=True)
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The positions of the choices, with the architecture's channels."""
        return self.space.layers_of(self.channels)

    @property
    def head_ops(self) -> tuple[OpSpec, ...]:
        """What follows the layers, of which the classifier is the last."""
        return self.space.head_ops(self.head, self.layers[-1])

    @property
    def layer_ops(self) -> tuple[OpSpec | None, ...]:
        """The op at each searchable layer; None where a skip is the identity."""
        return tuple(map(self.space.op, self.layers, self.choices))

    @property
    def ops(self) -> tuple[OpSpec, ...]:
        """Every op in order, from stem to classifier; identities are not ops."""
        blocks = tuple(op for op in self.layer_ops if op is not None)
        return (*self.space.stem_ops, *blocks, *self.head_ops)

    @property
    def params(self) -> int:
        """Convolution and linear weights; no bias, no BN."""
        return sum(op.params for op in self.ops)

    @property
    def parameters(self) -> int:
        """All parameters: `params`, biases, and scales and shifts of BN."""
        return sum(op.parameters for op in self.ops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear layers only."""
        return sum(op.macs for op in self.ops)

    def macs_by(self, release: Release) -> int:
        """Multiply-accumulates by the counting rule of `release`."""
        pools = [op for op in self.ops if op.kind == "pool"] if release.counts_pool else []
        return self.macs + sum(math.prod(op.input_shape) for op in pools)

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
            BadNotation: a field is missing or has the wrong type.
            UnknownName, BadRequest: as `SearchSpace.named` and `parse`.
        """
        try:
            layers, head, name = data["layers"], data["head"], data.get("name")
            if not isinstance(data["space"], dict):
                raise BadNotation(f"space must be an object, got {data['space']!r}")
            if not isinstance(layers, str):
                raise BadNotation(f"layers must be text, got {layers!r}")
            if type(head) is not int:  # not True either, which is an int
                raise BadNotation(f"head must be an integer, got {head!r}")
            if name is not None and not isinstance(name, str):
                raise BadNotation(f"name must be text or null, got {name!r}")
            return cls.parse(layers, SearchSpace.from_dict(data["space"]), head=head, name=name)
        except KeyError as error:
            raise BadNotation(f"not an architecture: it has no {error}") from None


def published(
    name: str,
    *,
    release: str | None = None,
    space: SearchSpace | None = None,
    head: int | None = None,
) -> Architecture:
    """Return a published network.

    Args:
        release: which release's layers to use, and its conventions; by default the space's own.
        space: build the network in this space, by its conventions, instead of the published one.
        head: a head width in channels instead of the published one.

    Raises:
        UnknownName: the network or the release is unknown.
        BadNotation: it is no network of `space`.
    """
    found = _published(name)
    file = found.file
    rule = release_named(release, file)
    if space is None:
        space = _published_space(found, keeps_first_1x1=rule.keeps_first_1x1)
    network = found.network
    notation = layers_of(network, file, release)
    if head is None:
        head = network.head if network.head in space.heads else space.heads[0]
    try:
        return Architecture.parse(notation, space, head=head, name=name)
    except BadNotation:
        raise BadNotation(
            f"{name} is a network of the search space {file.name}, not of {space.name}",
            hint=f"see the layers and candidates with: latbench space show {space.arguments}",
        ) from None


def layers_of(network: PublishedNetwork, file: SpaceFile, release: str | None = None) -> str:
    """The notation of a network in a release, or else in the default release of its space's file."""
    if network.layers is None:
        return "|".join(
            " ".join(file.tokens_of(stage, index)[0] for index in range(stage.layers))
            for stage in file.stages
        )
    if isinstance(network.layers, str):
        return network.layers
    default = network.layers[file.release or next(iter(network.layers))]
    return network.layers.get(release or "", default)


def _published(name: str) -> Published:
    networks = published_networks()
    if name not in networks:
        raise UnknownName("architecture", name, tuple(networks))
    return networks[name]


def _published_space(
    found: Published | None,
    *,
    keeps_first_1x1: bool,
    input_size: InputSize | None = None,
    width: float | None = None,
) -> SearchSpace:
    network = found.network if found is not None else None
    if network is not None:
        input_size = network.input if input_size is None else input_size
        width = network.width if width is None else width
    return SearchSpace.named(
        DEFAULT_SPACE if found is None else found.file.name,
        input_size=input_size,
        width=1.0 if width is None else width,
        keeps_first_1x1=keeps_first_1x1,
    )


def release_named(name: str | None, file: SpaceFile | None = None) -> Release:
    """Return the release called `name`, such as '2019', of a space's file; by default that file's own.

    Raises:
        UnknownName: the release is unknown.
    """
    file = space_file(DEFAULT_SPACE) if file is None else file
    name = file.release if name is None else name
    if name is None:
        return Release()
    if name not in file.releases:
        raise UnknownName("release", name, tuple(file.releases))
    return file.releases[name]


def read_architecture(
    text: str,
    space: SearchSpace | None = None,
    *,
    release: str | None = None,
    head: int | None = None,
    input_size: InputSize | None = None,
    width: float | None = None,
) -> Architecture:
    """Return the architecture that a user named.

    Args:
        text: the name of a published network, the notation, or the path of an architecture.json.
        space: the search space to build a name or a notation in, such as a LUT's; a file must belong to it.
        release: build a published network as in that release. Without space and release, it is built in the
            default search space, whose e1 blocks keep their first 1x1, so that a measurement of it is
            comparable with the prediction of a LUT of that space.
        head, input_size, width: instead of the published ones, if no space is given.

    Raises:
        BadRequest: `text` is none of these, or the file belongs to another space.
        LatbenchError: the file cannot be read.
    """
    if text.endswith(".json"):
        if (head, input_size, width) != (None, None, None):
            raise BadRequest(
                f"--head, --input and --width do not apply to {text}, which sets them itself",
                hint="leave these options out",
            )
        return _read_file(Path(text), space)
    if space is None:
        found = published_networks().get(text)
        rule = release_named(release, None if found is None else found.file)
        space = _published_space(
            found,
            keeps_first_1x1=release is None or rule.keeps_first_1x1,
            input_size=input_size,
            width=width,
        )
    if "|" in text or " " in text:
        return Architecture.parse(text, space, head=head)
    return published(text, release=release, space=space, head=head)


def _read_file(path: Path, space: SearchSpace | None) -> Architecture:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except ValueError as error:
        raise BadNotation(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadNotation(f"{path} is not an architecture: it is not a JSON object")
    try:
        architecture = Architecture.from_dict(data)
    except BadRequest as error:
        raise BadNotation(f"{path}: {error.message}", hint=error.hint) from None
    if space is not None and architecture.space != space:
        own, expected = architecture.space.to_dict(), space.to_dict()
        differing = [name for name in own if own[name] != expected[name]]
        raise BadRequest(
            f"the architecture in {path} belongs to another search space:",
            details=[
                f"{name} is {own[name]}, must be {expected[name]}"
                for name in differing
                if name != "definition"
            ],
            hint=f"give its notation instead of the file: {architecture.notation!r}"
            if differing == ["keeps_first_1x1"]
            else f"profile its search space: latbench profile {architecture.space.arguments}",
        )
    return architecture


def random_architectures(space: SearchSpace, count: int, *, seed: int = 0) -> list[Architecture]:
    """Return `count` architectures drawn uniformly and reproducibly from `space`."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        channels = random_channels(space, rng)
        choices = tuple(rng.choice(at.candidates) for at in space.layers_of(channels))
        found.append(Architecture(space, choices, rng.choice(space.heads), channels=channels))
    return found


def random_channels(space: SearchSpace, rng: random.Random) -> tuple[int, ...]:
    """Channels of the stages, drawn uniformly where a stage offers several."""
    return tuple(
        rng.choice(stage.channels) if len(stage.channels) > 1 else stage.channels[0]
        for stage in space.definition.stages
    )
