"""Export ops and architectures as files that runtimes load. Imports PyTorch."""

from latbench.export.exporter import (
    export_architecture,
    export_module,
    export_op,
    export_ops,
    export_space,
    require_writer,
)
from latbench.export.store import Artifact, ArtifactStore

__all__ = [
    "Artifact",
    "ArtifactStore",
    "export_architecture",
    "export_module",
    "export_op",
    "export_ops",
    "export_space",
    "require_writer",
]
