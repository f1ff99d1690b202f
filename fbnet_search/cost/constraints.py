"""What a network may cost besides time: MACs, weights, activations in memory, bytes of its file.

A constraint reads `macs<=300M`; the costs are those of the space's ops:

    macs         multiply-accumulates of convolution and linear layers
    params       convolution and linear weights, as FBNet's releases count them
    activations  values that must be in memory at once, at the network's peak
    bytes        of the exported file, for the LUT's runtime and precision; with LUTs of several, of
                 each of the files

The first two and the last are sums over the ops. The peak is a maximum: an op fits, or it is out,
whatever stands elsewhere in the network.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_search.cost.boundaries import Transitions
from latbench.errors import BadRequest, UnknownName
from latbench.graph.lowering import Add, Conv, Graph, Linear, lower
from latbench.runtime.registry import descriptor
from latbench.space import CANDIDATES, OpSpec, SearchSpace
from latbench.space.blocks import build_ops
from latbench.target import Precision, Runtime

KINDS = ("macs", "params", "activations", "bytes")

_SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Cost:
    """What the choices cost: `layers` of shape (layers, candidates), and `fixed`, the ops around them.

    `peak` tells whether the network's cost is the largest of all, or else their sum, to which
    `transitions` add what they cost.
    """

    layers: NDArray[np.float64]
    fixed: float
    peak: bool
    transitions: Transitions | None = None

    def of(self, choices: Iterable[int]) -> float:
        """The cost of a network with one candidate's index a layer."""
        picked = list(choices)
        chosen = [row[choice] for row, choice in zip(self.layers, picked, strict=True)]
        if self.peak:
            return float(max(self.fixed, *chosen))
        made = 0.0 if self.transitions is None else self.transitions.of_choices(picked)
        return float(self.fixed + sum(chosen)) + made

    @property
    def least(self) -> float:
        """The least that any network costs."""
        if self.transitions is not None:
            return self.fixed + self.transitions.extreme(self.layers, min)
        return self.of(self.layers.argmin(1).tolist())

    @property
    def most(self) -> float:
        """The most that any network costs."""
        if self.transitions is not None:
            return self.fixed + self.transitions.extreme(self.layers, max)
        return self.of(self.layers.argmax(1).tolist())


def parse_constraints(texts: Iterable[str]) -> dict[str, float]:
    """Read constraints such as `macs<=300M,params<=5M`: what may be spent, by kind.

    Raises:
        BadRequest: one cannot be read, is of an unknown kind, or stands twice.
    """
    limits: dict[str, float] = {}
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = re.fullmatch(
            r"([a-z]+)\s*<=\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([KMG]i?)?", text
        )
        if match is None:
            raise BadRequest(
                f"{text!r} is not a constraint",
                hint="write it like: --constraint 'macs<=300M,params<=5M'",
            )
        kind = match[1]
        if kind not in KINDS:
            raise UnknownName("constraint", kind, KINDS)
        if kind in limits:
            raise BadRequest(f"there are two constraints of {kind}")
        limits[kind] = float(match[2]) * _SUFFIXES[match[3] or ""]
    return limits


def costs_of(
    kinds: Iterable[str], space: SearchSpace, runtime: Runtime, precision: Precision
) -> dict[str, Cost]:
    """The cost of every choice in `space`, with its default head, by kind."""
    return {kind: _cost(kind, space, runtime, precision) for kind in kinds}


def in_formats(
    limits: Mapping[str, float], space: SearchSpace, formats: Iterable[tuple[Runtime, Precision]]
) -> tuple[dict[str, float], dict[str, Cost]]:
    """The limits of a network that is written in `formats`, and the cost of every choice; by kind.

    Each file must keep a limit of `bytes`: with several formats it stands for one limit a format, such
    as `bytes of onnx int8`.

    Raises:
        BadRequest: bytes are limited, and those of a format are not modelled.
    """
    several = list(dict.fromkeys(formats))
    expanded: dict[str, float] = {}
    costs: dict[str, Cost] = {}
    for kind, limit in limits.items():
        # What is no file's costs the same in every format.
        for runtime, precision in several if kind == "bytes" else several[:1]:
            apart = kind == "bytes" and len(several) > 1
            name = f"{kind} of {runtime} {precision}" if apart else kind
            expanded[name] = limit
            costs[name] = _cost(kind, space, runtime, precision)
    return expanded, costs


def require_affordable(limits: Mapping[str, float], costs: Mapping[str, Cost]) -> None:
    """Make sure that for each limit by itself some network keeps it.

    Raises:
        BadRequest: for one there is none; the message names the least possible.
    """
    for kind, limit in limits.items():
        if costs[kind].least > limit:
            # One limit is given for the files of all formats.
            given = kind.partition(" of ")[0]
            together = max(cost.least for name, cost in costs.items() if name.startswith(given))
            raise BadRequest(
                f"no network of this space has {kind} <= {limit:g}: "
                f"the least possible is {math.ceil(costs[kind].least)}",
                hint=f"give --constraint '{given}<={math.ceil(together)}' or more",
            )


def _cost(kind: str, space: SearchSpace, runtime: Runtime, precision: Precision) -> Cost:
    known: dict[OpSpec | None, float] = {None: 0.0}  # an identity costs nothing

    def of(op: OpSpec | None) -> float:
        if op not in known:
            assert op is not None
            known[op] = _of_op(kind, op, runtime, precision)
        return known[op]

    rows = [[of(space.op(layer, choice)) for choice in CANDIDATES] for layer in space.layers]
    around = [of(space.stem), *map(of, space.head_ops())]
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
    """The most values that are needed at once while `graph` runs, node by node."""
    sizes = {name: int(np.prod(shape)) for name, shape in graph.shapes.items()}
    reads = [
        {node.input, node.other} if isinstance(node, Add) else {node.input} for node in graph.nodes
    ]
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
            f"the bytes of {runtime} files in {precision} are not modelled",
            hint="constrain params, or search on a LUT of another runtime",
        )
    a_node, a_channel = overhead
    total = a_node * len(graph.nodes)
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            total += precision.bytes * node.weight.size + (4 + a_channel) * node.bias.size
    return total
