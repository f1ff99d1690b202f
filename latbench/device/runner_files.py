"""The runner and the engines for phones, in latbench's home: built here, or taken from what the user has.

    runners/<abi>/latbench-runner     built by `build`
    runners/<abi>/libonnxruntime.so   taken out of an .aar, a wheel, or as it is, by `install`
    runners/<abi>/libLiteRt.so        or libtensorflowlite_jni.so, libtensorflowlite_c.so
    runners/<abi>/pins.json           what each must hash to, and where it came from

Nothing is downloaded. What was installed is never silently replaced: a run that continues must not
find another engine.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError
from latbench.files import home, sha256_of, shipped, write_atomically

PROGRAM = "latbench-runner"
#: Library -> the runner's option that names it. Of those with one option a phone has one; where a file holds
#: several, the first of them.
ENGINES = {
    "libonnxruntime.so": "--onnxruntime",
    "libLiteRt.so": "--litert",
    "libtensorflowlite_jni.so": "--litert",
    "libtensorflowlite_c.so": "--litert",
}
#: The engine for TorchScript, in C++ around LibTorch; for this machine's own runner, not for phones.
TORCHSCRIPT = "liblatbench-torchscript.so"
#: CMake presets of `runner/` -> the ABI that they build for; None: this machine's.
PRESETS = {
    "host": None,
    "arm64-linux": "arm64-v8a",
    "android-arm64-v8a": "arm64-v8a",
    "android-armeabi-v7a": "armeabi-v7a",
    "android-x86_64": "x86_64",
}

_ABIS = {0xB7: "arm64-v8a", 0x28: "armeabi-v7a", 0x3E: "x86_64", 0x03: "x86"}  # e_machine, elf(5)
_HOST_ABIS = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}
_GLIBC = b"\0libc.so.6\0"  # as a name of what is needed; Android's is libc.so
_PINS = "pins.json"
_SHOWN_LINES = 12


@dataclass(frozen=True)
class InstalledFile:
    """One file for phones of one ABI.

    Attributes:
        source: where it came from: a preset, or a file's name.
        version: of the engine, where the file that it came out of tells; else None.
        libc: android, or glibc, which no phone but an emulated one has.
    """

    abi: str
    path: Path
    sha256: str
    source: str
    version: str | None
    libc: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def installed(abi: str | None = None) -> list[InstalledFile]:
    """What is there for phones of this ABI, or of every one.

    Raises:
        LatbenchError: a file is not what it was when it was installed.
    """
    folders = [_folder(abi)] if abi else sorted(_root().glob("*"))
    return [file for folder in folders for file in _pinned(folder)]


def program_for(abi: str, *, emulated: bool) -> list[InstalledFile]:
    """The runner and the engines for a phone of this ABI, the runner first.

    Raises:
        DeviceUnavailable: there is no runner, no engine, or one that no real phone can run.
        LatbenchError: as `installed`.
    """
    found = [file for file in installed(abi) if file.name != TORCHSCRIPT]
    files = sorted(found, key=lambda file: file.name != PROGRAM)
    build = f"latbench runner build --preset android-{abi}"
    if not files or files[0].name != PROGRAM:
        raise DeviceUnavailable(f"there is no runner for phones of the ABI {abi} yet", hint=build)
    if len(files) == 1:
        raise DeviceUnavailable(
            f"there is no engine for phones of the ABI {abi} yet",
            hint="latbench runner install --engine FILE, with the .aar of ONNX Runtime "
            "(onnxruntime-android) or LiteRT",
        )
    foreign = [] if emulated else [file for file in files if file.libc == "glibc"]
    if foreign:
        again = (
            build if foreign[0].name == PROGRAM else "latbench runner install --replace --engine"
        )
        raise DeviceUnavailable(
            f"{foreign[0].path} is for Linux with glibc, not for Android (from {foreign[0].source})",
            hint=again if foreign[0].name == PROGRAM else f"{again} FILE, with an Android .aar",
        )
    return files


def build(preset: str, *, zig_python: str = sys.executable) -> InstalledFile:
    """Build the runner by a preset of its CMakePresets.json, and keep it for its ABI.

    Args:
        zig_python: the Python whose ziglang is used, by the presets that need it.

    Raises:
        BadRequest: there is no such preset.
        LatbenchError: something is missing that building takes (it is named), or building failed.
        OutputFailed: latbench's home cannot be written.
    """
    if preset not in PRESETS:
        raise BadRequest(f"unknown preset {preset!r}", hint=f"known: {', '.join(PRESETS)}")
    source = shipped("runner")
    if not (source / "CMakeLists.txt").is_file():
        raise LatbenchError(
            "this installation of latbench does not hold the runner's source",
            hint="install latbench from a checkout: pip install --editable CHECKOUT",
        )
    options, environment = _toolchain(preset, zig_python)
    cmake = _cmake()
    with TemporaryDirectory(prefix="latbench-runner-") as folder:
        configure = ["--preset", preset, "-B", folder, "-DLATBENCH_TESTS=OFF", *_generator()]
        for words in ([*configure, *options], ["--build", folder, "--target", PROGRAM]):
            _call([cmake, *words], source, environment)
        data = (Path(folder) / PROGRAM).read_bytes()
    return _keep(PROGRAM, data, source=f"preset {preset}", version=None)


def build_torchscript(torch: Path | None = None) -> InstalledFile:
    """Build the engine for TorchScript for this machine, and keep it; it takes LibTorch.

    Args:
        torch: a folder with LibTorch's include and lib; by default that of the installed wheel.

    Raises:
        LatbenchError: something is missing that building takes (it is named), or building failed.
        OutputFailed: latbench's home cannot be written.
    """
    spec = importlib.util.find_spec("torch")
    root = torch or (Path(spec.origin).parent if spec is not None and spec.origin else None)
    if root is None or not (root / "include/torch/script.h").is_file():
        raise LatbenchError(
            f"building the engine for TorchScript takes LibTorch, but {root} holds no headers of it",
            hint="pip install torch, or unpack LibTorch and name its folder",
        )
    compiler = (os.environ.get("CXX") or "c++").split()[0]
    if shutil.which(compiler) is None:
        raise LatbenchError(
            f"building the engine for TorchScript takes a C++ compiler, but there is no {compiler}",
            hint="Debian: apt install g++; Fedora: dnf install gcc-c++",
        )
    source = shipped("runner") / "plugins"
    with TemporaryDirectory(prefix="latbench-runner-") as folder:
        configure = ["-S", str(source), "-B", folder, f"-DLATBENCH_TORCH={root}", *_generator()]
        for words in (configure, ["--build", folder]):
            _call([_cmake(), *words], source, dict(os.environ))
        data = (Path(folder) / TORCHSCRIPT).read_bytes()
    return _keep(TORCHSCRIPT, data, source=str(root), version=None)


def install(file: Path, *, replace: bool = False) -> list[InstalledFile]:
    """Keep the engines' libraries in an .aar, a .whl or an .so, each for its ABI.

    Args:
        replace: also where another library of that engine is there.

    Raises:
        BadRequest: there is no such file, or no library in it that the runner can use.
        LatbenchError: another one is there, and `replace` is not set.
        OutputFailed: latbench's home cannot be written.
    """
    found: dict[tuple[str, str], bytes] = {}
    others: list[str] = []
    for name, data in _members(file):
        engine = next((one for one in ENGINES if re.fullmatch(rf"{one}(\.\d+)*", name)), None)
        if engine is None:
            others.append(name)
        elif (abi := _abi_of(data)) is not None:
            found[abi, engine] = data
    if not found:
        raise _no_engine(file, others)
    chosen: dict[tuple[str, str], str] = {}  # ABI and option -> library
    for name in reversed(ENGINES):
        chosen |= {(abi, ENGINES[name]): name for abi, held in found if held == name}
    # As pinned, not as `installed` finds it: what was damaged since is mended by this, too.
    pins = {abi: _read_pins(_folder(abi)) for abi, _ in chosen}
    replaced: list[tuple[str, str]] = []
    for (abi, option), name in chosen.items():
        for before, pin in pins[abi].items():
            same = (before, pin["sha256"]) == (name, sha256_of(found[abi, name]))
            if ENGINES.get(before) != option or same:
                continue
            if not replace:
                what = f"another {name}" if before == name else before
                raise LatbenchError(
                    f"{what} for {abi} is installed already, from {pin['source']}",
                    hint="to measure with the new one from now on, add --replace; runs that are not "
                    "complete then start anew",
                )
            if before != name:
                replaced.append((abi, before))
    version = _version_in(file.name)
    kept = [
        _keep(name, found[abi, name], source=file.name, version=version)
        for (abi, _), name in sorted(chosen.items())
    ]
    for abi, before in replaced:
        _drop(abi, before)
    return kept


def _root() -> Path:
    return home() / "runners"


def _folder(abi: str) -> Path:
    return _root() / abi


def _read_pins(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        pins: dict[str, dict[str, Any]] = json.loads((folder / _PINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LatbenchError(
            f"{folder / _PINS} cannot be read: {error}",
            hint=f"remove {folder}, then build and install again",
        ) from None
    return pins


def _pinned(folder: Path) -> Iterator[InstalledFile]:
    for name, pin in sorted(_read_pins(folder).items()):
        path = folder / name
        found = sha256_of(path.read_bytes()) if path.is_file() else None
        if found != pin["sha256"]:
            what = "is gone" if found is None else "is not what was installed"
            raise LatbenchError(
                f"{path} {what}",
                hint="build or install it again: latbench runner build, or "
                "latbench runner install --replace --engine FILE",
            )
        yield InstalledFile(
            folder.name, path, pin["sha256"], pin["source"], pin["version"], pin["libc"]
        )


def _keep(name: str, data: bytes, *, source: str, version: str | None) -> InstalledFile:
    abi = _abi_of(data)
    if abi is None:
        raise LatbenchError(f"{name} from {source} is no program or library for a known ABI")
    folder = _folder(abi)
    libc = "glibc" if _GLIBC in data else "android"
    file = InstalledFile(abi, folder / name, sha256_of(data), source, version, libc)
    pin = {key: value for key, value in asdict(file).items() if key not in ("abi", "path")}
    write_atomically(file.path, data)
    if name == PROGRAM:
        file.path.chmod(
            0o755
        )  # the host runs it from here; a phone is told its mode when it is sent
    pins = _read_pins(folder) | {name: pin}
    write_atomically(folder / _PINS, json.dumps(pins, indent=1, sort_keys=True) + "\n")
    return file


def _drop(abi: str, name: str) -> None:
    folder = _folder(abi)
    pins = {kept: pin for kept, pin in _read_pins(folder).items() if kept != name}
    write_atomically(folder / _PINS, json.dumps(pins, indent=1, sort_keys=True) + "\n")
    (folder / name).unlink(missing_ok=True)


def _abi_of(data: bytes) -> str | None:
    """The ABI that an ELF file is for; None if it is no ELF file, or of another processor."""
    if data[:4] != b"\x7fELF":
        return None
    return _ABIS.get(int.from_bytes(data[18:20], "little"))


# Engines


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """The name and content of every library in a file."""
    try:
        if file.suffix not in (".aar", ".whl"):
            if ".so" not in file.suffixes:
                raise BadRequest(f"{file} is no .aar, .whl or .so")
            yield file.name, file.read_bytes()
            return
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                name = member.rpartition("/")[2]
                if ".so" in Path(name).suffixes:
                    yield name, archive.read(member)
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from None
    except zipfile.BadZipFile:
        raise BadRequest(f"{file} is no {file.suffix} file: it cannot be unpacked") from None


def _no_engine(file: Path, others: Sequence[str]) -> BadRequest:
    held = f"it holds {', '.join(sorted(set(others))[:6])}" if others else "it holds no library"
    return BadRequest(
        f"{file} has no engine that the runner knows: {held}",
        hint=f"known: {', '.join(ENGINES)}, for {', '.join(_ABIS.values())}",
    )


def _version_in(name: str) -> str | None:
    match = re.search(r"-(\d+(?:\.\d+)+)(?=-|\.aar$)", name)
    return match[1] if match else None


# Building


def _toolchain(preset: str, zig_python: str) -> tuple[list[str], dict[str, str]]:
    """CMake's options and the environment for a preset."""
    environment = dict(os.environ)
    if preset.startswith("android-"):
        roots = [os.environ.get(name) for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")]
        root = next((Path(one) for one in roots if one), None)
        if root is None or not (root / "build/cmake/android.toolchain.cmake").is_file():
            where = "$ANDROID_NDK_HOME is not set" if root is None else f"{root} holds no NDK"
            raise LatbenchError(
                f"building for Android takes Google's NDK, but {where}",
                hint="get it (Android Studio: SDK Manager, SDK Tools, NDK; or "
                "https://developer.android.com/ndk/downloads), then "
                "export ANDROID_NDK_HOME=FOLDER and type the same again",
            )
        return [], environment | {"ANDROID_NDK_HOME": str(root)}
    if preset == "host":
        if platform.machine() not in _HOST_ABIS:
            raise LatbenchError(f"there are no phones like this machine ({platform.machine()})")
        compiler = os.environ.get("CC", "cc").split()[0]
        if shutil.which(compiler) is None:
            raise LatbenchError(
                f"building for this machine takes a C compiler, but there is no {compiler}",
                hint="Debian: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select --install",
            )
        return [], environment
    if not _has_zig(zig_python):
        raise LatbenchError(
            f"building for {preset} takes Zig's compiler, which {zig_python} does not have",
            hint=f"{zig_python} -m pip install ziglang==0.17.1, and type the same again",
        )
    return [f"-DLATBENCH_ZIG_PYTHON={zig_python}"], environment


def _has_zig(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("ziglang") is not None
    return subprocess.run([python, "-c", "import ziglang"], capture_output=True).returncode == 0


def _cmake() -> str:
    beside = Path(sys.executable).with_name(
        "cmake"
    )  # of pip's cmake, in an environment not entered
    found = shutil.which("cmake") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise LatbenchError(
            "building the runner takes cmake 3.21 or later, which is not here",
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
