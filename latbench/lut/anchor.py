"""How much slower a device runs now than in the run that a LUT was built from.

The slowdown varies between processes and days, and a single network misses it by about 1 %, depending on
where its memory lies. So up to five of the networks that the LUT was built from are timed again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from latbench.lut.predict import predict_latency
from latbench.lut.schema import Lut
from latbench.space.architecture import Architecture

_ANCHORS = 5


@dataclass(frozen=True)
class Anchor:
    """A network to time again, and its latency in the LUT's run, milliseconds."""

    architecture: Architecture
    ms: float


def anchors_of(lut: Lut) -> tuple[Anchor, ...]:
    """The anchors of `lut`, its sentinel first; none if it has no sentinel.

    A calibrated LUT's prediction for a network it was fitted to varies less than that network's measurement.
    """
    if lut.sentinel is None:
        return ()
    space, sentinel = lut.search_space, lut.sentinel
    timed = lut.correction.calibration if lut.correction is not None else ()
    if len(timed) < 2:
        network = Architecture.parse(sentinel.architecture, space, head=sentinel.head)
        return (Anchor(network, sentinel.ms),)
    distinct = dict.fromkeys(
        [(sentinel.architecture, sentinel.head), *((one.layers, one.head) for one in timed)]
    )
    networks = [
        Architecture.parse(layers, space, head=head) for layers, head in list(distinct)[:_ANCHORS]
    ]
    return tuple(Anchor(network, predict_latency(lut, network).ms) for network in networks)


def slowdowns_of(anchors: Iterable[Anchor], latencies: Iterable[float]) -> tuple[float, ...]:
    """The slowdown that each anchor shows: `latencies` (ms, now) over the LUT's run; above 1 is slower."""
    return tuple(now / anchor.ms for anchor, now in zip(anchors, latencies, strict=True))
