"""The parts that rigs are made of, kept in a cache: adbd, the arm64 system, the arm64
runtimes, a compiler.

A part's folder is named after everything that decides what is in it, so that a change makes a new
one. `python -m tests.rigs.setup` makes those that are missing.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent.parent / "constraints.txt"
ADBD_VERSION = "29.0.6"
ZIG_VERSION = "0.17.1"
ARM64_PACKAGES = ("libc6", "libcrypt1", "libgcc-s1", "libstdc++6", "mksh", "toybox")
RUNTIMES = {"onnxruntime": "capi/libonnxruntime.so.*", "ai-edge-litert": "libLiteRt.so"}


class RigMissing(Exception):
    """Something that a rig needs is not there; the message says what, and what to do."""


@dataclass(frozen=True)
class Parts:
    """Where the parts are.

    Attributes:
        adbd: holds `adbd` and the libraries that it loads.
        system: the arm64 part of a phone: `system/bin`, `lib`, `usr/lib`.
        runtimes: holds `libonnxruntime.so` and `libLiteRt.so` for arm64 Linux.
        compiler: a virtual environment with Zig's compiler, which builds the arm64 runner.
    """

    adbd: Path
    system: Path
    runtimes: Path
    compiler: Path

    def missing(self) -> list[Path]:
        """Those of a phone that are not there; it runs without a compiler."""
        return [part for part in (self.adbd, self.system, self.runtimes) if not part.is_dir()]


def default_cache() -> Path:
    """Where parts are kept: $LATBENCH_RIGS, else ~/.cache/latbench-rigs."""
    chosen = os.environ.get("LATBENCH_RIGS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "latbench-rigs"


def parts(cache: Path) -> Parts:
    """Where the parts of this checkout are, or will be, below `cache`."""
    made_of = ("Makefile", "standard.hpp", "properties.cpp", "build.py")
    adbd = [(HERE / "adbd" / name).read_bytes() for name in made_of]
    system = [(HERE / "phone" / "arm64.py").read_bytes(), " ".join(ARM64_PACKAGES).encode()]
    versions = runtime_versions()
    return Parts(
        adbd=cache / f"adbd-{ADBD_VERSION}-{_digest(adbd)}",
        system=cache / f"arm64-system-{_digest(system)}",
        runtimes=cache
        / "-".join(["arm64-runtimes", *(f"{name}-{versions[name]}" for name in RUNTIMES)]),
        compiler=cache / f"ziglang-{ZIG_VERSION}",
    )


def runtime_versions() -> dict[str, str]:
    """The version of each runtime that constraints.txt pins."""
    pinned = dict(
        line.split("==", 1) for line in CONSTRAINTS.read_text().splitlines() if "==" in line
    )
    return {name: pinned[name] for name in RUNTIMES}


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when all went well.

    Should somebody else have made `folder` meanwhile, theirs stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        yield new
        new.chmod(0o755)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _digest(contents: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:12]
