"""Spaces in which a search takes a fraction of a second; both have identities and changes of shape."""

from collections.abc import Sequence

from latbench.space import SearchSpace
from latbench.space.definition import SpaceDefinition


def space_of(
    name: str,
    stages: Sequence[tuple[int, int, int]],
    *,
    size: int = 8,
    head: int = 64,
    stem: int = 8,
    stride: int = 1,
) -> SearchSpace:
    """A space with FBNet's candidates: stages as (channels, layers, stride), ten classes."""
    candidates = SearchSpace.named("fbnet").definition.candidates
    definition = SpaceDefinition.model_validate(
        {
            "name": name,
            "classes": 10,
            "input": {"size": size, "multiple": 8},
            "stem": {"channels": stem, "stride": stride},
            "stages": [
                {"channels": channels, "layers": layers, "stride": first}
                for channels, layers, first in stages
            ],
            "head": head,
            "candidates": list(candidates),
            "skip_projection": True,
        }
    )
    return SearchSpace.of(definition)


def tiny_space() -> SearchSpace:
    """The space of six layers."""
    return space_of("tiny", [(8, 2, 1), (16, 2, 2), (24, 2, 2)])


def micro_space() -> SearchSpace:
    """The space of three layers."""
    return space_of("micro", [(8, 1, 1), (16, 2, 2)])
