"""What a space file holds: everything that is particular to a search space, as data.

`latbench/space/spaces` has the files of the shipped spaces. A LUT carries the definition of its space, so it
can be used where the file is missing. Reading a definition runs no code.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_serializer

from latbench.errors import BadNotation
from latbench.files import sha256_of
from latbench.record import Integer, PositiveNumber, Record
from latbench.space.candidate import FAMILIES, Candidate, OddKernel, parse_token
from latbench.space.opspec import Activation
from latbench.space.toml_lines import Path, lines_of
from latbench.wording import count_of

#: The largest input, pixels, and the most channels of a layer.
LARGEST, MOST_CHANNELS = 2048, 99999

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+([-_.][a-z0-9]+)*$", max_length=60)]
Channels = Annotated[Integer, Field(ge=1, le=MOST_CHANNELS)]
Stride = Annotated[Integer, Field(ge=1, le=9)]
_Pixels = Annotated[Integer, Field(ge=1, le=LARGEST)]


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, int) else value


def _sized(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"size": value}


def _headed(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"channels": value}


#: Height and width in pixels; one number is both.
Size = Annotated[tuple[_Pixels, _Pixels], BeforeValidator(_pair)]


class Input(Record):
    """The images: their channels, and their size by default.

    `others` are further sizes that are common; a size must be a multiple of `multiple`.
    """

    channels: Channels = 3
    size: Size
    others: tuple[Size, ...] = ()
    multiple: Integer = Field(default=1, ge=1, le=1024)


class FixedBlock(Record):
    """A block that every network has; further keys are settings of its family."""

    model_config = ConfigDict(frozen=True, extra="allow")

    block: str
    channels: Channels
    stride: Stride = 1

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the family."""
        return dict(self.model_extra or {})


class StemDefinition(Record):
    """The first convolution, and blocks between it and the layers."""

    channels: Channels
    kernel: OddKernel = 3
    stride: Stride = 1
    activation: Activation = Activation.RELU
    blocks: tuple[FixedBlock, ...] = ()


class Stage(Record):
    """Layers of equal channels; the first has the stride.

    Attributes:
        channels: of all layers of the stage; of several, a network has one, the default first.
        candidates: what each layer may be, instead of the space's; `first` is for the first layer only.
        unskipped: how many layers, from the first, must not be skipped.

    Further keys are settings of the candidates' families, such as `activation`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    channels: Annotated[tuple[Channels, ...], BeforeValidator(_several), Field(min_length=1)]
    layers: Integer = Field(ge=1, le=99)
    stride: Stride = 1
    candidates: tuple[str, ...] | None = None
    first: tuple[str, ...] | None = None
    unskipped: Integer = Field(default=0, ge=0, le=99)

    @field_serializer("channels")
    def _as_written(self, channels: tuple[int, ...]) -> int | list[int]:
        return channels[0] if len(channels) == 1 else list(channels)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the families."""
        return dict(self.model_extra or {})


class HeadDefinition(Record):
    """What follows the layers: a 1x1 convolution, the pool, a hidden linear layer, the classifier.

    Attributes:
        channels: of the convolution, one of which a network has, the default first; without any, the pool
            follows the layers.
        hidden: channels of the hidden layer; without, the classifier follows the pool.
        hidden_norm: whether the hidden layer has a BN instead of a bias.
        activation: of convolution and hidden layer.
    """

    channels: Annotated[tuple[Channels, ...], BeforeValidator(_several)] = ()
    hidden: Channels | None = None
    hidden_norm: bool = False
    activation: Activation = Activation.RELU


class SentinelDefinition(Record):
    """The network that runs watch the device with."""

    name: Name
    layers: str


class SpaceDefinition(Record):
    """A search space, before an input size, a width and a number of classes are chosen.

    Attributes:
        candidates: what each layer may be, as tokens or names of `blocks`.
        blocks: candidates with a name of their own: a family and its fields.
        skip_projection: whether a skip may also stand where the shape changes, as a 1x1 convolution.
        sentinel: without one, a network of average size is chosen.
    """

    name: Name
    classes: Integer = Field(ge=1, le=MOST_CHANNELS)
    input: Annotated[Input, BeforeValidator(_sized)]
    stem: StemDefinition
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=99)
    candidates: tuple[str, ...] = ()
    blocks: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    head: Annotated[HeadDefinition, BeforeValidator(_headed)]
    skip_projection: bool = False
    sentinel: SentinelDefinition | None = None

    def __hash__(self) -> int:
        return hash(self.sha256)

    def content(self) -> dict[str, Any]:
        """The definition as JSON data, without what is left at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def sha256(self) -> str:
        """The SHA-256 of `content` as compact JSON with sorted keys."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return sha256_of(text.encode())

    def candidate(self, token: str) -> Candidate:
        """The candidate that a token or a name of `blocks` means.

        Raises:
            BadNotation: it means none.
            ValidationError: the fields of the block of that name are invalid.
        """
        given = self.blocks.get(token)
        if given is None:
            return parse_token(token)
        fields = {name: value for name, value in given.items() if name != "family"}
        return FAMILIES[given["family"]].model_validate(fields | {"name": token})

    def tokens_of(self, stage: Stage, index: int) -> tuple[str, ...]:
        """The tokens of the layer `index` of a stage."""
        of_stage = self.candidates if stage.candidates is None else stage.candidates
        return stage.first if index == 0 and stage.first is not None else of_stage


def stage_of_notation(text: str) -> tuple[int | None, list[str]]:
    """The channels that a stage of the notation chooses, None if it says nothing, and its tokens.

    `48: k3e6 skip` chooses 48 channels.
    """
    match = re.match(r"\s*([1-9]\d*):", text)
    return (None, text.split()) if match is None else (int(match[1]), text[match.end() :].split())


class Release(Record):
    """The conventions of one release of published networks.

    Attributes:
        keeps_first_1x1: whether blocks of expansion 1 keep their first 1x1 convolution.
        counts_pool: whether each input element of the global average pool counts as one MAC.
        counts_weights: whether parameters are convolution and linear weights alone, without biases and BN.
    """

    keeps_first_1x1: bool = True
    counts_pool: bool = False
    counts_weights: bool = False


class PublishedNetwork(Record):
    """A published network: its layers, for each release where they differ, and its published shape.

    Without `layers`, every layer takes its first candidate. `also` are other names of the network.

    `transcription` means that third parties read the layers off a figure of the paper: there is no official
    file, and the head is an assumption.
    """

    layers: str | dict[str, str] | None = None
    head: Channels | None = None
    input: Size | None = None
    width: PositiveNumber = 1.0
    transcription: bool = False
    also: tuple[str, ...] = ()


class SpaceFile(SpaceDefinition):
    """A space file: the definition of a space, and published networks of it.

    Attributes:
        networks: networks by name.
        networks_of: another shipped space, whose networks fit too.
        releases: conventions by the name of the release.
        release: the release that is used unless another is named.
    """

    networks: dict[str, PublishedNetwork] = Field(default_factory=dict)
    networks_of: Name | None = None
    releases: dict[str, Release] = Field(default_factory=dict)
    release: str | None = None

    @property
    def definition(self) -> SpaceDefinition:
        """The space alone."""
        names = SpaceDefinition.model_fields
        return SpaceDefinition.model_construct(
            _fields_set=self.model_fields_set & names.keys(),
            **{name: getattr(self, name) for name in names},
        )


# What is wrong with a file


@dataclass(frozen=True)
class Problem:
    """One mistake in a space file: where, what, and what to write instead."""

    where: Path
    what: str
    remedy: str

    def located(self, lines: Mapping[Path, int]) -> str:
        """The problem as one line of text, with the line of the file."""
        number = self.line(lines)
        line = f"line {number}: " if number else ""
        return f"{line}{_shown(self.where)} {self.what}; {self.remedy}"

    def line(self, lines: Mapping[Path, int]) -> int:
        """The line of the innermost key around it; 0 if there is none."""
        path = self.where
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 0)


def _shown(path: Path) -> str:
    """stages[2].stride, counted from 1 as people do; the file as a whole if the path is empty."""
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the file"


def read_definition(text: str) -> tuple[SpaceFile | None, list[Problem], dict[Path, int]]:
    """Read the text of a space file.

    Returns:
        the file, None if it has problems; the problems, all of them; and the lines of its keys.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = f"is not TOML: {error}"
        return None, [Problem((), what, "see https://toml.io for its rules")], {}
    lines = lines_of(text)
    file, problems = _validated(data)
    if file is not None:
        broken = [problem.where for problem in problems]
        others = (*_problems(file), *_problems_of_networks(file))
        problems += [one for one in others if not any(_overlap(one.where, path) for path in broken)]
    return (None if problems else file), problems, lines


def _overlap(one: Path, other: Path) -> bool:
    """Whether one of two places is inside the other."""
    return all(here == there for here, there in zip(one, other, strict=False))


#: How often a file is repaired to find what else is wrong; a repair may show mistakes that it hid.
_REPAIRS = 5


def _validated(data: dict[str, Any]) -> tuple[SpaceFile | None, list[Problem]]:
    """The file with its mistakes of form repaired, so that others can be found; and these mistakes."""
    problems: list[Problem] = []
    for _ in range(_REPAIRS):
        try:
            return SpaceFile.model_validate(data), list(dict.fromkeys(problems))
        except ValidationError as error:
            errors = error.errors()
        paths = [tuple(one["loc"]) for one in errors]
        for one, path in zip(errors, paths, strict=True):
            # A list is also called too short if all of its elements are wrong.
            if not any(other != path and other[: len(path)] == path for other in paths):
                problems.append(_problem_of(one))
                data = _repaired(data, path, one["type"] != "extra_forbidden")
    return None, list(dict.fromkeys(problems))


def _repaired(value: Any, path: Path, known: bool) -> Any:
    """A copy of `value` with an example in place of what is wrong at `path`; an unknown key is left out."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    inner = value.get(first) if rest and isinstance(value, Mapping) else None
    short = isinstance(inner, list) and isinstance(rest[0], int) and rest[0] >= len(inner)
    if isinstance(inner, dict | list) and not short:
        return {**value, first: _repaired(inner, rest, known)}
    if isinstance(value, list) and isinstance(first, int) and first < len(value):
        return [*value[:first], _repaired(value[first], rest, known), *value[first + 1 :]]
    if not isinstance(value, Mapping):
        return value
    without = {name: one for name, one in value.items() if name != first}
    example = _EXAMPLES.get(str(first), "") if known else ""
    return without | tomllib.loads(example)


def definition_of(content: Any) -> SpaceDefinition:
    """Read what `SpaceDefinition.content` gave, such as a LUT's.

    Raises:
        BadNotation: it is no definition; the message has the first problem.
    """
    try:
        found = SpaceDefinition.model_validate(content)
        problems = list(_problems(found))
    except ValidationError as error:
        problems = [_problem_of(one) for one in error.errors()]
    if problems:
        raise BadNotation(f"space.definition: {problems[0].located({})}")
    return found


def _problems(definition: SpaceDefinition) -> Iterator[Problem]:
    yield from _problems_of_blocks(definition)
    for number, fixed in enumerate(definition.stem.blocks):
        yield from _problems_of_fixed(definition, fixed, ("stem", "blocks", number))
    yield from _problems_of_tokens(definition)
    if definition.sentinel is not None:
        path: Path = ("sentinel", "layers")
        yield from _problems_of_notation(definition, path, definition.sentinel.layers)


def _problems_of_fixed(file: SpaceDefinition, fixed: FixedBlock, path: Path) -> Iterator[Problem]:
    candidate = _parsed(file, fixed.block)
    if candidate is None:
        yield Problem((*path, "block"), f"{fixed.block!r} is no block", 'write block = "k3e1"')
        return
    known = (*FixedBlock.model_fields, *type(candidate).model_fields)
    for name in fixed.settings:
        if name not in known:
            yield _unknown_key((*path, name), known)
    try:
        candidate.settled(fixed.settings)
    except ValidationError as error:
        for wrong in error.errors():
            yield _problem_of(wrong, path)


#: What to write for a key that is missing or wrong.
_EXAMPLES = {
    "name": 'name = "my-space"',
    "classes": "classes = 1000",
    "input": "input = 224",
    "size": "size = 224",
    "stem": "stem = { channels = 16, stride = 2 }",
    "stages": "stages = [{ channels = 24, layers = 4, stride = 2 }]",
    "channels": "channels = 24",
    "layers": "layers = 4",
    "stride": "stride = 2",
    "kernel": "kernel = 3",
    "head": "head = 1280",
    "candidates": 'candidates = ["k3e3", "k3e6", "skip"]',
    "family": 'family = "inverted-residual"',
    "activation": 'activation = "hswish"',
    "expansion": "expansion = 6",
}

_TABLES: dict[str, type[Record]] = {
    "input": Input,
    "stem": StemDefinition,
    "head": HeadDefinition,
    "sentinel": SentinelDefinition,
}


def _example(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    example = _EXAMPLES.get(names[-1]) if names else None
    return f"write for example: {example}" if example else "see the page 'Your own space'"


def _problem_of(error: Mapping[str, Any], before: Path = ()) -> Problem:
    """One of pydantic's errors in our words."""
    path: Path = (*before, *error["loc"])
    if path[-2:-1] == ("channels",):  # one of several; most have one only
        path = path[:-1]
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    match kind:
        case "missing":
            return Problem(path, "is missing", _example(path))
        case "extra_forbidden":
            table = _TABLES.get(str(path[0]), SpaceFile) if len(path) == 2 else SpaceFile
            return _unknown_key(path, table.model_fields)
        case "greater_than_equal":
            what = f"must be at least {context['ge']}, got {given}"
        case "greater_than":
            what = f"must be above {context['gt']}, got {given}"
        case "less_than_equal":
            what = f"must be at most {context['le']}, got {given}"
        case "int_type":
            what = f"must be an integer, got {given!r}"
        case "float_type":
            what = f"must be a number, got {given!r}"
        case "string_type":
            what = f"must be text, got {given!r}"
        case "too_long" | "too_short":
            most = context.get("max_length", context.get("min_length"))
            bound = "at most" if kind == "too_long" else "at least"
            what = f"must have {bound} {count_of(most, 'value')}, got {given!r}"
        case "tuple_type" | "list_type":
            what = f"must be a list, got {given!r}"
        case "dict_type" | "model_type":
            what = f"must be a table, got {given!r}"
        case "enum" | "literal_error":
            what = f"must be {context['expected']}, got {given!r}"
        case "string_pattern_mismatch":
            what = f"must be lower-case letters and digits, joined by - or _, got {given!r}"
        case "value_error":
            what = str(context["error"])
        case _:
            what = f"is wrong: {error['msg']}"
    return Problem(path, what, _example(path))


def _unknown_key(path: Path, known: Iterable[str]) -> Problem:
    near = difflib.get_close_matches(str(path[-1]), list(known), n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return Problem(path, "is no key here", remedy)


def _problems_of_blocks(file: SpaceDefinition) -> Iterator[Problem]:
    for name, fields in file.blocks.items():
        path: Path = ("blocks", name)
        family = fields.get("family")
        if family not in FAMILIES:
            what = "is missing" if family is None else f"is unknown: {family!r}"
            yield Problem((*path, "family"), what, f"families are {', '.join(sorted(FAMILIES))}")
            continue
        try:
            parse_token(name)
        except BadNotation:
            pass
        else:
            yield Problem(path, "is the name of a block already", "choose another name")
        try:
            file.candidate(name)
        except ValidationError as error:
            for one in error.errors():
                if one["type"] == "extra_forbidden":
                    yield _unknown_key((*path, *one["loc"]), FAMILIES[family].model_fields)
                else:
                    yield _problem_of(one, path)


def _problems_of_tokens(file: SpaceDefinition) -> Iterator[Problem]:
    lists: list[tuple[Path, tuple[str, ...]]] = [(("candidates",), file.candidates)]
    for number, stage in enumerate(file.stages):
        of_stage: Path = ("stages", number)
        lists += [
            ((*of_stage, "candidates"), stage.candidates or ()),
            ((*of_stage, "first"), stage.first or ()),
        ]
        if not file.tokens_of(stage, 0) or not file.tokens_of(stage, 1):
            remedy = f"{_example(('candidates',))}, in the stage or at the top for all stages"
            yield Problem(of_stage, "has no candidates", remedy)
        yield from _problems_of_settings(file, stage, of_stage)
    for path, tokens in lists:
        for number, token in enumerate(tokens):
            if token in tokens[:number]:
                yield Problem((*path, number), f"{token!r} is there twice", "leave one out")
            elif _parsed(file, token) is None and token not in file.blocks:
                examples = ", ".join(family.example for family in FAMILIES.values())
                yield Problem(
                    (*path, number),
                    f"{token!r} is no block",
                    f"write a block like {examples}, or define [blocks.{token}]",
                )


def _parsed(file: SpaceDefinition, token: str) -> Candidate | None:
    try:
        return file.candidate(token)
    except (BadNotation, ValidationError, KeyError):
        return None


def _problems_of_settings(file: SpaceDefinition, stage: Stage, path: Path) -> Iterator[Problem]:
    tokens = dict.fromkeys((*file.tokens_of(stage, 0), *file.tokens_of(stage, 1)))
    candidates = [one for token in tokens if (one := _parsed(file, token)) is not None]
    fields = dict.fromkeys(
        name for one in candidates for name in type(one).model_fields if name != "name"
    )
    for name in stage.settings:
        if name not in fields:
            yield _unknown_key((*path, name), (*Stage.model_fields, *fields))
    for one in candidates:
        try:
            one.settled(stage.settings)
        except ValidationError as error:
            for wrong in error.errors():
                yield _problem_of(wrong, path)
            return


def _problems_of_networks(file: SpaceFile) -> Iterator[Problem]:
    for name, network in file.networks.items():
        path: Path = ("networks", name, "layers")
        if network.layers is None:
            continue
        if isinstance(network.layers, str):
            yield from _problems_of_notation(file, path, network.layers)
            continue
        for release, text in network.layers.items():
            yield from _problems_of_notation(file, (*path, release), text)
            if release not in file.releases:
                known = ", ".join(file.releases) or "none"
                yield Problem((*path, release), "is no release", f"releases are: {known}")
    if file.releases and file.release not in file.releases:
        remedy = f"give the one to use by default: {', '.join(file.releases)}"
        yield Problem(("release",), "names none of the releases", remedy)


def _problems_of_notation(file: SpaceDefinition, path: Path, text: str) -> Iterator[Problem]:
    layers = [stage.layers for stage in file.stages]
    chosen = [stage_of_notation(stage) for stage in text.split("|")]
    stages = [tokens for _, tokens in chosen]
    for (channels, _), stage in zip(chosen, file.stages, strict=False):
        if channels is not None and channels not in stage.channels:
            what = f"chooses {channels} channels, which the stage does not offer"
            yield Problem(path, what, f"it offers {', '.join(map(str, stage.channels))}")
    if [len(stage) for stage in stages] != layers:
        yield Problem(
            path,
            f"has {'+'.join(str(len(stage)) for stage in stages)} layers in its stages, but the "
            f"space has {'+'.join(map(str, layers))}",
            "write one token for each layer and '|' between stages",
        )
    for token in dict.fromkeys(token for stage in stages for token in stage):
        if _parsed(file, token) is None:
            yield Problem(path, f"has {token!r}, which is no block", "name one of the blocks")
