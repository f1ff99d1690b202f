"""Keep what libraries say unasked out of the user's terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def without_notices(notice: Callable[[bytes], object]) -> Iterator[None]:
    """Drop the lines of standard error, from C++ too, that are a `notice`; the others come at the end."""
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
