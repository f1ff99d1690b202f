"""Once-for-All's tables (Cai et al., ICLR 2020): MobileNetV3 blocks, milliseconds, YAML or JSON.

    expanded_conv-input:56x56x24-output:28x28x40-expand:96-kernel:5-stride:2-idskip:0-se:1-hs:0: {mean: 2.2}
    Conv-input:224x224x3-output:112x112x16        the first convolution
    Conv_1-input:7x7x160-output:7x7x960           the last 1x1 convolution before the pool
    AvgPool2D-input:7x7x960-output:1x1x960        the pool
    Conv_2-input:1x1x960-output:1x1x1280          the layer between pool and classifier
    Logits-input:1x1x1280-output:1000             the classifier

`expand` is the number of channels in the middle; a ratio, as ProxylessNAS writes it, is read too, and so are
rows without `se` and `hs`. `se:1` is squeeze-and-excitation of a quarter of the middle's channels with a hard
sigmoid, `hs:1` hard-swish, `hs:0` ReLU.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from latbench.lut.formats.proxyless import (
    ENDS,
    block_name,
    block_of,
    require_activation,
    shapes,
)
from latbench.lut.mapping import mapping_text, read_mapping, rows_of
from latbench.lut.table import CannotHold, Place, Row, TableFormat
from latbench.space.channels import scaled_channels
from latbench.space.families.inverted_residual import DepthwiseSeparable
from latbench.space.opspec import Activation, Gate, OpSpec


class OnceForAll(TableFormat):
    """Rows of `expanded_conv` with the middle's channels, `se` and `hs`."""

    name: ClassVar[str] = "once-for-all"
    looks: ClassVar[re.Pattern[str]] = re.compile(
        r"\bexpanded_conv-input:\S*-se:[01]-hs:|\bAvgPool2D-input:"
    )
    silent_on: ClassVar[tuple[str, ...]] = (
        "the kernel of the first convolution",
        "whether an activation is ReLU or ReLU6, and that of all but blocks",
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
        inputs, outputs = op.in_channels, op.out_channels
        if op.kind == "pool":
            before = f"{op.height}x{op.width}x{inputs}"
            return Place(f"AvgPool2D-input:{before}-output:1x1x{outputs}")
        if op.kind == "hidden":
            return Place(f"Conv_2-input:1x1x{inputs}-output:1x1x{outputs}")
        if op.kind == "classifier":
            return Place(f"Logits-input:1x1x{inputs}-output:{outputs}")
        return _block(block_of(op))


def _block(block: DepthwiseSeparable) -> Place:
    require_activation(block, (Activation.RELU, Activation.RELU6, Activation.HARD_SWISH))
    if block.se and (
        block.se != scaled_channels(block.middle, 0.25)
        or block.gate is not Gate.HARD_SIGMOID
        or block.se_activation is not Activation.RELU
    ):
        raise CannotHold(
            "squeeze-and-excitation but of a quarter of the middle's channels with a hard sigmoid"
        )
    hard_swish = block.activation is Activation.HARD_SWISH
    rest = f"-se:{int(block.se > 0)}-hs:{int(hard_swish)}"
    name, *others = [block_name(block, expand) for expand in _expansions(block)]
    plain = [] if block.se or hard_swish else [name, *others]
    return Place(name + rest, (*(other + rest for other in others), *plain))


def _expansions(block: DepthwiseSeparable) -> list[int]:
    """What may be behind `expand:`: the middle's channels, or their ratio if it is whole."""
    ratio, rest = divmod(block.middle, block.in_channels)
    return [block.middle] if rest else [block.middle, ratio]
