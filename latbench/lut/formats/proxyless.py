"""ProxylessNAS's tables (Cai, Zhu and Han, ICLR 2019): MobileNetV2 blocks, milliseconds, YAML or JSON.

    expanded_conv-input:112x112x16-output:56x56x24-expand:6-kernel:5-stride:2-idskip:0: {count: 30, mean: 4.1}
    Conv-input:224x224x3-output:112x112x32        the first convolution
    Conv_1-input:7x7x320-output:7x7x1280          the last 1x1 convolution
    Logits-input:7x7x1280-output:1000             all that follows: pool and classifier together

Shapes are height, width, channels; `expand` is the ratio of the middle's channels to the input's. A block of
ratio 1 has no first 1x1 convolution.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from latbench.lut.mapping import mapping_text, read_mapping, rows_of
from latbench.lut.table import CannotHold, Place, Row, TableFormat
from latbench.space.families.inverted_residual import DepthwiseSeparable
from latbench.space.opspec import Activation, OpSpec


class Proxyless(TableFormat):
    """Rows of `expanded_conv` with a ratio, without activations and squeeze-and-excitation."""

    name: ClassVar[str] = "proxyless"
    looks: ClassVar[re.Pattern[str]] = re.compile(
        r"\A(?![\s\S]*(?:-se:[01]-hs:|\bAvgPool2D-input:))"
        r"[\s\S]*\b(?:expanded_conv|Conv|Conv_1|Logits)-input:"
    )
    silent_on: ClassVar[tuple[str, ...]] = (
        "the kernel of the first convolution",
        "whether an activation is ReLU or ReLU6, and that of the first and last convolution",
        "pool and classifier apart: their one row is divided by the values that they move",
    )

    def read(self, text: str) -> dict[str, Row]:
        """See `TableFormat.read`."""
        return rows_of(read_mapping(text))

    def write(self, rows: Mapping[str, Row]) -> str:
        """See `TableFormat.write`."""
        return mapping_text(rows)

    def place(self, op: OpSpec, ops: Sequence[OpSpec]) -> Place:
        """See `TableFormat.place`."""
        if op.batch > 1:
            raise CannotHold("a batch of several images")
        if op.kind in ENDS:
            return Place(f"{ENDS[op.kind]}-{shapes(op)}")
        if op.kind in ("pool", "classifier"):
            return self._end(op, ops)
        block = block_of(op)
        if block.se:
            raise CannotHold("squeeze-and-excitation")
        require_activation(block, (Activation.RELU, Activation.RELU6))
        if block.middle % block.in_channels:
            raise CannotHold("an expansion that is no whole number")
        return Place(block_name(block, block.middle // block.in_channels))

    def _end(self, op: OpSpec, ops: Sequence[OpSpec]) -> Place:
        same = [one for one in ops if one.in_channels == op.in_channels]
        pools = [one for one in same if one.kind == "pool"]
        classifiers = [one for one in same if one.kind == "classifier"]
        if not (pools and classifiers):
            raise CannotHold("what is between a pool and a classifier")
        _, channels, height, width = pools[0].input_shape
        classes = classifiers[0].out_channels
        name = f"Logits-input:{height}x{width}x{channels}-output:{classes}"
        return Place(name, part=float(op.activations + op.params))


#: Kind of op -> the name of its row.
ENDS = {"stem": "Conv", "head": "Conv_1"}


def block_of(op: OpSpec) -> DepthwiseSeparable:
    """The block that `op` is, if `expanded_conv` can say it but for widths and activations.

    Raises:
        CannotHold: it cannot.
    """
    if op.kind not in ("ir", "ds") or not isinstance(op, DepthwiseSeparable):
        raise CannotHold(_KINDS.get(op.kind, f"ops of the kind {op.kind}"))
    if op.groups > 1:
        raise CannotHold("1x1 convolutions in groups")
    if op.separable:
        raise CannotHold("two depthwise convolutions")
    if op.kind == "ir" and op.middle == op.in_channels:
        raise CannotHold("a first 1x1 convolution at expansion 1")
    return op


_KINDS = {"skip": "projections in place of skips", "conv": "blocks of one convolution"}


def require_activation(block: DepthwiseSeparable, known: Sequence[Activation]) -> None:
    """Check that rows can mean the activation of `block`.

    Raises:
        CannotHold: they cannot.
    """
    if block.activation not in known:
        raise CannotHold(f"the activation {block.activation}")


def shapes(op: OpSpec) -> str:
    """`input:HxWxC-output:HxWxC`."""
    before = f"{op.height}x{op.width}x{op.in_channels}"
    return f"input:{before}-output:{op.height_after}x{op.width_after}x{op.out_channels}"


def block_name(block: DepthwiseSeparable, expand: int) -> str:
    """The row of a block with that number behind `expand:`."""
    return (
        f"expanded_conv-{shapes(block)}-expand:{expand}-kernel:{block.kernel}-stride:{block.stride}"
        f"-idskip:{int(block.residual)}"
    )
