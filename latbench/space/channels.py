"""Channels under a width multiplier."""


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8, and not down by more than a tenth.

    The rule of MobileNetV2 (Sandler et al., CVPR 2018).
    """
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def expanded_channels(channels: int, expansion: float) -> int:
    """`channels` times `expansion`, rounded as above unless it is a whole number of times."""
    return channels * int(expansion) if expansion % 1 == 0 else scaled_channels(channels, expansion)


def settled_middle(channels: int, expansion: int, width_between: int) -> tuple[int, int]:
    """(expansion, width between) of a block with `channels` inputs, which has one or the other, and 0.

    A width that is a whole number of times the input's channels becomes an expansion, so that each block
    has one key.

    Raises:
        ValueError: both are given, or neither.
    """
    if (expansion > 0) == (width_between > 0):
        raise ValueError("it must have either an expansion or a width between its convolutions")
    if width_between and width_between % channels == 0:
        return width_between // channels, 0
    return expansion, width_between
