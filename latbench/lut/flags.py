"""Flags of LUT entries, and how far each entry is from the roofline.

A flag names a reason to act on an entry before trusting it; `FLAGS` lists them. Tainted trials alone are no
reason: they were repeated, and do not enter the statistic. An entry is flagged "tainted" only where they
outnumber the trusted ones: the scheduler then stops visiting the op (convergence status "noisy"), so few
rounds support the interval, and those were taken between disturbances.

The distance to the roofline (Williams, Waterman and Patterson, CACM 52, 2009) is an op's latency divided by

    max(MACs / rate, bytes / bandwidth)

where rate and bandwidth are the highest that any entry of the same LUT reaches, and bytes are the op's
input, output and weights, once each. 1 is the best this device showed; a large number means that something
other than arithmetic and memory traffic limits the op.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from latbench.lut.schema import Entry, Lut
from latbench.space.opspec import OpSpec, parse_key
from latbench.target import Precision

#: An entry is wide if half its 95 % interval, relative, exceeds this.
WIDE = 0.05

#: Name of a flag -> what it means. The names in the second half are warnings of `Entry.warnings`.
FLAGS: dict[str, str] = {
    "wide": f"half the 95 % interval exceeds {WIDE:.0%} of the entry (not for modelled LUTs)",
    "tainted": "more trials were tainted than trusted",
    "faster": "faster than the same block with a smaller kernel (k) or less expansion (e)",
    "modelled": "computed from published figures, not measured",
    "imported": "measured by another tool",
    "distrusted": "all trials were tainted",
    "unresolved": "too cheap to be told from the frames of its sandwich",
    "few-rounds": "fewer rounds than a 95 % interval needs",
    "bimodal": "the rounds have two modes",
    "step": "the latency changed at once during the run",
    "trend": "the latency rose or fell during the run",
    "autocorrelated": "successive rounds depend on each other",
    "heating": "samples rose within visits",
    "coarse-timer": "the timer's tick is more than 1 % of a sample",
    "divided": "some ops of the run changed their speed at one moment, and others did not",
    "unsteady": "the device was more than 5 % faster at some moments of the run",
}


@dataclass(frozen=True)
class BestRates:
    """The highest rates that the entries of a LUT reach: MACs and bytes per millisecond."""

    macs_per_ms: float
    bytes_per_ms: float

    def bound_ms(self, op: OpSpec, precision: Precision) -> float:
        """The least latency of `op` at these rates, milliseconds."""
        return max(op.macs / self.macs_per_ms, bytes_of(op, precision) / self.bytes_per_ms)


@dataclass(frozen=True)
class FlaggedEntry:
    """An entry, its flags as they are printed, and the ratio of its latency to its roofline bound."""

    key: str
    entry: Entry
    flags: tuple[str, ...]
    over_roofline: float

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the flags: the first words, such as 'tainted' of 'tainted 9 of 12'."""
        return tuple(flag.split(" ")[0] for flag in self.flags)


def bytes_of(op: OpSpec, precision: Precision) -> int:
    """The bytes of an op's input, output and weights."""
    _, *read = op.input_shape
    _, *written = op.output_shape
    return precision.bytes * (math.prod(read) + math.prod(written) + op.params)


def traffic_of(op: OpSpec, precision: Precision) -> int:
    """The bytes of an op's input, of every layer's output, and of its weights, once each."""
    return precision.bytes * (op.activations + op.params)


def best_rates(lut: Lut) -> BestRates:
    """The best rates of the entries of `lut`; unresolved entries do not count."""
    precision = lut.target.precision
    resolved = [pair for pair in _parsed(lut) if "unresolved" not in pair[1].warnings]
    rates = [
        (op.macs / entry.ms, bytes_of(op, precision) / entry.ms)
        for op, entry in resolved or _parsed(lut)
    ]
    return BestRates(max(1e-9, *(macs for macs, _ in rates)), max(moved for _, moved in rates))


def flagged_entries(lut: Lut) -> list[FlaggedEntry]:
    """Every entry of `lut` with its flags, in key order."""
    rates, precision = best_rates(lut), lut.target.precision
    return [
        FlaggedEntry(
            op.key, entry, _flags(lut, op, entry), entry.ms / rates.bound_ms(op, precision)
        )
        for op, entry in _parsed(lut)
    ]


def _flags(lut: Lut, op: OpSpec, entry: Entry) -> tuple[str, ...]:
    flags = []
    # Modelled entries are all wide, which their provenance says already.
    width = entry.relative_half_width
    if width is not None and width > WIDE and lut.provenance != "modelled":
        flags.append("wide")
    # The rounds of a distrusted entry are its tainted trials.
    if entry.tainted > entry.rounds and "distrusted" not in entry.warnings:
        flags.append(f"tainted {entry.tainted} of {entry.tainted + entry.rounds}")
    if lut.provenance != "measured":
        flags.append(lut.provenance)
    for reduced in op.lesser:
        known = ((name, other) for name, other in reduced if other.key in lut.entries)
        # Beyond noise: the intervals do not overlap.
        for name, other in islice(known, 1):
            lesser = lut[other]
            if entry.ci95 and lesser.ci95 and entry.ci95[1] < lesser.ci95[0]:
                flags.append(f"faster than {name}")
    return (*flags, *entry.warnings)


def _parsed(lut: Lut) -> Iterator[tuple[OpSpec, Entry]]:
    for key, entry in sorted(lut.entries.items()):
        yield parse_key(key), entry
