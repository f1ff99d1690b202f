"""What the iPhone rig needs besides the project's own environment: python -m tests.rigs.ios_tools

Debian packages if we are root, and go-ios, pymobiledevice3 and Zig's compiler in folders of the cache. What
is there already is left alone. go-ios and pymobiledevice3 are used as programs only.
"""

import shutil
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.rigs import debian
from tests.rigs.parts import RigMissing, default_cache, making

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
ZIGLANG = "0.17.1"


@dataclass(frozen=True)
class Tools:
    """Programs that are no Debian packages; they may not be there."""

    go_ios: Path
    pymobiledevice3: Path
    zig_python: Path


def tools(cache: Path | None = None) -> Tools:
    """Where the tools are, or will be."""
    root = default_cache() if cache is None else cache
    python = root / f"ios-python-{PYMOBILEDEVICE3}-{ZIGLANG}" / "bin"
    return Tools(
        root / f"go-ios-{GO_IOS}" / "node_modules/go-ios/dist/go-ios-linux-amd64_linux_amd64/ios",
        python / "pymobiledevice3",
        python / "python",
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
    if not found.go_ios.is_file() and shutil.which("npm") is None:
        print("left out    go-ios: there is no npm to fetch it", flush=True)
    elif not found.go_ios.is_file():
        print(f"fetching    go-ios {GO_IOS}", flush=True)
        folder = found.go_ios.parents[4]
        with making(folder) as new:
            debian.call(["npm", "install", "--ignore-scripts", "--prefix", new, f"go-ios@{GO_IOS}"])
        found.go_ios.chmod(0o755)
    if not found.pymobiledevice3.exists():
        print(f"fetching    pymobiledevice3 {PYMOBILEDEVICE3}, ziglang {ZIGLANG}", flush=True)
        _make_python(found.zig_python.parents[1])
    return found


def _make_python(folder: Path) -> None:
    """A virtual environment cannot be moved, so it is made where it stays; a mark says it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    venv.create(folder, with_pip=True, clear=True)
    wanted = [f"pymobiledevice3=={PYMOBILEDEVICE3}", f"ziglang=={ZIGLANG}"]
    debian.call([folder / "bin/python", "-m", "pip", "install", "--quiet", *wanted])


if __name__ == "__main__":
    sys.exit(main())
