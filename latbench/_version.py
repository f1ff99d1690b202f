"""The version of latbench; every file it writes says which one wrote it."""

__version__ = "0.1.0"
