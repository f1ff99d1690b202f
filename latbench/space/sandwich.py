"""The context in which an op is timed: a sandwich `frame -> op -> frame`.

A block timed alone has costs at its edges that it does not have inside a network: layout conversions,
dispatch, cold inputs. In a sandwich its edges are inner ones. A frame is a 1x1 convolution that keeps the
number of channels, and its cost is taken as half that of two frames in a row:

    op = sandwich - pair(before) / 2 - pair(after) / 2

The stem has no frame before it, the head none after it. Pool and classifier have no frames: with as many
channels as the head has, a frame would cost many times what they do.
"""

from latbench.space.opspec import OpKind, OpSpec

_NONE_BEFORE = frozenset({OpKind.STEM, OpKind.POOL, OpKind.CLASSIFIER, OpKind.FRAME})
_NONE_AFTER = frozenset({OpKind.HEAD, OpKind.POOL, OpKind.CLASSIFIER, OpKind.FRAME})


def frames_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The frames of `op`: before it and after it, as far as it has them."""
    frames = []
    if op.kind not in _NONE_BEFORE:
        frames.append(_frame(op.input_shape))
    if op.kind not in _NONE_AFTER:
        frames.append(_frame(op.output_shape))
    return tuple(frames)


def sandwich_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The ops that are timed for `op`, in sequence: the op between its frames."""
    before = () if op.kind in _NONE_BEFORE else (_frame(op.input_shape),)
    after = () if op.kind in _NONE_AFTER else (_frame(op.output_shape),)
    return (*before, op, *after)


def _frame(shape: tuple[int, ...]) -> OpSpec:
    _, channels, height, width = shape
    return OpSpec(OpKind.FRAME, channels, channels, height, width)
