"""The shipped search spaces, networks and releases: one import for each space's file."""

from latbench.space.fbnet import (
    CANDIDATES,
    DEFAULT_RELEASE,
    DEFAULT_SPACE,
    MACRO_ARCHITECTURES,
    PUBLISHED,
    RELEASES,
    SENTINEL,
)

__all__ = [
    "CANDIDATES",
    "DEFAULT_RELEASE",
    "DEFAULT_SPACE",
    "MACRO_ARCHITECTURES",
    "PUBLISHED",
    "RELEASES",
    "SENTINEL",
]
