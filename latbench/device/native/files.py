"""The native runner's files in latbench's home: one folder per ABI, each file pinned by its SHA-256.

    runners/<abi>/latbench-runner     built by `latbench.device.native.build`
    runners/<abi>/libonnxruntime.so   an engine, installed by `latbench.device.native.engines`
    runners/<abi>/libLiteRt.so        likewise; or libtensorflowlite_jni.so, libtensorflowlite_c.so
    runners/<abi>/pins.json           the SHA-256 of each file, and its source

Installed files are never replaced silently: a run that continues must not meet another engine.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from latbench.errors import DeviceUnavailable, LatbenchError
from latbench.files import home, sha256_of, write_atomically
from latbench.record import Record

PROGRAM = "latbench-runner"
#: Library -> the option of the runner that names it. An ABI has at most one library for each option; of
#: several in one file, the first in this table is installed.
ENGINES = {
    "libonnxruntime.so": "--onnxruntime",
    "libLiteRt.so": "--litert",
    "libtensorflowlite_jni.so": "--litert",
    "libtensorflowlite_c.so": "--litert",
}
#: The TorchScript engine, in C++ around LibTorch; for the host's own runner, not for phones.
TORCHSCRIPT = "liblatbench-torchscript.so"
#: `e_machine` of an ELF file (elf(5)) -> ABI, as Android names it.
ABIS = {0xB7: "arm64-v8a", 0x28: "armeabi-v7a", 0x3E: "x86_64", 0x03: "x86"}
#: `uname -m` -> the ABI of this machine.
_HOST_ABIS = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}

_GLIBC = b"\0libc.so.6\0"  # the name of glibc among the needed libraries; Android's is libc.so
_PINS = "pins.json"


class Pin(Record):
    """What `pins.json` says of a file."""

    sha256: str
    source: str
    version: str | None
    libc: Literal["android", "glibc"]


_PIN_FILE = TypeAdapter(dict[str, Pin])


@dataclass(frozen=True)
class InstalledFile:
    """A file of the native runner for one ABI.

    Attributes:
        source: where it came from: a CMake preset, or a file's name.
        version: of the engine, where the name of the source file says it.
        libc: android, or glibc, which no phone has but an emulated one.
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


def host_abi() -> str | None:
    """The ABI of this machine, as Android names it; None if no phone has such a processor."""
    return _HOST_ABIS.get(platform.machine())


def host_file(name: str) -> Path:
    """The path of a file of the native runner for this machine, whether or not it is installed."""
    return folder_of(host_abi() or platform.machine()) / name


def installed(abi: str | None = None) -> list[InstalledFile]:
    """List the files for one ABI, or for all.

    Raises:
        LatbenchError: a file is missing, or differs from what was installed.
    """
    folders = [folder_of(abi)] if abi else sorted(_root().glob("*"))
    return [file for folder in folders for file in _verified(folder)]


def program_for(abi: str, *, emulated: bool) -> list[InstalledFile]:
    """Return the runner and the engines for phones of an ABI, the runner first.

    Raises:
        DeviceUnavailable: the runner or all engines are missing, or a file cannot run on a real phone.
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
        raise DeviceUnavailable(
            f"{foreign[0].path} is for Linux with glibc, not for Android (from {foreign[0].source})",
            hint=build
            if foreign[0].name == PROGRAM
            else "latbench runner install --replace --engine FILE, with an Android .aar",
        )
    return files


def folder_of(abi: str) -> Path:
    """The folder of an ABI's files."""
    return _root() / abi


def abi_of(data: bytes) -> str | None:
    """The ABI of an ELF file's contents; None if it is no ELF file, or for another processor."""
    return ABIS.get(int.from_bytes(data[18:20], "little")) if data[:4] == b"\x7fELF" else None


def read_pins(abi: str) -> dict[str, Pin]:
    """Read an ABI's pins; none if nothing is installed for it.

    Raises:
        LatbenchError: the file cannot be read, or holds something else.
    """
    path = folder_of(abi) / _PINS
    try:
        return _PIN_FILE.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    except OSError as error:
        reason = error.strerror or str(error)
    raise LatbenchError(
        f"cannot read {path}: {reason}",
        hint=f"remove {path.parent}, then build and install again",
    )


def keep(name: str, data: bytes, *, source: str, version: str | None) -> InstalledFile:
    """Install a file for the ABI that it was built for, and pin it.

    Raises:
        LatbenchError: it is no program or library for a known ABI.
        OutputFailed: latbench's home cannot be written.
    """
    abi = abi_of(data)
    if abi is None:
        raise LatbenchError(f"{name} from {source} is no program or library for a known ABI")
    pin = Pin(
        sha256=sha256_of(data),
        source=source,
        version=version,
        libc="glibc" if _GLIBC in data else "android",
    )
    path = folder_of(abi) / name
    write_atomically(path, data)
    if name == PROGRAM:
        path.chmod(0o755)  # the host runs it from here; a push to a phone sets its own mode
    _write_pins(abi, read_pins(abi) | {name: pin})
    return _file(path, pin)


def drop(abi: str, name: str) -> None:
    """Remove a file and its pin."""
    _write_pins(abi, {kept: pin for kept, pin in read_pins(abi).items() if kept != name})
    (folder_of(abi) / name).unlink(missing_ok=True)


def _root() -> Path:
    return home() / "runners"


def _file(path: Path, pin: Pin) -> InstalledFile:
    return InstalledFile(path.parent.name, path, pin.sha256, pin.source, pin.version, pin.libc)


def _verified(folder: Path) -> Iterator[InstalledFile]:
    for name, pin in sorted(read_pins(folder.name).items()):
        path = folder / name
        found = sha256_of(path.read_bytes()) if path.is_file() else None
        if found != pin.sha256:
            problem = "is missing" if found is None else "differs from what was installed"
            raise LatbenchError(
                f"{path} {problem}",
                hint="build or install it again: latbench runner build, or "
                "latbench runner install --replace --engine FILE",
            )
        yield _file(path, pin)


def _write_pins(abi: str, pins: dict[str, Pin]) -> None:
    content = {name: pin.model_dump() for name, pin in pins.items()}
    write_atomically(folder_of(abi) / _PINS, json.dumps(content, indent=1, sort_keys=True) + "\n")
