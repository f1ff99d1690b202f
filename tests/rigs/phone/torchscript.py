"""LibTorch for the arm64 phone, from its wheel, and the runner's plugin built against it.

The wheel is made for computers with CUDA: of NVIDIA's libraries it takes the two that it is linked
with. None of them computes anything here.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from tests.rigs.debian import call
from tests.rigs.parts import REPOSITORY, making, torch_version

PLUGIN = "liblatbench-torchscript.so"
PACKAGES = {"g++-aarch64-linux-gnu": "builds the plugin; Zig's C++ library is not LibTorch's"}

_WHEELS = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014")
# All that libtorch_cpu.so is linked with, and that a glibc and a GCC do not have.
_LIBRARIES = (
    *("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libgfortran.so.5"),
    *("libarm_compute.so", "libarm_compute_graph.so"),
    *("libnvpl_blas_core.so.0", "libnvpl_blas_lp64_gomp.so.0"),
    *("libnvpl_lapack_core.so.0", "libnvpl_lapack_lp64_gomp.so.0"),
    *("libcudart.so.13", "libcupti.so.13"),
)


def make_torchscript(folder: Path) -> None:
    """Make `folder` with the plugin and the libraries that it needs.

    Raises:
        RigMissing: there are no such wheels, or the plugin does not compile.
    """
    with TemporaryDirectory(prefix="latbench-torch-") as scratch, making(folder) as made:
        work = Path(scratch)
        platforms = [word for one in _PLATFORMS for word in ("--platform", f"{one}_aarch64")]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        only = ["--no-deps", "--only-binary=:all:", *platforms]
        call([*pip, *only, "--dest", work, f"torch=={torch_version()}", *_WHEELS])
        unpacked = work / "unpacked"
        for wheel in work.glob("*.whl"):
            _unpack(wheel, unpacked)
        for library in unpacked.rglob("lib/*.so*"):
            library.rename(made / library.name)
        _build(made, unpacked / "torch/include", work / "build")


def _unpack(wheel: Path, into: Path) -> None:
    with ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("torch/include/") or Path(name).name in _LIBRARIES:
                archive.extract(name, into)


def _build(libraries: Path, headers: Path, build: Path) -> None:
    """Build the plugin into `libraries`."""
    torch = headers.parent
    (torch / "lib").rmdir()
    (torch / "lib").symlink_to(libraries)
    options = {
        "LATBENCH_TORCH": torch,
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_CXX_COMPILER": "aarch64-linux-gnu-g++",
        # What LibTorch itself needs is not looked for among this machine's libraries.
        "CMAKE_SHARED_LINKER_FLAGS": "-Wl,--allow-shlib-undefined",
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": libraries,
    }
    words = [f"-D{name}={value}" for name, value in options.items()]
    call(["cmake", "-S", REPOSITORY / "runner/plugins", "-B", build, *words])
    call(["cmake", "--build", build])
