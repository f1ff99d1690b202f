"""The programs `fbnet-search` and `fbnet-train`; nothing heavy is imported before it is needed."""

from latbench.cli import interrupt  # isort: skip  # first of all: it arms Ctrl-C
from fbnet_search.cli.search import search_main
from fbnet_search.cli.train import train_main

__all__ = ["interrupt", "search_main", "train_main"]
