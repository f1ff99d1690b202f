"""A search space at one input size, width and number of classes: its layers, and the op of each choice."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from latbench.errors import BadRequest, UnknownName
from latbench.space.families.classifier import Classifier, Pool
from latbench.space.families.conv import Head, Projection, Stem
from latbench.space.families.inverted_residual import DepthwiseSeparable, InvertedResidual
from latbench.space.macro import SKIP, Candidate, MacroArchitecture
from latbench.space.opspec import OpSpec
from latbench.space.shipped import CANDIDATES, DEFAULT_SPACE, MACRO_ARCHITECTURES

#: Width multipliers of the literature; any in (0, 2] is accepted.
WIDTHS = (1.0, 0.75, 0.5, 0.35)


@dataclass(frozen=True)
class Layer:
    """One searchable position: its stage, its index there, channels, stride, and input size in pixels."""

    stage: int
    index: int
    in_channels: int
    out_channels: int
    stride: int
    size: int


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8, and not down by more than a tenth.

    The rule of MobileNetV2 (Sandler et al., CVPR 2018).
    """
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


@dataclass(frozen=True)
class SearchSpace:
    """A search space: a macro-architecture at one input size, width and number of classes.

    `keeps_first_1x1` is whether a block of expansion 1 keeps its first 1x1 convolution or starts with the
    depthwise one. `input_size` is in pixels; `width` multiplies the channels.
    """

    macro: MacroArchitecture
    input_size: int
    width: float
    classes: int
    keeps_first_1x1: bool = True

    @classmethod
    def named(
        cls,
        name: str = DEFAULT_SPACE,
        *,
        input_size: int | None = None,
        width: float = 1.0,
        classes: int | None = None,
        keeps_first_1x1: bool = True,
    ) -> "SearchSpace":
        """Return the space called `name`.

        Raises:
            UnknownName: the space is unknown.
            BadRequest: the input size, width or number of classes is out of range.
        """
        macro = MACRO_ARCHITECTURES.get(name)
        if macro is None:
            raise UnknownName("search space", name, tuple(MACRO_ARCHITECTURES))
        size = macro.input_sizes[0] if input_size is None else input_size
        if size < macro.input_multiple or size % macro.input_multiple or size > 1024:
            raise BadRequest(
                f"input must be a multiple of {macro.input_multiple} up to 1024 in the space {name}, "
                f"got {size}",
                hint=f"common sizes: {', '.join(map(str, macro.input_sizes))}",
            )
        if not 0 < width <= 2:
            raise BadRequest(
                f"width must be above 0 and at most 2, got {width:g}",
                hint=f"common widths: {', '.join(map(str, WIDTHS))}",
            )
        count = macro.classes if classes is None else classes
        if count < 1:
            raise BadRequest(f"classes must be at least 1, got {count}")
        return cls(macro, size, width, count, keeps_first_1x1)

    @property
    def name(self) -> str:
        """The name of the macro-architecture."""
        return self.macro.name

    def __str__(self) -> str:
        return f"{self.name} at {self.input_size}x{self.input_size}, width {self.width:g}"

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """The space as JSON data; `from_dict` reads it back."""
        return {
            "name": self.name,
            "input": self.input_size,
            "width": self.width,
            "classes": self.classes,
            "keeps_first_1x1": self.keeps_first_1x1,
        }

    @classmethod
    def from_dict(cls, data: dict[str, str | int | float | bool]) -> "SearchSpace":
        """Read what `to_dict` wrote.

        Raises:
            KeyError: a field is missing.
            BadRequest: a field has the wrong type, or as `named`.
        """
        name, size, width = data["name"], data["input"], data["width"]
        classes, keeps = data["classes"], data["keeps_first_1x1"]
        # Exact types: True is an int, and neither is a number in a file.
        if not isinstance(name, str):
            raise BadRequest(f"space.name must be text, got {name!r}")
        if type(size) is not int:
            raise BadRequest(f"space.input must be an integer, got {size!r}")
        if type(width) is not float and type(width) is not int:
            raise BadRequest(f"space.width must be a number, got {width!r}")
        if type(classes) is not int:
            raise BadRequest(f"space.classes must be an integer, got {classes!r}")
        if type(keeps) is not bool:
            raise BadRequest(f"space.keeps_first_1x1 must be true or false, got {keeps!r}")
        return cls.named(
            name,
            input_size=size,
            width=float(width),
            classes=classes,
            keeps_first_1x1=keeps,
        )

    @property
    def arguments(self) -> str:
        """The command-line options that select this space."""
        words = [
            "--space",
            self.name,
            "--input",
            str(self.input_size),
            "--width",
            f"{self.width:g}",
        ]
        if self.classes != self.macro.classes:
            words += ["--classes", str(self.classes)]
        if not self.keeps_first_1x1:
            words.append("--drop-first-1x1")
        return " ".join(words)

    @property
    def heads(self) -> tuple[int, ...]:
        """The head widths of networks of this space, in channels; the first is the default.

        A width below 1 does not narrow the head, as in MobileNetV2; a width above 1 scales it.
        """
        return tuple(scaled_channels(head, max(1.0, self.width)) for head in self.macro.heads)

    @property
    def stem(self) -> Stem:
        """The first convolution."""
        return Stem(
            in_channels=3,
            out_channels=scaled_channels(self.macro.stem_channels, self.width),
            height=self.input_size,
            width=self.input_size,
            kernel=3,
            stride=self.macro.stem_stride,
        )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The searchable positions, first to last."""
        return tuple(self._walk_layers())

    def _walk_layers(self) -> Iterator[Layer]:
        channels, size = self.stem.out_channels, self.stem.output_shape[2]
        for number, stage in enumerate(self.macro.stages):
            out_channels = scaled_channels(stage.channels, self.width)
            for index in range(stage.layers):
                stride = stage.stride if index == 0 else 1
                yield Layer(number, index, channels, out_channels, stride, size)
                channels, size = out_channels, -(-size // stride)

    def op(self, layer: Layer, candidate: Candidate) -> OpSpec | None:
        """The op of `candidate` at `layer`; None for a skip that is the identity."""
        if candidate == SKIP:
            if layer.stride == 1 and layer.in_channels == layer.out_channels:
                return None
            return Projection(
                in_channels=layer.in_channels,
                out_channels=layer.out_channels,
                height=layer.size,
                width=layer.size,
                stride=layer.stride,
            )
        shape: dict[str, Any] = {
            "kernel": candidate.kernel,
            "groups": candidate.groups,
            "separable": candidate.separable,
            "stride": layer.stride,
            "in_channels": layer.in_channels,
            "out_channels": layer.out_channels,
            "height": layer.size,
            "width": layer.size,
        }
        if candidate.expansion > 1 or self.keeps_first_1x1:
            return InvertedResidual(expansion=candidate.expansion, **shape)
        return DepthwiseSeparable(**shape)

    def head_ops(self, head: int | None = None) -> tuple[Head, Pool, Classifier]:
        """The head convolution, pool and classifier of a network with a head of `head` channels."""
        width = self.heads[0] if head is None else head
        channels, size = self.layers[-1].out_channels, self._final_size
        return (
            Head(in_channels=channels, out_channels=width, height=size, width=size),
            Pool(in_channels=width, height=size, width=size),
            Classifier(in_channels=width, out_channels=self.classes),
        )

    @property
    def _final_size(self) -> int:
        last = self.layers[-1]
        return -(-last.size // last.stride)

    @cached_property
    def unique_ops(self) -> tuple[OpSpec, ...]:
        """Every op that a network of this space can contain, once, in network order."""
        ops: list[OpSpec] = [self.stem]
        for layer in self.layers:
            ops += [op for candidate in CANDIDATES if (op := self.op(layer, candidate))]
        for head in self.heads:
            ops += self.head_ops(head)
        return tuple(dict.fromkeys(ops))

    @property
    def unique_blocks(self) -> tuple[OpSpec, ...]:
        """The searchable blocks among `unique_ops`; skips are not blocks."""
        return tuple(op for op in self.unique_ops if op.is_block)

    def at(self, *, keeps_first_1x1: bool) -> "SearchSpace":
        """This space with the other rule for the first 1x1 of e1 blocks."""
        return replace(self, keeps_first_1x1=keeps_first_1x1)
