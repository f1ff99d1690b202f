"""The companion app as far as it can be checked without a Mac: its C, its Objective-C, its fuzzers."""

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rigs.ios_phone import SOURCE, built
from tests.rigs.ios_tools import tools

pytestmark = pytest.mark.rig

CORE = SOURCE.parent / "core"
FUZZ = SOURCE.parent / "fuzz"
STUBS = Path(__file__).parent / "ios_stubs"
SHELL = sorted((SOURCE / "shell").glob("*.m"))
DEFINED = ("-std=gnu11", '-DLATBENCH_RUNNER_VERSION="test"', f"-I{CORE}", f"-I{SOURCE / 'app'}")
STRICT = ("-Wall", "-Wextra", "-Werror")
#: How often CI runs each fuzzer; docs/iphone.md tells of the long runs.
EXECUTIONS = 10_000


def clang() -> str:
    found = shutil.which("clang")
    if found is None:
        pytest.skip("there is no clang: run python -m tests.rigs.ios_tools")
    return found


def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def check_syntax(source: Path) -> subprocess.CompletedProcess[str]:
    """Read a file of the shell as clang for iOS would, with stand-ins for Apple's headers."""
    gnustep = Path("/usr/include/GNUstep")
    runtime = sorted(Path("/usr/lib/gcc").glob("*/*/include/objc"))
    if not gnustep.is_dir() or not runtime:
        pytest.skip("GNUstep's headers are missing: run python -m tests.rigs.ios_tools")
    system = [STUBS, gnustep, runtime[-1].parent]
    return run(
        [
            *(clang(), "-fsyntax-only", "-x", "objective-c", *DEFINED, "-D_GNU_SOURCE"),
            *("-fobjc-arc", "-fblocks", "-fobjc-runtime=gnustep-2.0", f"-I{SOURCE / 'shell'}"),
            *(word for folder in system for word in ("-isystem", str(folder))),
            *(*STRICT, "-Wno-unused-parameter", str(source)),
        ]
    )


@pytest.mark.parametrize("source", SHELL, ids=[source.name for source in SHELL])
def test_the_shell_is_objective_c(source: Path) -> None:
    done = check_syntax(source)
    assert done.returncode == 0, done.stderr


def test_the_syntax_check_can_fail(tmp_path: Path) -> None:
    text = (SOURCE / "shell/PhoneMonitor.m").read_text()
    for right, wrong in (("batteryLevel]", "batteryLebel]"), ("_active = YES;", "_active = YES")):
        broken = tmp_path / "Broken.m"
        broken.write_text(text.replace(right, wrong))
        assert check_syntax(broken).returncode != 0


def zig_python() -> Path:
    python = tools().zig_python
    if not python.exists():
        pytest.skip("there is no Zig: run python -m tests.rigs.ios_tools")
    return python


def zig_compile(target: str, *words: str | Path) -> None:
    python = zig_python()
    cache = str(python.parents[1] / "zig-cache")
    done = run(
        [
            *(python, "-m", "ziglang", "cc", "-target", target, *DEFINED, "-D_DARWIN_C_SOURCE"),
            *(*STRICT, "-Wconversion", "-Wshadow", "-O2", *words),
        ],
        ZIG_GLOBAL_CACHE_DIR=cache,
        ZIG_LOCAL_CACHE_DIR=cache,
    )
    assert done.returncode == 0, done.stderr


def test_the_app_links_for_macs(tmp_path: Path) -> None:
    program = tmp_path / "companion"
    core = [source for source in sorted(CORE.glob("*.c")) if source.name != "main.c"]
    zig_compile("aarch64-macos", "-o", program, *core, *sorted((SOURCE / "app").glob("*.c")))
    assert program.read_bytes()[:4] == bytes.fromhex("cffaedfe"), "64-bit Mach-O"


def test_the_app_compiles_for_ios(tmp_path: Path) -> None:
    """Zig has Apple's C headers, the same for all its systems, but no iOS to link with."""
    libraries = zig_python().parents[1] / "lib"
    headers = next(libraries.glob("python*/site-packages/ziglang/lib/libc/include/any-darwin-any"))
    sources = [source for source in sorted(CORE.glob("*.c")) if source.name != "main.c"]
    sources += [one for one in sorted((SOURCE / "app").glob("*.c")) if one.name != "host_main.c"]
    project = (SOURCE / "project.yml").read_text()
    linked = [f"-D{name}" for name in re.findall(r"- (LATBENCH_LINKED_\w+)", project)]
    assert "-DLATBENCH_LINKED_TFLITE" in linked
    for source in sources:
        made = tmp_path / f"{source.stem}.o"
        zig_compile("aarch64-ios", *linked, "-isystem", headers, "-c", "-o", made, source)
        assert made.read_bytes()[:4] == bytes.fromhex("cffaedfe")
    engine = (tmp_path / "tflite.o").read_bytes()
    for delegate in (b"_TfLiteXNNPackDelegate", b"_TFLGpuDelegate", b"_TfLiteCoreMlDelegate"):
        assert delegate + b"Create" in engine, "to be linked"


@pytest.fixture(scope="module")
def sanitized() -> Path:
    clang()
    return built(sanitized=True).parent


def test_the_portable_part_passes_its_tests(sanitized: Path) -> None:
    done = run(["ctest", "--test-dir", sanitized, "--output-on-failure"])
    assert done.returncode == 0, done.stdout
    assert "100% tests passed" in done.stdout


@pytest.mark.parametrize("fuzzer", ["json_fuzz", "companion_fuzz"])
def test_whatever_comes_breaks_nothing(fuzzer: str, sanitized: Path, tmp_path: Path) -> None:
    """From the corpus that the long runs left: an input a line, in base64."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, line in enumerate((FUZZ / f"corpus/{fuzzer}.txt").read_text().splitlines()):
        (corpus / str(number)).write_bytes(base64.b64decode(line))
    done = run(
        [
            *(sanitized / fuzzer, f"-runs={EXECUTIONS}", "-seed=1", "-max_len=800"),
            *(f"-dict={FUZZ / 'protocol.dict'}", corpus),
        ]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {EXECUTIONS} runs" in done.stderr
