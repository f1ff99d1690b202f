"""Zig's compiler in a virtual environment of its own, and what it builds for the arm64 phone."""

import os
import sys
from pathlib import Path

from tests.rigs.debian import call
from tests.rigs.parts import REPOSITORY, ZIG_VERSION, making

# The runner's own door: another Python's compiler cannot be named on the command line.
_BUILD = """
import sys
from latbench.device.native.build import build
build("arm64-linux", zig_python=sys.argv[1])
"""


def fetch_compiler(folder: Path) -> None:
    """Make `folder`, whose `bin/python` has ziglang.

    Raises:
        RigMissing: it cannot be had.
    """
    with making(folder) as new:
        call([sys.executable, "-m", "venv", "--without-pip", str(new)])
        pip = [sys.executable, "-m", "pip", "--python", str(new / "bin/python"), "install"]
        quietly = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        call([*pip, *quietly, f"ziglang=={ZIG_VERSION}"])


def build_runner(folder: Path, compiler: Path) -> None:
    """Make `folder`, a home of latbench's that holds the arm64 runner.

    Raises:
        RigMissing: it does not compile; what it lacks is reported.
    """
    with making(folder) as new:
        call(
            [sys.executable, "-c", _BUILD, compiler / "bin/python"],
            cwd=REPOSITORY,
            env={**os.environ, "LATBENCH_HOME": str(new)},
        )
