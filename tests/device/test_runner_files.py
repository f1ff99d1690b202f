"""Runners are built, or the missing tool is named; engines are installed, pinned and never swapped."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from latbench.device.native.build import build
from latbench.device.native.engines import install
from latbench.device.native.files import installed
from latbench.errors import BadRequest, LatbenchError

ARM64, X86_64 = 0xB7, 0x3E


def library(machine: int = ARM64, needs: str = "libc.so", more: str = "") -> bytes:
    """As much of an ELF file as is looked at."""
    header = b"\x7fELF\2\1\1".ljust(18, b"\0") + machine.to_bytes(2, "little")
    return header.ljust(64, b"\0") + f"\0{needs}\0{more}".encode()


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Write an .aar or .whl with these members."""

    def write(name: str, members: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as opened:
            for member, data in members.items():
                opened.writestr(member, data)
        return tmp_path / name

    return write


def test_an_aar_brings_every_abi(archive: Callable[..., Path]) -> None:
    aar = archive(
        "litert-2.1.6.aar",
        {
            "AndroidManifest.xml": b"<manifest/>",
            "jni/arm64-v8a/libLiteRt.so": library(),
            "jni/arm64-v8a/libother.so": library(),
            "jni/x86_64/libLiteRt.so": library(X86_64),
        },
    )
    assert {file.abi for file in install(aar)} == {"arm64-v8a", "x86_64"}
    (file,) = installed("arm64-v8a")
    assert (file.name, file.version, file.libc) == ("libLiteRt.so", "2.1.6", "android")
    assert file.source == "litert-2.1.6.aar"
    assert file.path.read_bytes() == library()


def test_a_wheel_and_a_library_alone(archive: Callable[..., Path], tmp_path: Path) -> None:
    wheel = archive(
        "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        {
            "onnxruntime/capi/libonnxruntime.so.1.32.0": library(needs="libc.so.6"),
            "onnxruntime/capi/libonnxruntime_providers_shared.so": library(),
        },
    )
    (file,) = install(wheel)
    assert (file.name, file.version, file.libc) == ("libonnxruntime.so", "1.32.0", "glibc")
    alone = tmp_path / "libLiteRt.so"
    alone.write_bytes(library(X86_64))
    (file,) = install(alone)
    assert (file.abi, file.version) == ("x86_64", None)
    assert len(installed()) == 2


def test_another_library_of_the_same_engine_needs_replace(tmp_path: Path) -> None:
    file = tmp_path / "libLiteRt.so"
    file.write_bytes(library())
    install(file)
    install(file)
    file.write_bytes(library(more="newer"))
    with pytest.raises(LatbenchError, match=r"another libLiteRt\.so for arm64-v8a") as refused:
        install(file)
    assert "--replace" in str(refused.value.hint)
    assert installed()[0].path.read_bytes() == library()
    install(file, replace=True)
    (now,) = installed()
    assert now.path.read_bytes() == library(more="newer")
    now.path.write_bytes(library(more="altered"))
    with pytest.raises(LatbenchError, match="differs from what was installed") as refused:
        installed()
    assert "install --replace" in str(refused.value.hint)
    install(file, replace=True)
    assert installed() == [now]


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"libLiteRt.so": 1}', '{"libLiteRt.so": {"sha256": true}}', '{"libLiteRt.so": {}}'],
)
def test_pins_that_are_damaged_are_refused(archive: Callable[..., Path], content: str) -> None:
    (file,) = install(archive("litert-2.1.6.aar", {"jni/arm64-v8a/libLiteRt.so": library()}))
    pins = file.path.with_name("pins.json")
    good = json.loads(pins.read_text())
    pins.write_text(content)
    with pytest.raises(LatbenchError, match=r"cannot read .*pins\.json") as refused:
        installed()
    assert f"remove {pins.parent}" in str(refused.value.hint)
    for field, value in (("version", 2), ("libc", "musl"), ("extra", "x"), ("sha256", None)):
        pins.write_text(json.dumps({file.name: good[file.name] | {field: value}}))
        with pytest.raises(LatbenchError, match=r"cannot read .*pins\.json"):
            installed()
    pins.write_text(json.dumps(good))
    assert installed() == [file]


def test_tensorflow_lite_takes_the_place_of_litert(archive: Callable[..., Path]) -> None:
    litert, tflite = "jni/arm64-v8a/libLiteRt.so", "jni/arm64-v8a/libtensorflowlite_jni.so"
    both = archive("litert-2.1.6.aar", {tflite: library(), litert: library(more="newer")})
    assert [file.name for file in install(both)] == ["libLiteRt.so"]
    older = archive("tensorflow-lite-2.17.0.aar", {tflite: library()})
    with pytest.raises(LatbenchError, match=r"libLiteRt\.so for arm64-v8a is installed already"):
        install(older)
    (file,) = install(older, replace=True)
    assert (file.name, file.version) == ("libtensorflowlite_jni.so", "2.17.0")
    assert installed("arm64-v8a") == [file]
    assert not file.path.with_name("libLiteRt.so").exists()


def test_one_library_by_two_names_is_there_once(tmp_path: Path) -> None:
    names = ("libtensorflowlite_c.so", "libtensorflowlite_jni.so")
    for name in names:
        (tmp_path / name).write_bytes(library())
    install(tmp_path / names[0])
    with pytest.raises(LatbenchError, match=rf"{names[0]} for arm64-v8a is installed already"):
        install(tmp_path / names[1])
    install(tmp_path / names[1], replace=True)
    assert [file.name for file in installed()] == [names[1]]


@pytest.mark.parametrize(
    ("name", "members", "problem"),
    [
        (
            "a.aar",
            {"jni/arm64-v8a/libtensorflowlite_gpu_jni.so": library()},
            "it holds libtensorfl",
        ),
        ("a.aar", {"jni/arm64-v8a/libmore.so": library()}, "it holds libmore.so"),
        ("a.aar", {"classes.jar": b""}, "it holds no library"),
        ("a.whl", {"libLiteRt.so": b"MZ, no ELF"}, "no engine that the runner supports"),
        ("a.aar", None, "cannot be unpacked"),
        ("a.zip", None, "is not an .aar, .whl or .so"),
        ("missing.so", {}, "cannot read"),
    ],
)
def test_files_without_an_engine_are_refused(
    name: str,
    members: dict[str, bytes] | None,
    problem: str,
    archive: Callable[..., Path],
    tmp_path: Path,
) -> None:
    if members is None:
        (tmp_path / name).write_bytes(b"something else")
    elif members:
        archive(name, members)
    with pytest.raises(BadRequest, match=problem):
        install(tmp_path / name)
    assert installed() == []


@pytest.mark.parametrize(
    ("preset", "problem", "cure"),
    [
        ("android-arm64-v8a", "requires Google's NDK", "ANDROID_NDK_HOME"),
        ("arm64-linux", "requires Zig", "pip install ziglang"),
        ("host", "requires a C compiler", "apt install gcc"),
    ],
)
def test_a_missing_toolchain_is_named(
    preset: str, problem: str, cure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CC", "no-such-compiler")
    python = tmp_path / "python"  # one without ziglang
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(LatbenchError, match=problem) as refused:
        build(preset, zig_python=str(python))
    assert cure in str(refused.value.hint)


def test_a_folder_without_an_ndk_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.setenv("ANDROID_NDK_ROOT", str(tmp_path))
    with pytest.raises(LatbenchError, match="holds no NDK"):
        build("android-arm64-v8a")
    with pytest.raises(BadRequest, match="unknown preset 'toaster'"):
        build("toaster")


def test_the_command_line_installs_and_lists(archive: Callable[..., Path]) -> None:
    aar = archive("litert-2.1.6.aar", {"jni/arm64-v8a/libLiteRt.so": library()})
    for words in (["install", "--engine", str(aar)], ["list"]):
        done = subprocess.run(
            [sys.executable, "-m", "latbench", "runner", *words, "--json"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (file,) = json.loads(done.stdout)
        assert (file["abi"], file["version"]) == ("arm64-v8a", "2.1.6")
