"""Ctrl-C while a command is still importing what it needs.

Libraries half imported turn a KeyboardInterrupt into tracebacks of their own, or swallow it. Until
work begins there is nothing to tidy up, so a command then just says so and ends. Importing this
module arms that, where a command of ours is what is running; `work_begins` disarms it.
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
    """From here on Ctrl-C raises KeyboardInterrupt, so that runners and files are tidied up."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if (
    Path(sys.argv[0]).stem in _COMMANDS
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end_at_once)
