"""Builds the native runner and its TorchScript engine, with the tools that are installed here."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from latbench.device.native.files import PROGRAM, TORCHSCRIPT, InstalledFile, host_abi, keep
from latbench.errors import BadRequest, LatbenchError
from latbench.files import shipped

#: CMake presets of `runner/` -> the ABI that they build for; None: this machine's.
PRESETS = {
    "host": None,
    "arm64-linux": "arm64-v8a",
    "android-arm64-v8a": "arm64-v8a",
    "android-armeabi-v7a": "armeabi-v7a",
    "android-x86_64": "x86_64",
}

_SHOWN_LINES = 12  # of a failed build


def build(preset: str, *, zig_python: str = sys.executable) -> InstalledFile:
    """Build the runner with a preset of its CMakePresets.json, and install it for its ABI.

    Args:
        zig_python: the Python that has ziglang, for the presets that compile with Zig.

    Raises:
        BadRequest: there is no such preset.
        LatbenchError: a build tool is missing (the error names it), or the build failed.
        OutputFailed: latbench's home cannot be written.
    """
    if preset not in PRESETS:
        raise BadRequest(f"unknown preset {preset!r}", hint=f"known: {', '.join(PRESETS)}")
    source = shipped("runner")
    if not (source / "CMakeLists.txt").is_file():
        raise LatbenchError(
            "this installation of latbench does not include the runner's source",
            hint="install latbench from a checkout: pip install --editable CHECKOUT",
        )
    options, environment = _toolchain(preset, zig_python)
    cmake = _cmake()
    with TemporaryDirectory(prefix="latbench-runner-") as folder:
        configure = ["--preset", preset, "-B", folder, "-DLATBENCH_TESTS=OFF", *_generator()]
        for words in ([*configure, *options], ["--build", folder, "--target", PROGRAM]):
            _call([cmake, *words], source, environment)
        data = (Path(folder) / PROGRAM).read_bytes()
    return keep(PROGRAM, data, source=f"preset {preset}", version=None)


def build_torchscript(torch: Path | None = None) -> InstalledFile:
    """Build the TorchScript engine for this machine from LibTorch, and install it.

    Args:
        torch: a folder with LibTorch's `include` and `lib`; by default the installed PyTorch.

    Raises:
        LatbenchError: a build tool is missing (the error names it), or the build failed.
        OutputFailed: latbench's home cannot be written.
    """
    spec = importlib.util.find_spec("torch")
    root = torch or (Path(spec.origin).parent if spec is not None and spec.origin else None)
    if root is None or not (root / "include/torch/script.h").is_file():
        raise LatbenchError(
            f"building the TorchScript engine requires LibTorch, but {root} has no headers of it",
            hint="pip install torch, then: latbench runner build --torchscript",
        )
    compiler = (os.environ.get("CXX") or "c++").split()[0]
    if shutil.which(compiler) is None:
        raise LatbenchError(
            f"building the TorchScript engine requires a C++ compiler, but {compiler} was not found",
            hint="Debian: apt install g++; Fedora: dnf install gcc-c++",
        )
    source = shipped("runner") / "plugins"
    with TemporaryDirectory(prefix="latbench-runner-") as folder:
        configure = ["-S", str(source), "-B", folder, f"-DLATBENCH_TORCH={root}", *_generator()]
        for words in (configure, ["--build", folder]):
            _call([_cmake(), *words], source, dict(os.environ))
        data = (Path(folder) / TORCHSCRIPT).read_bytes()
    return keep(TORCHSCRIPT, data, source=str(root), version=None)


def _toolchain(preset: str, zig_python: str) -> tuple[list[str], dict[str, str]]:
    """CMake's options and the environment variables for a preset."""
    environment = dict(os.environ)
    if preset.startswith("android-"):
        roots = [os.environ.get(name) for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")]
        root = next((Path(one) for one in roots if one), None)
        if root is None or not (root / "build/cmake/android.toolchain.cmake").is_file():
            problem = "$ANDROID_NDK_HOME is not set" if root is None else f"{root} holds no NDK"
            raise LatbenchError(
                f"building for Android requires Google's NDK, but {problem}",
                hint="get it (Android Studio: SDK Manager, SDK Tools, NDK; or "
                "https://developer.android.com/ndk/downloads), then "
                f"export ANDROID_NDK_HOME=FOLDER; latbench runner build --preset {preset}",
            )
        return [], environment | {"ANDROID_NDK_HOME": str(root)}
    if preset == "host":
        if host_abi() is None:
            raise LatbenchError(
                f"the runner does not support this machine's processor: {platform.machine()}"
            )
        compiler = os.environ.get("CC", "cc").split()[0]
        if shutil.which(compiler) is None:
            raise LatbenchError(
                f"building for this machine requires a C compiler, but {compiler} was not found",
                hint="Debian: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select --install",
            )
        return [], environment
    if not _has_zig(zig_python):
        raise LatbenchError(
            f"building with the preset {preset} requires Zig, which {zig_python} does not have",
            hint=f"{zig_python} -m pip install ziglang==0.17.1; latbench runner build --preset {preset}",
        )
    return [f"-DLATBENCH_ZIG_PYTHON={zig_python}"], environment


def _has_zig(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("ziglang") is not None
    return subprocess.run([python, "-c", "import ziglang"], capture_output=True).returncode == 0


def _cmake() -> str:
    # pip's cmake, in a virtual environment that is not activated
    beside = Path(sys.executable).with_name("cmake")
    found = shutil.which("cmake") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise LatbenchError(
            "building the runner requires cmake 3.21 or later, which was not found",
            hint="pip install cmake ninja, or Debian: apt install cmake make",
        )
    return found


def _generator() -> list[str]:
    beside = Path(sys.executable).with_name("ninja")
    ninja = shutil.which("ninja") or (str(beside) if beside.is_file() else None)
    return [] if ninja is None else ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]


def _call(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise LatbenchError(
            f"building the runner failed: {' '.join(command[:4])} …", details=lines[-_SHOWN_LINES:]
        )
