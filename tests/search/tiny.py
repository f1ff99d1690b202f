"""Spaces in which a search takes a fraction of a second; both have identities and changes of shape."""

from latbench.space.macro import MacroArchitecture, Stage
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import MACRO_ARCHITECTURES

TINY = MacroArchitecture(
    "tiny", (8,), 8, 8, 1, (Stage(8, 2, 1), Stage(16, 2, 2), Stage(24, 2, 2)), (64,), 10
)
MICRO = MacroArchitecture("micro", (8,), 8, 8, 1, (Stage(8, 1, 1), Stage(16, 2, 2)), (64,), 10)


def tiny_space() -> SearchSpace:
    """The space of six layers, which LUTs can name from now on."""
    return _known(TINY)


def micro_space() -> SearchSpace:
    """The space of three layers, which LUTs can name from now on."""
    return _known(MICRO)


def _known(macro: MacroArchitecture) -> SearchSpace:
    MACRO_ARCHITECTURES[macro.name] = macro
    return SearchSpace.named(macro.name)


def forget() -> None:
    """Take the spaces away again, for tests of what is known."""
    for macro in (TINY, MICRO):
        MACRO_ARCHITECTURES.pop(macro.name, None)
