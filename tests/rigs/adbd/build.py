"""Build adbd from Debian's source package, with the libraries that it loads beside it."""

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rigs.debian import call, fetch_source
from tests.rigs.parts import ADBD_VERSION, RigMissing, making

MAKEFILE = Path(__file__).with_name("Makefile")
# A packet for the framework is freed before it is written. What follows writes it first.
_AUTH = "frameworks/native/libs/adbd_auth/adbd_auth.cpp"
_FREED_FIRST = """\
        output_queue_.pop_front();

        ssize_t rc = writev(framework_fd_.get(), iovs, 2);
"""
_WRITTEN_FIRST = """\
        ssize_t rc = writev(framework_fd_.get(), iovs, 2);
        output_queue_.pop_front();
"""


def build_adbd(folder: Path) -> None:
    """Make `folder` with `adbd`, `ld.so` to start it by, and every library it needs.

    It is started as `ld.so --library-path FOLDER FOLDER/adbd`, so that it runs in a root where
    nothing else of this machine is.

    Raises:
        RigMissing: the source cannot be had, or does not compile.
    """
    with TemporaryDirectory(prefix="latbench-adbd-") as scratch, making(folder) as made:
        work = Path(scratch)
        source = fetch_source("android-platform-tools", ADBD_VERSION, work)
        _replace(source / _AUTH, _FREED_FIRST, _WRITTEN_FIRST)
        jobs = str(len(os.sched_getaffinity(0)))
        call(["make", "-j", jobs, "-f", MAKEFILE, f"SOURCE={source}"], cwd=work)
        call(["strip", work / "adbd"])
        shutil.copy(work / "adbd", made)
        for library in re.findall(r"(/\S+)", call(["ldd", work / "adbd"])):
            name = Path(library).name
            shutil.copy(library, made / ("ld.so" if name.startswith("ld-linux") else name))


def _replace(file: Path, old: str, new: str) -> None:
    """Replace what must stand in a file exactly once."""
    text = file.read_text()
    if text.count(old) != 1:
        raise RigMissing(f"{file.name} is not the one that the rig corrects; it lacks:\n{old}")
    file.write_text(text.replace(old, new))
