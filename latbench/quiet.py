"""Keep notices of libraries out of the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def without_notices(notice: Callable[[bytes], object]) -> Iterator[None]:
    """Drop those lines of stderr, from C++ too, for which `notice` is true; print the others at the end."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            caught.seek(0)
            for line in caught:
                if not notice(line):
                    os.write(2, line)
