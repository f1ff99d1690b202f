"""The shipped search spaces, networks and releases: one import a space's file."""

from latbench.space.fbnet import CANDIDATES, MACRO_ARCHITECTURES, PUBLISHED, RELEASES

__all__ = ["CANDIDATES", "MACRO_ARCHITECTURES", "PUBLISHED", "RELEASES"]
