"""The arm64 parts of the phone: a small system from Debian, the runtimes from their wheels."""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from tests.rigs.debian import call, fetch_packages
from tests.rigs.parts import ARM64_PACKAGES, RUNTIMES, making, runtime_versions

# Programs of toybox that a phone has otherwise: a shell, and stand-ins of ours.
_NOT_TOYBOX = {"sh", "su", "login", "getprop", "setprop"}
# Wheels of today, newest first; any that glibc of ARM64_PACKAGES can run.
_PLATFORMS = (
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_26",
    "manylinux_2_17",
    "manylinux2014",
)


def build_system(folder: Path) -> None:
    """Make `folder` with `system/bin` (mksh as sh, toybox) and the libraries of glibc and GCC.

    Raises:
        RigMissing: the packages cannot be had, or qemu does not run what is in them.
    """
    with TemporaryDirectory(prefix="latbench-arm64-") as scratch, making(folder) as made:
        work = Path(scratch)
        unpacked = work / "unpacked"
        packages = fetch_packages(ARM64_PACKAGES, "arm64", work)
        for package in packages:
            call(["dpkg-deb", "--extract", package, unpacked])
        programs = made / "system" / "bin"
        programs.mkdir(parents=True)
        # Of Debian's builds of mksh this one needs no library, as a phone's shell always works.
        shutil.copy(unpacked / "usr/lib/aarch64-linux-musl/bin/mksh", programs / "sh")
        shutil.copy(unpacked / "bin/toybox", programs)
        for libraries in ("lib", "usr/lib/aarch64-linux-gnu"):
            shutil.copytree(
                unpacked / libraries,
                made / libraries,
                symlinks=True,
                ignore=shutil.ignore_patterns("gconv"),
            )
        for name in call(["qemu-aarch64-static", "-L", made, programs / "toybox"]).split():
            if name not in _NOT_TOYBOX and name != "toybox":
                (programs / name).symlink_to("toybox")
        versions = "".join(f"{package.name}\n" for package in packages)
        (made / "versions.txt").write_text(versions)


def fetch_runtimes(folder: Path) -> None:
    """Make `folder` with `libonnxruntime.so` and `libLiteRt.so`, of the pinned versions.

    Raises:
        RigMissing: there are no such wheels.
    """
    with TemporaryDirectory(prefix="latbench-wheels-") as scratch, making(folder) as made:
        wanted = [f"{name}=={version}" for name, version in runtime_versions().items()]
        platforms = [word for one in _PLATFORMS for word in ("--platform", f"{one}_aarch64")]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        only = ["--no-deps", "--only-binary=:all:", *platforms]
        call([*pip, *only, "--dest", scratch, *wanted])
        for name, pattern in RUNTIMES.items():
            package = name.replace("-", "_")
            wheel = next(Path(scratch).glob(f"{package}-*.whl"))
            _extract(wheel, f"{package}/{pattern}", made)


def _extract(wheel: Path, pattern: str, into: Path) -> None:
    """Copy the one file of a wheel that matches; a version after .so is dropped from its name."""
    with ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if Path(name).match(pattern)]
        target = into / f"{Path(member).name.partition('.so')[0]}.so"
        with archive.open(member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        target.chmod(0o755)
