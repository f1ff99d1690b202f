"""A search space at one input, width and number of classes: its layers, and the op of each choice."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, product
from pathlib import Path
from typing import Any

from latbench.errors import BadNotation, BadRequest, CannotRead, UnknownName
from latbench.space.candidate import Candidate, Layer
from latbench.space.channels import scaled_channels
from latbench.space.definition import (
    LARGEST,
    MOST_CHANNELS,
    Problem,
    PublishedNetwork,
    SpaceDefinition,
    SpaceFile,
    Stage,
    definition_of,
    read_definition,
)
from latbench.space.families.classifier import Classifier, Hidden, Pool
from latbench.space.families.conv import Head, Stem
from latbench.space.families.skip import Skip
from latbench.space.opspec import OpSpec, after_stride
from latbench.space.shipped import DEFAULT_SPACE, networks_of, space_file, space_names

#: Width multipliers of the literature; any in (0, 2] is accepted.
WIDTHS = (1.0, 0.75, 0.5, 0.35)

#: The height and width of an input in pixels; one number is both.
InputSize = int | tuple[int, int]


def size_text(height: int, width: int) -> str:
    """A size as it is printed, and as --input takes it: 224x224."""
    return f"{height}x{width}"


@dataclass(frozen=True)
class SearchSpace:
    """A search space: its definition at one input, width and number of classes.

    Attributes:
        definition: what its file says.
        input_height, input_width, input_channels: of the images, pixels.
        width: multiplies the channels.
        classes: the number of outputs.
        keeps_first_1x1: whether a block of expansion 1 keeps its first 1x1 convolution or starts with the
            depthwise one.
        batch: the number of images that run together.
        networks: published networks of it by name, which are no part of its identity.
        path: the file it was read from; "" if it is shipped, or came with a LUT or an architecture.
    """

    definition: SpaceDefinition
    input_height: int
    input_width: int
    width: float
    classes: int
    keeps_first_1x1: bool = True
    input_channels: int = 3
    batch: int = 1
    networks: Mapping[str, PublishedNetwork] = field(default_factory=dict, compare=False)
    path: str = field(default="", compare=False)

    @classmethod
    def named(
        cls,
        name: str = DEFAULT_SPACE,
        *,
        input_size: InputSize | None = None,
        width: float = 1.0,
        classes: int | None = None,
        keeps_first_1x1: bool = True,
        channels: int | None = None,
        batch: int = 1,
    ) -> "SearchSpace":
        """Return the shipped space called `name`, or that of a space file.

        Args:
            name: a name; the path of a .toml file; or that of a LUT or an architecture (.json), whose space's
                definition is taken.
            input_size, classes, channels: instead of the space's own; pixels, outputs, input channels.
            width: multiplier of the channels.
            keeps_first_1x1: whether blocks of expansion 1 keep their first 1x1 convolution.
            batch: number of images that run together.

        Raises:
            UnknownName: no shipped space has this name.
            CannotRead: the file cannot be read.
            BadRequest: the file has mistakes, all of which are listed; or an argument is out of range.
        """
        options = (input_size, width, classes, keeps_first_1x1, channels, batch)
        if name.endswith(".toml"):
            file = read_space_file(Path(name))
            return cls._of(file.definition, *options, networks=networks_of(file), path=name)
        if name.endswith(".json"):
            definition = definition_of(_carried(Path(name)))
            networks = _known_networks(definition)
            return cls._of(definition, *options, networks=networks, path=name)
        try:
            file = space_file(name)
        except UnknownName as error:
            hint = f"{error.hint} (a file of your own: ./{name}.toml)"
            raise UnknownName("search space", name, space_names(), hint=hint) from None
        return cls._of(file.definition, *options, networks=networks_of(file))

    @classmethod
    def of(cls, definition: SpaceDefinition, **options: Any) -> "SearchSpace":
        """Return the space of a definition; `options` as for `named`.

        Raises:
            BadRequest: an argument is out of range.
        """
        names = ("input_size", "width", "classes", "keeps_first_1x1", "channels", "batch")
        defaults = {"width": 1.0, "keeps_first_1x1": True, "batch": 1}
        given = [options.pop(name, defaults.get(name)) for name in names]
        return cls._of(definition, *given, **options)

    @classmethod
    def _of(
        cls,
        definition: SpaceDefinition,
        input_size: InputSize | None,
        width: float,
        classes: int | None,
        keeps_first_1x1: bool,
        channels: int | None,
        batch: int,
        networks: Mapping[str, PublishedNetwork] | None = None,
        path: str = "",
    ) -> "SearchSpace":
        size = definition.input.size if input_size is None else input_size
        height, across = (size, size) if isinstance(size, int) else size
        multiple = definition.input.multiple
        if any(not multiple <= side <= LARGEST or side % multiple for side in (height, across)):
            common = (definition.input.size, *definition.input.others)
            raise BadRequest(
                f"input must be a multiple of {multiple} up to {LARGEST} in the space "
                f"{definition.name}, got {height if height == across else size_text(height, across)}",
                hint="common sizes: "
                + ", ".join(str(h) if h == w else size_text(h, w) for h, w in common),
            )
        if not 0 < width <= 2:
            raise BadRequest(
                f"width must be above 0 and at most 2, got {width:g}",
                hint=f"common widths: {', '.join(map(str, WIDTHS))}",
            )
        count = definition.classes if classes is None else classes
        of_input = definition.input.channels if channels is None else channels
        for what, number in (("classes", count), ("channels", of_input), ("batch", batch)):
            if not 1 <= number <= MOST_CHANNELS:
                raise BadRequest(f"{what} must be at least 1, got {number}")
        return cls(
            definition, height, across, width, count, keeps_first_1x1, of_input, batch,
            networks or {}, path,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The name of the space."""
        return self.definition.name

    def __str__(self) -> str:
        channels = "" if self.input_channels == 3 else f"x{self.input_channels}"
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.name} at {self.size}{channels}, width {self.width:g}{batch}"

    @property
    def size(self) -> str:
        """The size of the input as text: 224x224."""
        return size_text(self.input_height, self.input_width)

    @property
    def input_size(self) -> int:
        """The height and width of a square input, pixels.

        Raises:
            BadRequest: the input is not square.
        """
        if self.input_height != self.input_width:
            raise BadRequest(
                f"the input of the space {self.name} is {self.size}, and must be square for this"
            )
        return self.input_height

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON data, definition included; `from_dict` reads it back."""
        square = self.input_height == self.input_width
        return {
            "name": self.name,
            "input": self.input_height if square else [self.input_height, self.input_width],
            "channels": self.input_channels,
            "batch": self.batch,
            "width": self.width,
            "classes": self.classes,
            "keeps_first_1x1": self.keeps_first_1x1,
            "definition": self.definition.content(),
            "sha256": self.definition.sha256,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SearchSpace":
        """Read what `to_dict` wrote. Without a definition, the shipped space of that name is meant.

        Raises:
            KeyError: a field is missing.
            BadRequest: a field has the wrong type, the hash does not match, or as `named`.
        """
        name, size, width = data["name"], data["input"], data["width"]
        classes, keeps = data["classes"], data["keeps_first_1x1"]
        channels, batch = data.get("channels"), data.get("batch", 1)
        # Exact types: True is an int, and neither is a number in a file.
        if not isinstance(name, str):
            raise BadRequest(f"space.name must be text, got {name!r}")
        if isinstance(size, list | tuple) and len(size) == 2 and all(type(s) is int for s in size):
            size = (size[0], size[1])
        elif type(size) is not int:
            raise BadRequest(f"space.input must be an integer, got {size!r}")
        if type(width) is not float and type(width) is not int:
            raise BadRequest(f"space.width must be a number, got {width!r}")
        if type(classes) is not int:
            raise BadRequest(f"space.classes must be an integer, got {classes!r}")
        if type(batch) is not int or (channels is not None and type(channels) is not int):
            raise BadRequest(
                f"space.batch and channels must be integers, got {batch!r}, {channels!r}"
            )
        if type(keeps) is not bool:
            raise BadRequest(f"space.keeps_first_1x1 must be true or false, got {keeps!r}")
        options = (size, float(width), classes, keeps, channels, batch)
        if "definition" not in data:
            file = space_file(name)
            return cls._of(file.definition, *options, networks=networks_of(file))
        definition = definition_of(data["definition"])
        if data.get("sha256") != definition.sha256 or name != definition.name:
            raise BadRequest("space.sha256 or name does not match the definition: it was edited")
        return cls._of(definition, *options, networks=_known_networks(definition))

    @property
    def shipped(self) -> bool:
        """Whether a shipped space has this definition."""
        return self.name in space_names() and space_file(self.name).definition == self.definition

    @property
    def arguments(self) -> str:
        """The command-line options that select this space."""
        square = self.input_height == self.input_width
        words = [
            "--space",
            self.path or (self.name if self.shipped else f"{self.name}.toml"),
            "--input",
            str(self.input_height) if square else self.size,
            "--width",
            f"{self.width:g}",
        ]
        if self.input_channels != self.definition.input.channels:
            words += ["--channels", str(self.input_channels)]
        if self.batch > 1:
            words += ["--batch", str(self.batch)]
        if self.classes != self.definition.classes:
            words += ["--classes", str(self.classes)]
        if not self.keeps_first_1x1:
            words.append("--drop-first-1x1")
        return " ".join(words)

    @property
    def heads(self) -> tuple[int, ...]:
        """The head widths of networks of this space, in channels; the first is the default.

        A width below 1 does not narrow the head, as in MobileNetV2; a width above 1 scales it.
        """
        if not self.definition.head.channels:
            return (self.layers[-1].out_channels,)
        factor = max(1.0, self.width)
        return tuple(self._scaled(head, factor) for head in self.definition.head.channels)

    def _scaled(self, channels: int, factor: float) -> int:
        return channels if factor == 1 else scaled_channels(channels, factor)

    @property
    def stem(self) -> Stem:
        """The first convolution."""
        stem = self.definition.stem
        return Stem(
            in_channels=self.input_channels,
            out_channels=self._scaled(stem.channels, self.width),
            height=self.input_height,
            width=self.input_width,
            kernel=stem.kernel,
            stride=stem.stride,
            activation=stem.activation,
            batch=self.batch,
        )

    @cached_property
    def stem_ops(self) -> tuple[OpSpec, ...]:
        """What precedes the layers: the first convolution, and the blocks that every network has.

        Raises:
            BadNotation: a block does not fit.
        """
        ops: list[OpSpec] = [self.stem]
        for fixed in self.definition.stem.blocks:
            _, channels, height, width = ops[-1].output_shape
            out_channels = self._scaled(fixed.channels, self.width)
            candidate = self.candidate(fixed.block)
            where = Layer(
                -1, len(ops) - 1, channels, out_channels, fixed.stride, height, width, self.batch,
                (candidate,),
            )  # fmt: skip
            op = self._op_of(where, fixed.settings, candidate)
            ops += [op] if op is not None else []
        return tuple(ops)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The searchable positions, first to last; with the default channels where a stage offers several."""
        return self.layers_of(self.default_channels)

    @property
    def default_channels(self) -> tuple[int, ...]:
        """The default channels of each stage, before the width multiplies them."""
        return tuple(stage.channels[0] for stage in self.definition.stages)

    @property
    def has_channel_choices(self) -> bool:
        """Whether some stage offers several numbers of channels."""
        return any(len(stage.channels) > 1 for stage in self.definition.stages)

    def layers_of(self, channels: Sequence[int]) -> tuple[Layer, ...]:
        """The searchable positions with these channels of the stages, before the width multiplies them."""
        chosen = tuple(channels)
        if chosen not in self._walked:
            alone = [(one,) for one in chosen]
            self._walked[chosen] = tuple(self._walk_layers(alone))
        return self._walked[chosen]

    @cached_property
    def _walked(self) -> dict[tuple[int, ...], tuple[Layer, ...]]:
        return {}

    @cached_property
    def variants(self) -> tuple[Layer, ...]:
        """The searchable positions with every pair of input and output channels that can occur."""
        return tuple(self._walk_layers([stage.channels for stage in self.definition.stages]))

    def _walk_layers(self, offered: Sequence[Sequence[int]]) -> Iterator[Layer]:
        _, first, height, width = self.stem_ops[-1].output_shape
        before = [first]
        for number, (stage, options) in enumerate(
            zip(self.definition.stages, offered, strict=True)
        ):
            after = [self._scaled(channels, self.width) for channels in options]
            for index in range(stage.layers):
                stride = stage.stride if index == 0 else 1
                pairs = [(one, one) for one in after] if index else product(before, after)
                for channels, out_channels in dict.fromkeys(pairs):
                    keeps_shape = stride == 1 and channels == out_channels
                    candidates = self._candidates(stage, index, keeps_shape)
                    yield Layer(
                        number, index, channels, out_channels, stride, height, width, self.batch,
                        candidates,
                    )  # fmt: skip
                height, width = after_stride(height, stride), after_stride(width, stride)
            before = after

    def _candidates(self, stage: Stage, index: int, keeps_shape: bool) -> tuple[Candidate, ...]:
        allowed = map(self.candidate, self.definition.tokens_of(stage, index))
        may_skip = keeps_shape or self.definition.skip_projection
        may_skip = may_skip and index >= stage.unskipped
        return tuple(one for one in allowed if may_skip or not isinstance(one, Skip))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every candidate of some layer, once, in the order of the definition."""
        known = dict.fromkeys(map(self.candidate, self.definition.candidates))
        used = dict.fromkeys(one for layer in self.variants for one in layer.candidates)
        return (*(one for one in known if one in used), *(one for one in used if one not in known))

    def candidate(self, token: str) -> Candidate:
        """The candidate that a token of the notation means; it need not be one of a layer's.

        Raises:
            BadNotation: it means none.
        """
        if token not in self._parsed:
            self._parsed[token] = self.definition.candidate(token)
        return self._parsed[token]

    @cached_property
    def _parsed(self) -> dict[str, Candidate]:
        return {}

    @cached_property
    def _ops(self) -> dict[tuple[int, int, int, int, Candidate], OpSpec | None]:
        return {}

    def op(self, layer: Layer, candidate: Candidate) -> OpSpec | None:
        """The op of `candidate` at `layer`; None for a skip that is the identity.

        Raises:
            BadNotation: it does not fit there.
        """
        where = layer.stage, layer.index, layer.in_channels, layer.out_channels, candidate
        if where not in self._ops:
            settings = self.definition.stages[layer.stage].settings
            self._ops[where] = self._op_of(layer, settings, candidate)
        return self._ops[where]

    def _op_of(
        self, layer: Layer, settings: Mapping[str, Any], candidate: Candidate
    ) -> OpSpec | None:
        given = {"keeps_first_1x1": self.keeps_first_1x1, **settings}
        try:
            return candidate.settled(given).op(layer)
        except ValueError as error:
            stage = "the stem" if layer.stage < 0 else f"stage {layer.stage + 1}"
            raise BadNotation(f"{candidate} does not fit {stage} of {self.name}: {error}") from None

    def head_ops(self, head: int | None = None, last: Layer | None = None) -> tuple[OpSpec, ...]:
        """What follows the layers, of which the classifier is the last.

        Args:
            head: channels of the head's convolution, by default the space's first.
            last: the last layer, by default that with the default channels.
        """
        last = self.layers[-1] if last is None else last
        channels = self.heads[0] if head is None else head
        if not self.definition.head.channels:
            channels = last.out_channels
        size = {
            "height": after_stride(last.height, last.stride),
            "width": after_stride(last.width, last.stride),
            "batch": self.batch,
        }
        definition, ops = self.definition.head, list[OpSpec]()
        if definition.channels:
            shape = {"in_channels": last.out_channels, "out_channels": channels, **size}
            ops.append(Head(**shape, activation=definition.activation))
        ops.append(Pool(in_channels=channels, **size))
        if definition.hidden is not None:
            shape = {
                "in_channels": channels,
                "out_channels": definition.hidden,
                "batch": self.batch,
            }
            ops.append(
                Hidden(**shape, norm=definition.hidden_norm, activation=definition.activation)
            )
            channels = definition.hidden
        ops.append(Classifier(in_channels=channels, out_channels=self.classes, batch=self.batch))
        return tuple(ops)

    @cached_property
    def unique_ops(self) -> tuple[OpSpec, ...]:
        """Every op that a network of this space can contain, once, in network order."""
        ops: list[OpSpec] = [*self.stem_ops]
        for layer in self.variants:
            ops += [op for one in layer.candidates if (op := self.op(layer, one))]
        stages = len(self.definition.stages) - 1, self.definition.stages[-1].layers - 1
        ends = [layer for layer in self.variants if (layer.stage, layer.index) == stages]
        for head in self.heads:
            for layer in ends:
                ops += self.head_ops(head, layer)
        return tuple(dict.fromkeys(ops))

    @property
    def unique_blocks(self) -> tuple[OpSpec, ...]:
        """The searchable blocks among `unique_ops`; skips are not blocks."""
        return tuple(op for op in self.unique_ops if op.is_block)

    @property
    def network_count(self) -> int:
        """The number of networks with the default head."""
        ways = {self.stem_ops[-1].out_channels: 1}
        for _, layers in groupby(self.variants, lambda layer: (layer.stage, layer.index)):
            after: Counter[int] = Counter()
            for layer in layers:
                after[layer.out_channels] += ways[layer.in_channels] * len(layer.candidates)
            ways = after
        return sum(ways.values())

    def at(self, **changes: Any) -> "SearchSpace":
        """This space with other values of its fields; `input_size` sets height and width, pixels."""
        if "input_size" in changes:
            size = changes.pop("input_size")
            changes |= {"input_height": size, "input_width": size}
        return replace(self, **changes)


def _known_networks(definition: SpaceDefinition) -> dict[str, PublishedNetwork]:
    """The published networks of a definition that came without its file."""
    if definition.name not in space_names():
        return {}
    file = space_file(definition.name)
    return networks_of(file) if file.definition == definition else {}


def _carried(path: Path) -> Any:
    """The definition of a space in a LUT or an architecture."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except ValueError as error:
        raise BadNotation(f"{path} is not JSON: {error}") from None
    space = data.get("space") if isinstance(data, dict) else None
    if not isinstance(space, dict) or "name" not in space:
        raise BadNotation(
            f"{path} holds no search space", hint="give a LUT or an architecture.json"
        )
    if "definition" not in space:
        return space_file(str(space["name"])).definition.content()
    return space["definition"]


def check_space_file(path: Path) -> tuple[SpaceFile | None, list[str]]:
    """Read a space file; return it, None if it has mistakes, and every mistake as a line of text.

    Raises:
        CannotRead: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotRead.because(path, error) from None
    except UnicodeDecodeError:
        raise CannotRead(f"{path} is not a search space: it is not UTF-8 text") from None
    file, problems, lines = read_definition(text)
    if file is not None:
        problems = list(dict.fromkeys(_misfits(file)))
    problems.sort(key=lambda problem: problem.line(lines))
    return (None if problems else file), [problem.located(lines) for problem in problems]


def _misfits(file: SpaceFile) -> Iterator[Problem]:
    """Candidates that do not fit where they stand."""
    if file.networks_of is not None and file.networks_of not in space_names():
        yield Problem(("networks_of",), "is no shipped space", f"known: {', '.join(space_names())}")
        return
    space = SearchSpace.of(file.definition)
    try:
        space.stem_ops  # noqa: B018
    except BadNotation as error:
        what = f"has a block that does not fit: {error.message}"
        yield Problem(("stem", "blocks"), what, "change its channels, or take another block")
        return
    for layer in space.variants:
        where = ("stages", layer.stage)
        if not layer.candidates:
            what = "has a layer that may only be skipped, and must not be"
            remedy = (
                "give it another candidate, or write skip_projection = true where the shape changes"
            )
            yield Problem(where, what, remedy)
        for candidate in layer.candidates:
            try:
                space.op(layer, candidate)
            except BadNotation as error:
                what = f"has a block that does not fit: {error.message}"
                yield Problem(where, what, "change its channels, or leave the block out")


def read_space_file(path: Path) -> SpaceFile:
    """Read a space file.

    Raises:
        CannotRead: the file cannot be read.
        BadRequest: it has mistakes, all of which are listed.
    """
    file, mistakes = check_space_file(path)
    if file is None:
        raise BadRequest(
            f"{path} is not a search space:",
            details=mistakes,
            hint=f"correct it, then: latbench space check {path}",
        )
    return file
