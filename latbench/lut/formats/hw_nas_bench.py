"""HW-NAS-Bench's tables of FBNet's space (Li et al., ICLR 2021): one metric as JSON, milliseconds.

    ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1: 0.9      the first and the last convolution
    ConvBlock_H112_W112_Cin16_Cout24_exp6_kernel3_stride2_group1    a block of FBNet
    Skip_H112_W112_Cin16_Cout24_stride2                             a projection in place of a skip
    AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1                     the pool
    FC_Cin1984_Cout1000                                             the classifier

Rows of skips that are the identity may be 0; they have no op.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from latbench.lut.mapping import mapping_text, read_mapping, rows_of
from latbench.lut.table import BadTable, CannotHold, Place, Row, TableFormat
from latbench.space.families.inverted_residual import DepthwiseSeparable
from latbench.space.opspec import Activation, OpSpec


class HwNasBench(TableFormat):
    """One metric of its FBNet tables."""

    name: ClassVar[str] = "hw-nas-bench"
    looks: ClassVar[re.Pattern[str]] = re.compile(
        r"\b(?:ConvNorm|ConvBlock|AvgP)_H\d+_W\d+_Cin\d+_"
    )
    writes: ClassVar[bool] = False
    from_pickle: ClassVar[str] = (
        'one table, {"ConvBlock_H112_…": 0.42, …}: '
        "pickle.load(file)['fbnet']['pixel3_latency'] through json.dump with default=float"
    )

    def read(self, text: str) -> dict[str, Row]:
        """See `TableFormat.read`."""
        data = read_mapping(text)
        while len(data) == 1 and isinstance(value := next(iter(data.values())), dict):
            data = value  # of {"fbnet": {"pixel3_latency": …}}
        tables = [name for name, value in data.items() if isinstance(value, dict)]
        if tables:
            raise BadTable([f"it holds several tables, keep one: {', '.join(tables[:9])}"])
        rows = rows_of(data)
        return {name: row for name, row in rows.items() if row.ms or not _is_identity(name)}

    def write(self, rows: Mapping[str, Row]) -> str:
        """See `TableFormat.write`."""
        return mapping_text(rows)

    def place(self, op: OpSpec, ops: Sequence[OpSpec]) -> Place:
        """See `TableFormat.place`."""
        if op.batch > 1:
            raise CannotHold("a batch of several images")
        inputs, outputs = op.in_channels, op.out_channels
        of_op = f"H{op.height}_W{op.width}_Cin{inputs}_Cout{outputs}"
        if op.kind in ("stem", "head"):
            return Place(f"ConvNorm_{of_op}_kernel{op.kernel}_stride{op.stride}_group1")
        if op.kind == "skip":
            return Place(f"Skip_{of_op}_stride{op.stride}")
        if op.kind == "pool":
            return Place(f"AvgP_{of_op}_kernel{op.height}_stride1")
        if op.kind == "classifier":
            return Place(f"FC_Cin{inputs}_Cout{outputs}")
        if op.kind != "ir" or not isinstance(op, DepthwiseSeparable):
            raise CannotHold(f"ops of the kind {op.kind}")
        if op.separable or op.se or op.activation is not Activation.RELU:
            raise CannotHold("blocks other than FBNet's, with ReLU")
        if op.middle % inputs:
            raise CannotHold("an expansion that is no whole number")
        return Place(
            f"ConvBlock_{of_op}_exp{op.middle // inputs}_kernel{op.kernel}_stride{op.stride}"
            f"_group{op.groups}"
        )


def _is_identity(name: str) -> bool:
    match = re.fullmatch(r"Skip_H\d+_W\d+_Cin(\d+)_Cout(\d+)_stride1", name)
    return match is not None and match[1] == match[2]
