"""The level of a device: how much slower it is now than in the run that a LUT is of.

A device's level moves between processes and days, and one network alone is off it by a per cent or
so, as its memory happens to lie. So up to five networks that the LUT was made from are timed again.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from latbench.lut.predict import predict_latency
from latbench.lut.schema import Lut
from latbench.space.architecture import Architecture

_ANCHORS = 5


@dataclass(frozen=True)
class Anchor:
    """A network to time again, and what it took in the LUT's run, milliseconds."""

    architecture: Architecture
    ms: float


def anchors_of(lut: Lut) -> tuple[Anchor, ...]:
    """The networks that tell the level of `lut`, its sentinel first; none if it has no sentinel.

    What a calibrated LUT predicts for its own networks is steadier than what each of them took.
    """
    if lut.sentinel is None:
        return ()
    space, sentinel = lut.search_space, lut.sentinel
    timed = lut.correction.calibration if lut.correction is not None else ()
    if len(timed) < 2:
        network = Architecture.parse(sentinel.architecture, space, head=sentinel.head)
        return (Anchor(network, sentinel.ms),)
    named = dict.fromkeys(
        [(sentinel.architecture, sentinel.head), *((one.layers, one.head) for one in timed)]
    )
    networks = [
        Architecture.parse(layers, space, head=head) for layers, head in list(named)[:_ANCHORS]
    ]
    return tuple(Anchor(network, predict_latency(lut, network).ms) for network in networks)


def levels_of(anchors: Iterable[Anchor], latencies: Iterable[float]) -> tuple[float, ...]:
    """The ratio of what each anchor takes now to what it took; above 1 is slower."""
    return tuple(now / anchor.ms for anchor, now in zip(anchors, latencies, strict=True))


def level_of(anchors: Iterable[Anchor], latencies: Iterable[float]) -> float:
    """The median of `levels_of`."""
    return statistics.median(levels_of(anchors, latencies))
