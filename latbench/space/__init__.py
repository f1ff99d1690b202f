"""Search spaces, ops and architectures.

`latbench.space.blocks` has the PyTorch modules; it is imported only where PyTorch is needed.
"""

from latbench.space import families as families  # so that every kind of op is known
from latbench.space.architecture import Architecture, published, read_architecture
from latbench.space.macro import SKIP, Candidate
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import CANDIDATES, MACRO_ARCHITECTURES, PUBLISHED, RELEASES

__all__ = [
    "CANDIDATES",
    "MACRO_ARCHITECTURES",
    "PUBLISHED",
    "RELEASES",
    "SKIP",
    "Architecture",
    "Candidate",
    "OpSpec",
    "SearchSpace",
    "parse_key",
    "published",
    "read_architecture",
]
