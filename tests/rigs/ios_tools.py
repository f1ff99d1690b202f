"""Prepares the iPhone rig: python -m tests.rigs.ios_tools

Debian packages if we are root, and go-ios, pymobiledevice3, TensorFlow Lite and Zig's compiler in folders of
the cache; the compiler is that of the arm64 phone. What is there already is left alone. go-ios and
pymobiledevice3 are used as programs only.
"""

import hashlib
import shutil
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.rigs import debian
from tests.rigs.compiler import fetch_compiler
from tests.rigs.parts import RigMissing, default_cache, making, parts

PACKAGES = {
    "libimobiledevice-utils": "idevice_id, ideviceinfo, idevicepair",
    "libusbmuxd-tools": "iproxy",
    "libgnustep-base-dev": "Foundation's headers, for the shell's syntax",
    "gobjc": "the Objective-C runtime's headers",
    "clang": "reads Objective-C",
    "libclang-rt-dev": "clang's sanitizers and libFuzzer",
    "cmake": "builds the companion app",
}
GO_IOS = "1.2.0"
PYMOBILEDEVICE3 = "11.45.0"
#: Holds TensorFlow Lite 2.9.0 with the C API of iOS's TensorFlowLiteC; Apache 2.0.
TFLITE_PACKAGE = "tfjs-tflite-node"
TFLITE_VERSION = "0.0.2"
TFLITE_SHA256 = "3be1632328a76a2475e5b6833253763c802c859433becb4d879ee1860e3b5284"


@dataclass(frozen=True)
class Tools:
    """Programs and libraries that are no Debian packages; they may not be there.

    Attributes:
        tflite: holds linux_amd64/libtensorflowlite_c.so, and darwin_arm64/libtensorflowlite_c.dylib.
    """

    go_ios: Path
    pymobiledevice3: Path
    zig_python: Path
    tflite: Path


def tools(cache: Path | None = None) -> Tools:
    """Where the tools are, or will be."""
    root = default_cache() if cache is None else cache
    python = root / f"ios-python-{PYMOBILEDEVICE3}" / "bin"
    return Tools(
        root / f"go-ios-{GO_IOS}" / "node_modules/go-ios/dist/go-ios-linux-amd64_linux_amd64/ios",
        python / "pymobiledevice3",
        parts(root).compiler / "bin/python",
        root / f"{TFLITE_PACKAGE}-{TFLITE_VERSION}",
    )


def main() -> int:
    """Run the command; the exit status."""
    try:
        prepare()
    except RigMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare() -> Tools:
    """Do what is left to do, and say so on standard output.

    Raises:
        RigMissing: this machine cannot run the rig, or something could not be had.
    """
    if sys.platform != "linux" or not Path("/usr/bin/dpkg").exists():
        raise RigMissing("the rig needs Debian or a derivative of it")
    missing = debian.missing_packages(PACKAGES)
    if missing:
        print(f"installing  {', '.join(missing)}", flush=True)
        debian.install(missing)
    found = tools()
    if not found.pymobiledevice3.exists():
        print(f"fetching    pymobiledevice3 {PYMOBILEDEVICE3}", flush=True)
        _make_python(found.pymobiledevice3.parents[1])
    if not found.zig_python.exists():
        print("fetching    Zig's compiler", flush=True)
        fetch_compiler(found.zig_python.parents[1])
    fetched = found.go_ios.is_file() and found.tflite.is_dir()
    if not fetched and shutil.which("npm") is None:
        print("left out    go-ios, TensorFlow Lite: there is no npm to fetch them", flush=True)
        return found
    if not found.tflite.is_dir():
        print(f"fetching    TensorFlow Lite, from {TFLITE_PACKAGE} {TFLITE_VERSION}", flush=True)
        _fetch_tflite(found.tflite)
    if not found.go_ios.is_file():
        print(f"fetching    go-ios {GO_IOS}", flush=True)
        folder = found.go_ios.parents[4]
        with making(folder) as new:
            debian.call(["npm", "install", "--ignore-scripts", "--prefix", new, f"go-ios@{GO_IOS}"])
        found.go_ios.chmod(0o755)
    return found


def _make_python(folder: Path) -> None:
    """A virtual environment cannot be moved, so it is made where it stays; a mark says it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    venv.create(folder, with_pip=True, clear=True)
    wanted = f"pymobiledevice3=={PYMOBILEDEVICE3}"
    debian.call([folder / "bin/python", "-m", "pip", "install", "--quiet", wanted])


def _fetch_tflite(folder: Path) -> None:
    """Take the libraries out of the package; none of its scripts is run."""
    with making(folder) as new:
        wanted = f"{TFLITE_PACKAGE}@{TFLITE_VERSION}"
        debian.call(["npm", "pack", "--silent", "--pack-destination", new, wanted])
        archive = new / f"{TFLITE_PACKAGE}-{TFLITE_VERSION}.tgz"
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != TFLITE_SHA256:
            raise RigMissing(f"{wanted} hashes to {found}, not to {TFLITE_SHA256}")
        with tarfile.open(archive) as package:
            for name in (
                "linux_amd64/libtensorflowlite_c.so",
                "darwin_arm64/libtensorflowlite_c.dylib",
            ):
                member = package.extractfile(f"package/cc_deps/{name}")
                assert member is not None, "as of that hash"
                (new / name).parent.mkdir()
                (new / name).write_bytes(member.read())
        archive.unlink()


if __name__ == "__main__":
    sys.exit(main())
