"""Ctrl-C while a command is still importing its libraries.

Half-imported libraries answer a KeyboardInterrupt with tracebacks of their own, or swallow it. Before the
work begins there is nothing to clean up, so the process prints "interrupted" and exits at once. Importing
this module installs that handler if one of our commands is running; `work_begins` removes it.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

_COMMANDS = {"latbench", "fbnet-search", "fbnet-train", "__main__"}


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(1)


def work_begins() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, so that runners and files are cleaned up."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if (
    Path(sys.argv[0]).stem in _COMMANDS
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end_at_once)
