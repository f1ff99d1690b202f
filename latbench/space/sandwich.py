"""The context in which an op is timed: a sandwich `frame -> op -> frame`.

A block timed alone has costs at its edges that it does not have inside a network: layout conversions,
dispatch, cold inputs. In a sandwich its edges are inner ones. A frame is a 1x1 convolution that keeps the
number of channels, and its cost is taken as half that of two frames in a row:

    op = sandwich - pair(before) / 2 - pair(after) / 2

The stem has no frame before it, the head none after it. Pool and classifier have no frames: with as many
channels as the head has, a frame would cost many times what they do.
"""

from latbench.space.families.conv import Frame
from latbench.space.opspec import OpSpec


def frames_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The frames of `op`: before it and after it, as far as it has them."""
    return tuple(one for one in sandwich_of(op) if one is not op)


def sandwich_of(op: OpSpec) -> tuple[OpSpec, ...]:
    """The ops that are timed for `op`, in sequence: the op between its frames."""
    framed_before, framed_after = op.framed
    before = (_frame(op.input_shape),) if framed_before else ()
    after = (_frame(op.output_shape),) if framed_after else ()
    return (*before, op, *after)


def _frame(shape: tuple[int, ...]) -> OpSpec:
    batch, channels, height, width = shape
    return Frame(in_channels=channels, height=height, width=width, batch=batch)
