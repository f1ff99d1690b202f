"""Run as a program: simulate Windows or macOS, then import all of latbench and use its pure commands.

Everything that only POSIX or Linux has is removed from `os`, `signal` and `select`, its modules cannot be
imported, and `sys.platform` is changed. Third-party libraries are imported before that.

    python -m tests.docs.other_system win32 LUT ARCHITECTURE.JSON
"""

import importlib
import os
import pkgutil
import select
import signal
import sys
from importlib.util import find_spec
from types import ModuleType

_LIBRARIES = (
    "adb_shell.adb_device", "adbutils", "ai_edge_litert.interpreter", "asyncio", "click.testing",
    "flatbuffers", "multiprocessing.pool", "numpy", "onnx", "onnxruntime", "pandas", "platformdirs",
    "psutil", "pydantic", "rich.console", "rich.progress", "rich.table", "scipy.optimize",
    "scipy.stats", "sklearn.datasets", "sqlite3", "subprocess", "tempfile", "tensorboard.summary.writer",
    "torch", "torch.fx", "urllib.request",
)  # fmt: skip

#: Missing on macOS, and on Windows in addition (Python's documentation of `os`, "Availability").
_LINUX_ONLY = {
    os: ("sched_getaffinity", "sched_setaffinity", "pidfd_open", "memfd_create", "posix_fadvise"),
}
_POSIX_ONLY = {
    os: ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "setsid", "nice",
         "pread", "pwrite", "uname", "sysconf", "statvfs", "getloadavg", "mkfifo", "chown", "fchmod",
         "sched_yield", "set_blocking", "getpriority", "setpriority", "WNOHANG", "waitid"),
    signal: ("alarm", "setitimer", "pthread_sigmask", "sigwait", "SIGALRM", "SIGKILL", "SIGHUP",
             "SIGPIPE", "SIGUSR1", "SIGCHLD", "SIGSTOP", "SIGCONT"),
    select: ("poll", "epoll"),
}  # fmt: skip
#: Modules that only import where an optional package is installed.
_OF_EXTRAS = {
    "latbench.runtime.executorch.model": "executorch",
    "latbench.runtime.ncnn.model": "ncnn",
}

_POSIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty")


def pretend(system: str) -> None:
    """Remove what `system`, darwin or win32, does not have."""
    for library in _LIBRARIES:
        importlib.import_module(library)
    lacking: list[dict[ModuleType, tuple[str, ...]]] = [_LINUX_ONLY]
    if system == "win32":
        lacking.append(_POSIX_ONLY)
        for name in _POSIX_MODULES:
            sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError
    for modules in lacking:
        for module, names in modules.items():
            for name in names:
                if hasattr(module, name):
                    delattr(module, name)
    sys.platform = system


def import_everything() -> int:
    """Import every module of both packages except `__main__`; return how many there are."""
    import fbnet_search
    import latbench

    count = 0
    for package in (latbench, fbnet_search):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in _OF_EXTRAS and find_spec(_OF_EXTRAS[found.name]) is None:
                continue
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
                count += 1
    return count


def use(lut: str, architecture: str) -> None:
    """Call the commands that measure nothing; each must exit with 0."""
    from click.testing import CliRunner

    from latbench.cli import main

    calls = (
        ("devices",),
        ("space", "show"),
        ("arch", "show", architecture),
        ("show", lut),
        ("show", lut, "--csv"),
        ("predict", lut, architecture),
        ("predict", lut, "fbnet_a", "--json"),
        ("drift", lut, lut),
    )
    for call in calls:
        # Windows writes files in the code page of its language unless UTF-8 is requested.
        done = CliRunner(charset="cp1252").invoke(main, call)
        if done.exit_code != 0 or not done.stdout:
            raise SystemExit(f"{' '.join(call)}: exit code {done.exit_code}: {done.output}") from (
                done.exception
            )


def main() -> None:
    """Simulate the system, import, use; the last line says how many modules were imported."""
    system, lut, architecture = sys.argv[1:]
    pretend(system)
    count = import_everything()
    use(lut, architecture)
    print(f"{system}: {count} modules")


if __name__ == "__main__":
    main()
