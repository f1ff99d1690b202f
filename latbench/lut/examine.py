"""What a reader should know before trusting an entry.

A flag says what speaks against an entry:

    wide             half its 95 % interval is more than `WIDE` of it (not said of what is modelled)
    tainted N        N distrusted trials had to be taken again
    distrusted       there are no others
    modelled         nobody measured it (imported: somebody else did)
    faster than k3   it beats the op that differs from it in a smaller kernel alone (and so for e)
    unresolved       in its sandwich it cannot be told from its frames

and every warning that was noted when it was built (`Entry.warnings`). The distance to the roofline
(Williams, Waterman and Patterson, CACM 52, 2009) is how many times longer an op takes than

    max(MACs / rate, bytes / bandwidth)

where rate and bandwidth are the highest that any entry of the same LUT reaches, and bytes are its
input, output and weights once each. So 1 is the best this device showed, and a large number an op
that something else than arithmetic or memory holds up.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from latbench.lut.schema import Entry, Lut
from latbench.space.opspec import OpSpec, parse_key
from latbench.target import Precision

#: Half an interval, relative, beyond which an entry is called wide.
WIDE = 0.05

#: What a block must not be faster than: the same with less of one thing.
_LESS_KERNEL, _LESS_EXPANSION = {7: 5, 5: 3}, {6: 3, 3: 1}


@dataclass(frozen=True)
class Roofline:
    """The highest rates that entries of a LUT reach: MACs and bytes a millisecond."""

    macs_per_ms: float
    bytes_per_ms: float

    def bound_ms(self, op: OpSpec, precision: Precision) -> float:
        """The least that `op` could take at these rates, milliseconds."""
        return max(op.macs / self.macs_per_ms, bytes_of(op, precision) / self.bytes_per_ms)


@dataclass(frozen=True)
class Examined:
    """An entry, its flags, and how many times its roofline bound it takes."""

    key: str
    entry: Entry
    flags: tuple[str, ...]
    over_roofline: float


def bytes_of(op: OpSpec, precision: Precision) -> int:
    """Bytes of an op's input, output and weights."""
    _, *read = op.input_shape
    _, *written = op.output_shape
    return precision.bytes * (math.prod(read) + math.prod(written) + op.params)


def traffic_of(op: OpSpec, precision: Precision) -> int:
    """Bytes of every value that passes between an op's layers, and of its weights, once each."""
    return precision.bytes * (op.activations + op.params)


def roofline_of(lut: Lut) -> Roofline:
    """The roofline that the entries of `lut` show."""
    precision = lut.target.precision
    resolved = [pair for pair in _parsed(lut) if "unresolved" not in pair[1].warnings]
    rates = [
        (op.macs / entry.ms, bytes_of(op, precision) / entry.ms)
        for op, entry in resolved or _parsed(lut)
    ]
    return Roofline(max(1e-9, *(macs for macs, _ in rates)), max(moved for _, moved in rates))


def examine(lut: Lut) -> list[Examined]:
    """Every entry of `lut` with what speaks against it, by key."""
    roofline, precision = roofline_of(lut), lut.target.precision
    return [
        Examined(op.key, entry, _flags(lut, op, entry), entry.ms / roofline.bound_ms(op, precision))
        for op, entry in _parsed(lut)
    ]


def _flags(lut: Lut, op: OpSpec, entry: Entry) -> tuple[str, ...]:
    flags = []
    # What is modelled is wide; that needs no saying twice.
    if entry.relative_half_width > WIDE and lut.provenance != "modelled":
        flags.append("wide")
    if entry.tainted:
        flags.append(f"tainted {entry.tainted}")
    if lut.provenance != "measured":
        flags.append(lut.provenance)
    for letter, lesser in _lesser(op):
        # Beyond noise: the intervals do not even touch.
        if lesser.key in lut.entries and entry.ci95[1] < lut[lesser].ci95[0]:
            flags.append(f"faster than {letter}")
    return (*flags, *entry.warnings)


def _lesser(op: OpSpec) -> Iterator[tuple[str, OpSpec]]:
    if not op.is_block:
        return
    if op.kernel in _LESS_KERNEL:
        kernel = _LESS_KERNEL[op.kernel]
        yield f"k{kernel}", replace(op, kernel=kernel)
    if op.expansion in _LESS_EXPANSION:
        expansion = _LESS_EXPANSION[op.expansion]
        yield f"e{expansion}", replace(op, expansion=expansion)


def _parsed(lut: Lut) -> Iterator[tuple[OpSpec, Entry]]:
    for key, entry in sorted(lut.entries.items()):
        yield parse_key(key), entry
