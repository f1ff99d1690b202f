"""Costs besides latency, and constraints on them: MACs, weights, activation memory, file size.

A constraint is written `macs<=300M`. The costs of a network follow from its ops:

    macs         multiply-accumulates of convolution and linear layers
    params       convolution and linear weights, as FBNet's releases count them
    activations  values in memory at once, at the network's peak
    bytes        of the exported file, for the LUT's runtime and precision; with LUTs of several formats,
                 of each file

Activations are a maximum over the ops, so each op fits or does not fit by itself; the others are sums.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_search.cost.boundaries import BoundaryCosts
from fbnet_search.cost.choices import op_table
from latbench.errors import BadRequest, UnknownName
from latbench.graph.lowering import lower
from latbench.graph.nodes import Graph, Weighted
from latbench.runtime.registry import descriptor
from latbench.space import OpSpec, SearchSpace
from latbench.space.blocks import build_ops
from latbench.target import Precision, Runtime

KINDS = ("macs", "params", "activations", "bytes")

_SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Cost:
    """The costs of the candidates, `layers` of shape (layers, candidates), and of the `fixed` other ops.

    With `peak` a network's cost is the maximum of its ops' costs; otherwise it is their sum plus the
    boundary costs.
    """

    layers: NDArray[np.float64]
    fixed: float
    peak: bool
    boundaries: BoundaryCosts | None = None

    def of(self, choices: Iterable[int]) -> float:
        """The cost of the network with these candidate indices, one for each layer."""
        indices = list(choices)
        chosen = [row[choice] for row, choice in zip(self.layers, indices, strict=True)]
        if self.peak:
            return float(max(self.fixed, *chosen))
        boundary = 0.0 if self.boundaries is None else self.boundaries.of_choices(indices)
        return float(self.fixed + sum(chosen)) + boundary

    @property
    def least(self) -> float:
        """The cost of the cheapest network."""
        if self.boundaries is not None:
            return self.fixed + self.boundaries.extreme(self.layers, min)
        return self.of(self.layers.argmin(1).tolist())

    @property
    def most(self) -> float:
        """The cost of the most expensive network."""
        if self.boundaries is not None:
            return self.fixed + self.boundaries.extreme(self.layers, max)
        return self.of(self.layers.argmax(1).tolist())


def parse_constraints(texts: Iterable[str]) -> dict[str, float]:
    """Parse constraints such as `macs<=300M,params<=5M` into limits by kind.

    Raises:
        BadRequest: a constraint cannot be parsed, is of an unknown kind, or is given twice.
    """
    limits: dict[str, float] = {}
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = re.fullmatch(
            r"([a-z]+)\s*<=\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([KMG]i?)?", text
        )
        if match is None:
            raise BadRequest(
                f"{text!r} is not a constraint",
                hint="write constraints like: --constraint 'macs<=300M,params<=5M'",
            )
        kind = match[1]
        if kind not in KINDS:
            raise UnknownName("constraint", kind, KINDS)
        if kind in limits:
            raise BadRequest(f"the constraint {kind} is given twice")
        limits[kind] = float(match[2]) * _SUFFIXES[match[3] or ""]
    return limits


def costs_of(
    kinds: Iterable[str], space: SearchSpace, runtime: Runtime, precision: Precision
) -> dict[str, Cost]:
    """The costs of networks of `space` with its default head, by kind."""
    return {kind: _cost(kind, space, runtime, precision) for kind in kinds}


def in_formats(
    limits: Mapping[str, float], space: SearchSpace, formats: Iterable[tuple[Runtime, Precision]]
) -> tuple[dict[str, float], dict[str, Cost]]:
    """Limits and costs by kind, with the limit of `bytes` expanded to one for each format.

    With several formats the expanded kinds are called, for instance, `bytes of onnx int8`.

    Raises:
        BadRequest: `bytes` is limited, and the file size in a format is not modelled.
    """
    distinct = list(dict.fromkeys(formats))
    expanded: dict[str, float] = {}
    costs: dict[str, Cost] = {}
    for kind, limit in limits.items():
        # Only the file size depends on the format.
        for runtime, precision in distinct if kind == "bytes" else distinct[:1]:
            apart = kind == "bytes" and len(distinct) > 1
            name = f"{kind} of {runtime} {precision}" if apart else kind
            expanded[name] = limit
            costs[name] = _cost(kind, space, runtime, precision)
    return expanded, costs


def require_affordable(limits: Mapping[str, float], costs: Mapping[str, Cost]) -> None:
    """Check that each limit, taken alone, is kept by some network.

    Raises:
        BadRequest: no network keeps a limit; the message gives the least possible value.
    """
    for kind, limit in limits.items():
        if costs[kind].least > limit:
            # The option takes one limit for the files of all formats.
            given = kind.partition(" of ")[0]
            together = max(cost.least for name, cost in costs.items() if name.startswith(given))
            raise BadRequest(
                f"{kind} must be at least {math.ceil(costs[kind].least)}, the least of any network of "
                f"this space, got {limit:g}",
                hint=f"give --constraint '{given}<={math.ceil(together)}' or more",
            )


def _cost(kind: str, space: SearchSpace, runtime: Runtime, precision: Precision) -> Cost:
    known: dict[OpSpec | None, float] = {None: 0.0}  # None is an identity, which is free

    def of(op: OpSpec | None) -> float:
        if op not in known:
            assert op is not None
            known[op] = _of_op(kind, op, runtime, precision)
        return known[op]

    rows = [[of(op) for op in row] for row in op_table(space)]
    around = [of(op) for op in (*space.stem_ops, *space.head_ops())]
    peak = kind == "activations"
    return Cost(np.array(rows), float(max(around) if peak else sum(around)), peak)


def _of_op(kind: str, op: OpSpec, runtime: Runtime, precision: Precision) -> float:
    match kind:
        case "macs":
            return float(op.macs)
        case "params":
            return float(op.params)
        case "activations":
            return float(_peak(lower(build_ops([op]).eval(), op.input_shape)))
        case _:
            return _bytes(lower(build_ops([op]).eval(), op.input_shape), runtime, precision)


def _peak(graph: Graph) -> int:
    """The largest number of values in memory at once while the nodes of `graph` run in order."""
    sizes = {name: int(np.prod(shape)) for name, shape in graph.shapes.items()}
    reads = [set(node.inputs) for node in graph.nodes]
    peak = 0
    for number, node in enumerate(graph.nodes):
        made = {graph.input, *(before.output for before in graph.nodes[:number])}
        needed = made & set().union(*reads[number:])
        peak = max(peak, sizes[node.output] + sum(sizes[name] for name in needed))
    return peak


def _bytes(graph: Graph, runtime: Runtime, precision: Precision) -> float:
    overhead = descriptor(runtime).file_overhead.get(precision)
    if overhead is None:
        raise BadRequest(
            f"the size of {runtime} files in {precision} is not modelled",
            hint="constrain params instead of bytes, or search with a LUT of another runtime",
        )
    per_node, per_channel = overhead
    total = per_node * len(graph.nodes)
    for node in graph.nodes:
        if isinstance(node, Weighted):
            total += precision.bytes * node.weight.size + (4 + per_channel) * node.bias.size
    return total
