"""Ops and their keys; a LUT has one entry for each.

An `OpSpec` is one unique op with its shape. Its key is canonical, readable and parses back:

    ir_k5_e6_g1_s2_i24_o32_h56_w56       inverted residual
    ir_k3sep_e6_g1_s1_i32_o32_h28_w28    the same with two depthwise 3x3 in place of one 5x5
    ds_k3_g1_s1_i16_o16_h112_w112        an e1 block without its first 1x1 (depthwise-separable)
    skip_s2_i16_o24_h112_w112            the projection of a skip where the shape changes
    stem_k3_s2_i3_o16_h224_w224          the first convolution
    head_i352_o1984_h7_w7                the last 1x1 convolution
    pool_i1984_h7_w7                     global average pool
    classifier_i1984_o1000               fully connected layer with bias
    frame_i16_h112_w112                  a 1x1 convolution next to an op in its sandwich

In a block k is the kernel, e the expansion, g the groups and s the stride; i and o are channels, and
h and w the size of the input. Shapes are at batch 1.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from latbench.errors import BadNotation


class OpKind(StrEnum):
    """The kinds of op; the value opens the key."""

    STEM = "stem"
    INVERTED_RESIDUAL = "ir"
    DEPTHWISE_SEPARABLE = "ds"
    SKIP = "skip"
    HEAD = "head"
    POOL = "pool"
    CLASSIFIER = "classifier"
    FRAME = "frame"


BLOCK_KINDS = frozenset({OpKind.INVERTED_RESIDUAL, OpKind.DEPTHWISE_SEPARABLE})


@dataclass(frozen=True, order=True)
class OpSpec:
    """One unique op with its shape. Fields that do not apply to a kind keep their defaults."""

    kind: OpKind
    in_channels: int
    out_channels: int
    height: int = 1
    width: int = 1
    kernel: int = 1
    expansion: int = 1
    groups: int = 1
    stride: int = 1
    separable: bool = False

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """The canonical key (see the module's docstring)."""
        i, o, size = (
            f"i{self.in_channels}",
            f"o{self.out_channels}",
            f"h{self.height}_w{self.width}",
        )
        kernel = f"k{self.kernel}" + ("sep" if self.separable else "")
        match self.kind:
            case OpKind.INVERTED_RESIDUAL:
                return f"ir_{kernel}_e{self.expansion}_g{self.groups}_s{self.stride}_{i}_{o}_{size}"
            case OpKind.DEPTHWISE_SEPARABLE:
                return f"ds_{kernel}_g{self.groups}_s{self.stride}_{i}_{o}_{size}"
            case OpKind.SKIP:
                return f"skip_s{self.stride}_{i}_{o}_{size}"
            case OpKind.STEM:
                return f"stem_{kernel}_s{self.stride}_{i}_{o}_{size}"
            case OpKind.HEAD:
                return f"head_{i}_{o}_{size}"
            case OpKind.POOL:
                return f"pool_{i}_{size}"
            case OpKind.CLASSIFIER:
                return f"classifier_{i}_{o}"
            case OpKind.FRAME:
                return f"frame_{i}_{size}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, NCHW at batch 1 (NC for the classifier)."""
        if self.kind is OpKind.CLASSIFIER:
            return (1, self.in_channels)
        return (1, self.in_channels, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, NCHW at batch 1 (NC after the pool)."""
        if self.kind in (OpKind.POOL, OpKind.CLASSIFIER):
            return (1, self.out_channels)
        return (1, self.out_channels, self._after(self.height), self._after(self.width))

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output (stride 1 and equal channels, blocks only)."""
        return (
            self.kind in BLOCK_KINDS and self.stride == 1 and self.in_channels == self.out_channels
        )

    @property
    def is_block(self) -> bool:
        """Whether this is a searchable block (an inverted residual, or one without its first 1x1)."""
        return self.kind in BLOCK_KINDS

    def _after(self, size: int) -> int:
        return -(-size // self.stride)  # 'same' padding k//2 with odd k

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions and the linear layer; no bias, BN, ReLU, add or pool."""
        return sum(weights * pixels for weights, _, pixels in self._layers())

    @property
    def params(self) -> int:
        """Convolution and linear weights; no bias, no BN."""
        return sum(weights for weights, _, _ in self._layers())

    @property
    def activations(self) -> int:
        """The number of values in the input and in every layer's output: memory traffic without weights."""
        written = sum(channels * pixels for _, channels, pixels in self._layers())
        return self.in_channels * self.height * self.width + written

    def _layers(self) -> list[tuple[int, int, int]]:
        """(weights, output channels, output pixels) of each convolution or linear layer."""
        pixels_in = self.height * self.width
        pixels_out = self._after(self.height) * self._after(self.width)
        outputs, dense = self.out_channels, self.in_channels * self.out_channels
        match self.kind:
            case OpKind.STEM:
                return [(dense * self.kernel**2, outputs, pixels_out)]
            case OpKind.SKIP | OpKind.HEAD | OpKind.FRAME:
                return [(dense, outputs, pixels_out)]
            case OpKind.CLASSIFIER:
                return [(dense, outputs, 1)]
            case OpKind.POOL:
                return []
            case OpKind.INVERTED_RESIDUAL | OpKind.DEPTHWISE_SEPARABLE:
                middle = self.in_channels * self.expansion
                depthwise = (middle * self.kernel**2, middle, pixels_out)
                layers = [depthwise] * (2 if self.separable else 1)
                layers.append((middle * outputs // self.groups, outputs, pixels_out))
                if self.kind is OpKind.INVERTED_RESIDUAL:
                    first = self.in_channels * middle // self.groups
                    layers.insert(0, (first, middle, pixels_in))
                return layers


_FIELD = {
    "k": "kernel", "e": "expansion", "g": "groups", "s": "stride",
    "i": "in_channels", "o": "out_channels", "h": "height", "w": "width",
}  # fmt: skip


def parse_key(key: str) -> OpSpec:
    """Parse a canonical key.

    Raises:
        BadNotation: `key` is not the canonical key of any op.
    """
    kind, *tokens = key.split("_")
    fields: dict[str, int] = {}
    separable = False
    for token in tokens:
        match = re.fullmatch(r"([kegsiohw])([1-9][0-9]{0,5})(sep)?", token)
        if match is None:
            raise BadNotation(f"{key!r} is not an op key: unknown field {token!r}")
        fields[_FIELD[match[1]]] = int(match[2])
        separable = separable or match[3] is not None
    if kind in (OpKind.POOL, OpKind.FRAME):
        fields.setdefault("out_channels", fields.get("in_channels", 0))
    try:
        spec = OpSpec(OpKind(kind), separable=separable, **fields)
    except (ValueError, TypeError):
        raise BadNotation(f"{key!r} is not an op key") from None
    if spec.key != key:
        raise BadNotation(f"{key!r} is not a canonical op key", hint=f"did you mean {spec.key}?")
    return spec
