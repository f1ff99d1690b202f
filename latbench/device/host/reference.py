"""A workload that uses no inference engine, to distinguish a changed machine from a changed engine.

It is the 1x1 convolutions of MobileNetV2 at 224 pixels (Sandler et al., CVPR 2018, table 2) as matrix
products in NumPy: about 10 ms, with the weights and memory traffic of a whole network, since small workloads
are hardly affected by the use of shared caches and memory by others. On an AMD EPYC the slowdown of six
networks, in twelve sessions of 8 s, varied by 1.7 % (standard deviation); divided by that of this chain by
0.7 %, by that of one large matrix product by 1.1 %.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Its name, with versions: only times of the same workload can be compared.
WORKLOAD = f"1x1 convolutions of MobileNetV2, NumPy {np.__version__}"

#: Expansion, output channels, repeats, stride of the first (table 2 of the paper).
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS, _STEM_SIZE, _HEAD_CHANNELS = 32, 112, 1280

Matrix = NDArray[np.float32]


class ReferenceWorkload:
    """The workload, ready to run; all instances do the same work."""

    def __init__(self) -> None:
        shapes = list(_shapes())
        rng = np.random.default_rng(0)
        self._weights = [rng.standard_normal(weight, np.float32) for weight, _ in shapes]
        # Two alternating buffers, as in an engine's arena.
        size = max(max(rows, inner) * pixels for (rows, inner), pixels in shapes)
        self._buffers = (rng.standard_normal(size, np.float32), np.empty(size, np.float32))
        self._pixels = [pixels for _, pixels in shapes]

    def run(self) -> None:
        """Run the workload once."""
        source, target = self._buffers
        for weight, pixels in zip(self._weights, self._pixels, strict=True):
            rows, inner = weight.shape
            read = source[: inner * pixels].reshape(inner, pixels)
            np.matmul(weight, read, out=target[: rows * pixels].reshape(rows, pixels))


def _shapes() -> Iterator[tuple[tuple[int, int], int]]:
    """(rows, columns) of each weight, and the pixels it is applied to."""
    channels, size = _STEM_CHANNELS, _STEM_SIZE
    for expansion, output, repeats, first_stride in _STAGES:
        for stride in itertools.chain([first_stride], [1] * (repeats - 1)):
            expanded = expansion * channels
            if expansion > 1:
                yield (expanded, channels), size * size
            size //= stride
            yield (output, expanded), size * size
            channels = output
    yield (_HEAD_CHANNELS, channels), size * size
