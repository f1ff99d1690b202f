"""Search spaces, ops and architectures.

`latbench.space.blocks` builds PyTorch modules; it is imported only where PyTorch is needed.
"""

from latbench.space import families as families  # so that every family is known
from latbench.space.architecture import Architecture, published, read_architecture
from latbench.space.candidate import Candidate
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.search_space import SearchSpace

__all__ = [
    "Architecture",
    "Candidate",
    "OpSpec",
    "SearchSpace",
    "parse_key",
    "published",
    "read_architecture",
]
