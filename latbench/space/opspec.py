"""Ops and their keys; a LUT has one entry for each.

An `OpSpec` is one unique op with its shape. Each family of ops is a subclass in a file of
`latbench.space.families`. Its key is canonical, readable and parses back; it opens with the name of its kind:

    ir_k5_e6_g1_s2_i24_o32_h56_w56       inverted residual
    conv_k3_g1_s1_i32_o32_h28_w28_none   convolution and BN without an activation

k is a kernel, e an expansion, g groups and s a stride; i and o are channels, and h and w the size of the
input. What most ops of a kind have in common is left out: batch 1, the activation ReLU.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from enum import IntEnum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from latbench.errors import BadNotation

if TYPE_CHECKING:
    from torch import nn


class Activation(StrEnum):
    """What follows a convolution and its BN; keys and space files use the values."""

    RELU = "relu"
    RELU6 = "relu6"
    HARD_SWISH = "hswish"
    SILU = "silu"
    NONE = "none"


class Gate(StrEnum):
    """What turns the values of squeeze-and-excitation into factors."""

    HARD_SIGMOID = "hsigmoid"
    SIGMOID = "sigmoid"


#: Activations in the words of timm's block strings.
TIMM_ACTIVATIONS = {
    Activation.RELU: "",
    Activation.RELU6: "_nr6",
    Activation.HARD_SWISH: "_nhs",
    Activation.SILU: "_nsw",
}


class Work(IntEnum):
    """What a part does: dense or grouped convolutions, depthwise ones, or only moves of values."""

    DENSE = 0
    DEPTHWISE = 1
    MOVE = 2


@dataclass(frozen=True)
class Part:
    """One convolution or linear layer, or one pass over values, for a whole batch.

    Attributes:
        work: what it does.
        weights: how many weights it has; no bias, no BN.
        read, written: how many values it reads and writes, weights apart.
        pixels: output positions, at each of which every weight is used once.
        extras: how many further parameters it has: biases, scales and shifts of BN.
    """

    work: Work
    weights: int
    read: int
    written: int
    pixels: int
    extras: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.weights * self.pixels

    def for_batch(self, batch: int) -> "Part":
        """The same part for `batch` images."""
        return replace(
            self,
            read=batch * self.read,
            written=batch * self.written,
            pixels=batch * self.pixels,
        )


def dense(weights: int, read: int, channels: int, pixels: int) -> Part:
    """A convolution that is not depthwise, with BN, of one image."""
    return Part(Work.DENSE, weights, read, channels * pixels, pixels, 2 * channels)


def linear(inputs: int, outputs: int) -> Part:
    """A linear layer with bias, or a 1x1 convolution of one position with bias, of one image."""
    return Part(Work.DENSE, inputs * outputs, inputs, outputs, 1, outputs)


def depthwise(kernel: int, channels: int, pixels_in: int, pixels_out: int) -> Part:
    """A depthwise convolution with BN of one image."""
    size = channels * pixels_in, channels * pixels_out
    return Part(Work.DEPTHWISE, channels * kernel**2, *size, pixels_out, 2 * channels)


def moved(read: int, written: int) -> Part:
    """A pass over values without weights: an add, a shuffle, a pool."""
    return Part(Work.MOVE, 0, read, written, 0)


@dataclass(frozen=True)
class TimmWords:
    """How timm's block strings say an op: `kind_r1_kernel_s1` and the `rest`.

    `lacking`: what they cannot say.
    """

    kind: str
    kernel: str
    rest: str
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpSpec(ABC):
    """One unique op with its shape. Fields that do not apply to a kind keep their defaults.

    A family is a subclass: a frozen dataclass with a `kind`, the `form` of its keys, and its methods.

    Attributes:
        in_channels, out_channels: channels of input and output; 0 out_channels means as many as in.
        height, width: size of the input, pixels.
        kernel, groups, stride: of its largest convolution, of its grouped one, and of the whole op.
        batch: the number of images that run together.
    """

    kind: ClassVar[str]
    #: What the key holds, in order: `{field}`, and in brackets what is left out at the field's default;
    #: `[word?field]` is the word where a field is true.
    form: ClassVar[str]
    #: Whether it may be a choice at a layer.
    is_block: ClassVar[bool] = False
    #: Whether it has a frame before and after it in its sandwich.
    framed: ClassVar[tuple[bool, bool]] = (True, True)

    in_channels: int
    out_channels: int = 0
    height: int = 1
    width: int = 1
    kernel: int = 1
    groups: int = 1
    stride: int = 1
    batch: int = 1

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        if not self.out_channels:
            object.__setattr__(self, "out_channels", self.in_channels)

    def __str__(self) -> str:
        return self.key

    # What a family says

    @abstractmethod
    def _parts(self) -> tuple[Part, ...]:
        """The parts for one image, in order."""

    @abstractmethod
    def build(self) -> "nn.Module":
        """The PyTorch module, with PyTorch's default initialisation."""

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return False

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """What ops have in common that deviate alike in a network (`latbench.space.traits`), by trait."""
        return {
            "resolution": (self.height, self.width),
            "expansion": (self.kind, 1),
            "kernel": (self.kernel, False),
            "groups": (self.groups,),
        }

    @property
    def lesser(self) -> tuple[tuple[tuple[str, "OpSpec"], ...], ...]:
        """Ops that should not be slower than this one, by name: "k3" for kernel 3.

        Each inner tuple reduces one thing, the least reduction first.
        """
        return ()

    @property
    def timm(self) -> TimmWords:
        """The op in the words of timm's block strings."""
        return TimmWords("", "", "", lacking=(f"blocks like {self.key}",))

    # What follows

    @property
    def key(self) -> str:
        """The canonical key (see the module's docstring)."""
        return "".join(token.text_of(self) for token in self._tokens())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, NCHW (NC for linear layers)."""
        return (self.batch, self.in_channels, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, NCHW (NC after a pool or a linear layer)."""
        return (self.batch, self.out_channels, self.height_after, self.width_after)

    @property
    def height_after(self) -> int:
        """Height of the output, pixels, with 'same' padding."""
        return after_stride(self.height, self.stride)

    @property
    def width_after(self) -> int:
        """Width of the output, pixels, with 'same' padding."""
        return after_stride(self.width, self.stride)

    @property
    def pixels(self) -> tuple[int, int]:
        """Positions of one image before and after the op."""
        return self.height * self.width, self.height_after * self.width_after

    @property
    def parts(self) -> tuple[Part, ...]:
        """The convolutions, linear layers and passes over values, in order, for the whole batch."""
        return tuple(part.for_batch(self.batch) for part in self._parts())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers; no bias, BN, activation, add or pool."""
        return sum(part.macs for part in self.parts)

    @property
    def params(self) -> int:
        """Convolution and linear weights; no bias, no BN."""
        return sum(part.weights for part in self._parts())

    @property
    def parameters(self) -> int:
        """All parameters: `params`, biases, and scales and shifts of BN."""
        return self.params + sum(part.extras for part in self._parts())

    @property
    def activations(self) -> int:
        """The values in the input and in the output of every layer with weights: traffic without weights."""
        written = sum(part.written for part in self.parts if part.work is not Work.MOVE)
        return self.batch * self.in_channels * self.height * self.width + written

    @classmethod
    @cache
    def _tokens(cls) -> tuple["_Token", ...]:
        types = {field.name: (field.type, field.default) for field in fields(cls)}
        found = []
        for match in _FORM.finditer(f"{cls.form}[_n{{batch}}]"):
            literal, name, opening, flag, inner, closing = match.groups()
            if literal:
                found.append(_Token(literal))
            elif name:
                found.append(_Token("", name, types[name][0]))
            elif flag:
                found.append(_Token(opening, flag, bool, optional=True))
            else:
                of_type, default = types[inner]
                found.append(_Token(opening, inner, of_type, closing, True, default))
        return tuple(found)

    @classmethod
    def of_key(cls, key: str) -> Self | None:
        """The op of this family with that key; None if `key` has another form."""
        tokens = cls._tokens()
        match = re.fullmatch("".join(token.pattern for token in tokens), key)
        if match is None:
            return None
        texts = iter(match.groups())
        given = {}
        for token in tokens:
            if token.field and (text := next(texts)) is not None:
                given[token.field] = token.value_of(text)
        return cls(**given)


#: Every kind of op by the word that opens its keys; families enter themselves.
KINDS: dict[str, type[OpSpec]] = {}

_FORM = re.compile(r"([^\[\]{}]+)|\{(\w+)\}|\[([^\[\]{}?]*)(?:\?(\w+)|\{(\w+)\}([^\[\]{}]*))\]")


@dataclass(frozen=True)
class _Token:
    """A piece of a key: a literal, or a field between literals, which is left out at its default."""

    before: str
    field: str = ""
    of_type: Any = str
    behind: str = ""
    optional: bool = False
    default: Any = None

    def text_of(self, op: OpSpec) -> str:
        if not self.field:
            return self.before
        value = getattr(op, self.field)
        if self.of_type is bool:
            return self.before if value else ""
        if self.optional and value == self.default:
            return ""
        return f"{self.before}{value}{self.behind}"

    @property
    def pattern(self) -> str:
        before, behind = re.escape(self.before), re.escape(self.behind)
        if not self.field:
            return before
        if self.of_type is bool:
            return f"({before})?"
        if self.of_type is int:
            value = "[1-9][0-9]{0,5}"
        else:
            value = "|".join(re.escape(one.value) for one in self.of_type)
        return f"(?:{before}({value}){behind})?" if self.optional else f"({value})"

    def value_of(self, text: str) -> Any:
        return True if self.of_type is bool else self.of_type(text)


def after_stride(size: int, stride: int) -> int:
    """The size after a convolution with 'same' padding, k // 2 with odd k."""
    return -(-size // stride)


def parse_key(key: str) -> OpSpec:
    """Parse a canonical key.

    Raises:
        BadNotation: `key` is not the canonical key of any op.
    """
    kind = key.partition("_")[0]
    family = KINDS.get(kind)
    if family is None:
        raise BadNotation(
            f"{key!r} is not an op key: {kind!r} is no kind of op",
            hint=f"kinds are {', '.join(sorted(KINDS))}",
        )
    try:
        spec = family.of_key(key)
    except ValueError as error:
        raise BadNotation(f"{key!r} is not an op key: {error}") from None
    if spec is None:
        raise BadNotation(f"{key!r} is not an op key", hint=f"its form is {family.form}")
    if spec.key != key:
        raise BadNotation(f"{key!r} is not a canonical op key", hint=f"did you mean {spec.key}?")
    return spec
