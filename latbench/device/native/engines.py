"""Installs inference engines for the native runner, from files that the user has. Nothing is downloaded."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from latbench.device.native.files import ABIS, ENGINES, InstalledFile, abi_of, drop, keep, read_pins
from latbench.errors import BadRequest, LatbenchError
from latbench.files import sha256_of


def install(file: Path, *, replace: bool = False) -> list[InstalledFile]:
    """Install the engine libraries of an .aar, a .whl or an .so, each for its ABI.

    Args:
        replace: also if another library of that engine is installed.

    Raises:
        BadRequest: there is no such file, or it holds no library that the runner can use.
        LatbenchError: another library is installed, and `replace` is false.
        OutputFailed: latbench's home cannot be written.
    """
    found: dict[tuple[str, str], bytes] = {}
    others: list[str] = []
    for name, data in _members(file):
        engine = next((one for one in ENGINES if re.fullmatch(rf"{one}(\.\d+)*", name)), None)
        if engine is None:
            others.append(name)
        elif (abi := abi_of(data)) is not None:
            found[abi, engine] = data
    if not found:
        raise _no_engine(file, others)
    chosen: dict[tuple[str, str], str] = {}  # ABI and option -> library
    for name in reversed(ENGINES):
        chosen |= {(abi, ENGINES[name]): name for abi, engine in found if engine == name}
    # The pins alone are read, not verified files: this also repairs damaged ones.
    pins = {abi: read_pins(abi) for abi, _ in chosen}
    replaced: list[tuple[str, str]] = []
    for (abi, option), name in chosen.items():
        for before, pin in pins[abi].items():
            same = (before, pin.sha256) == (name, sha256_of(found[abi, name]))
            if ENGINES.get(before) != option or same:
                continue
            if not replace:
                what = f"another {name}" if before == name else before
                raise LatbenchError(
                    f"{what} for {abi} is installed already, from {pin.source}",
                    hint=f"latbench runner install --replace --engine {file}: later runs use the new "
                    "one, and incomplete runs start from scratch",
                )
            if before != name:
                replaced.append((abi, before))
    version = _version_in(file.name)
    kept = [
        keep(name, found[abi, name], source=file.name, version=version)
        for (abi, _), name in sorted(chosen.items())
    ]
    for abi, before in replaced:
        drop(abi, before)
    return kept


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """The name and contents of every library in a file."""
    try:
        if file.suffix not in (".aar", ".whl"):
            if ".so" not in file.suffixes:
                raise BadRequest(
                    f"{file} is not an .aar, .whl or .so file",
                    hint="latbench runner install --engine FILE, with the .aar of ONNX Runtime "
                    "(onnxruntime-android) or LiteRT",
                )
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
        raise BadRequest(
            f"{file} is not a valid {file.suffix} file: it cannot be unpacked"
        ) from None


def _no_engine(file: Path, others: Sequence[str]) -> BadRequest:
    content = f"it holds {', '.join(sorted(set(others))[:6])}" if others else "it holds no library"
    return BadRequest(
        f"{file} has no engine that the runner supports: {content}",
        hint=f"supported: {', '.join(ENGINES)}, for {', '.join(ABIS.values())}",
    )


def _version_in(name: str) -> str | None:
    match = re.search(r"-(\d+(?:\.\d+)+)(?=-|\.aar$)", name)
    return match[1] if match else None
