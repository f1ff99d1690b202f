"""The parts that rigs are made of, kept in a cache: adbd, the arm64 system, the arm64
runtimes, a compiler, the arm64 runner, LibTorch for arm64.

A part's folder is named after everything that decides what is in it, so that a change makes a new
one. `python -m tests.rigs.setup` makes those that are missing.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
CONSTRAINTS = REPOSITORY / "constraints.txt"
ADBD_VERSION = "29.0.6"
ZIG_VERSION = "0.17.1"
ARM64_PACKAGES = ("libc6", "libcrypt1", "libgcc-s1", "libstdc++6", "mksh", "toybox")
RUNTIMES = {"onnxruntime": "capi/libonnxruntime.so.*", "ai-edge-litert": "libLiteRt.so"}
# What decides how the runner is built, and what the plugin for TorchScript.
RUNNER_SOURCES = ("runner/CMake*", "runner/cmake/*", "runner/core/*")
PLUGIN_SOURCES = ("runner/core/*", "runner/plugins/*", "tests/rigs/phone/torchscript.py")


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
        runner: a home of latbench's with that runner and nothing else.
        torchscript: LibTorch's libraries for arm64 and the plugin for it; made only where it is asked for.
    """

    adbd: Path
    system: Path
    runtimes: Path
    compiler: Path
    runner: Path
    torchscript: Path

    def missing(self) -> list[Path]:
        """Those of a phone that are not there; it runs without the rest."""
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
        runner=cache / f"arm64-runner-{ZIG_VERSION}-{_digest(_contents(RUNNER_SOURCES))}",
        torchscript=cache / f"arm64-torch-{torch_version()}-{_digest(_contents(PLUGIN_SOURCES))}",
    )


def runtime_versions() -> dict[str, str]:
    """The version of each runtime that constraints.txt pins."""
    pinned = _pinned()
    return {name: pinned[name] for name in RUNTIMES}


def torch_version() -> str:
    """The version of torch that constraints.txt pins."""
    return _pinned()["torch"]


def _pinned() -> dict[str, str]:
    return dict(
        line.split("==", 1) for line in CONSTRAINTS.read_text().splitlines() if "==" in line
    )


def _contents(patterns: Iterable[str]) -> list[bytes]:
    files = {file for pattern in patterns for file in REPOSITORY.glob(pattern) if file.is_file()}
    return [file.read_bytes() for file in sorted(files)]


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
