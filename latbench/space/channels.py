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
