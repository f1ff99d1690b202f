"""The company in which an op is timed: a sandwich `frame -> op -> frame`.

A block timed alone pays for its edges what it does not pay inside a network: layout reorders,
dispatch, cold inputs. In a sandwich its edges are inner ones. A frame is a 1x1 convolution that keeps
the channels, and costs half of what two in a row cost:

    op = sandwich - pair(before) / 2 - pair(after) / 2

The stem has no frame before it. Head, pool and classifier have none after them, and pool and
classifier none at all: as wide as the head is, a frame would cost many times what they do.
"""

from latbench.space.opspec import OpKind, OpSpec

_NONE_BEFORE = frozenset({OpKind.STEM, OpKind.POOL, OpKind.CLASSIFIER, OpKind.FRAME})
_NONE_AFTER = frozenset({OpKind.HEAD, OpKind.POOL, OpKind.CLASSIFIER, OpKind.FRAME})


def frames_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The frames around `op`: before and after it, where it has them."""
    frames = []
    if op.kind not in _NONE_BEFORE:
        frames.append(_frame(op.input_shape))
    if op.kind not in _NONE_AFTER:
        frames.append(_frame(op.output_shape))
    return tuple(frames)


def sandwich_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The ops that are timed for `op`, in sequence: itself between its frames."""
    before = () if op.kind in _NONE_BEFORE else (_frame(op.input_shape),)
    after = () if op.kind in _NONE_AFTER else (_frame(op.output_shape),)
    return (*before, op, *after)


def _frame(shape: tuple[int, ...]) -> OpSpec:
    _, channels, height, width = shape
    return OpSpec(OpKind.FRAME, channels, channels, height, width)
