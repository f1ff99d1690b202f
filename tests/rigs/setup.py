"""Prepares this machine for the rigs: python -m tests.rigs.setup

Looks what is missing, installs Debian packages if we are root, tells the kernel about qemu, and
makes the parts in the cache. What is there already is left alone, and a second call does nothing.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.rigs import debian
from tests.rigs.adbd.build import build_adbd
from tests.rigs.compiler import build_runner, fetch_compiler
from tests.rigs.parts import Parts, RigMissing, default_cache, parts
from tests.rigs.phone.arm64 import build_system, fetch_runtimes
from tests.rigs.phone.torchscript import PACKAGES as TORCHSCRIPT_PACKAGES
from tests.rigs.phone.torchscript import make_torchscript

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_AARCH64 = "7f454c460201010000000000000000000200b700"  # the start of an arm64 ELF program
# All the namespaces that a phone has of its own.
UNSHARE = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--time", "--fork", "--kill-child"]


def main() -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.rigs.setup", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where parts are kept")
    parser.add_argument(
        "--torchscript", action="store_true", help="also LibTorch for arm64: 440 MB to download"
    )
    options = parser.parse_args()
    try:
        prepare(options.cache, torchscript=options.torchscript)
    except RigMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(cache: Path, *, torchscript: bool = False) -> Parts:
    """Do what is left to do, and say so on standard output; returns where the parts are.

    Raises:
        RigMissing: this machine cannot run the rigs, or something could not be had.
    """
    if sys.platform != "linux" or not Path("/usr/bin/dpkg").exists():
        raise RigMissing("the rigs need Debian or a derivative of it")
    if (machine := debian.native_architecture()) != "amd64":
        raise RigMissing(f"the rigs are made for amd64, not {machine}")
    _packages({**debian.PACKAGES, **(TORCHSCRIPT_PACKAGES if torchscript else {})})
    _emulation()
    _namespaces()
    found = parts(cache)
    # One of them compiles; the others wait for the network meanwhile.
    with ThreadPoolExecutor() as pool:
        made = [
            pool.submit(_part, "adbd", found.adbd, build_adbd),
            pool.submit(_part, "arm64 system", found.system, build_system),
            pool.submit(_part, "arm64 runtimes", found.runtimes, fetch_runtimes),
            pool.submit(_runner, found),
        ]
        if torchscript:
            made.append(pool.submit(_part, "torchscript", found.torchscript, make_torchscript))
    for one in made:
        one.result()
    return found


def registered_emulator() -> str | None:
    """The kernel's rule that starts arm64 programs, if it works in any root; else None.

    The flag F says that the kernel holds the emulator open, so that it need not be in the phone.
    """
    for rule in _BINFMT.iterdir() if _BINFMT.is_dir() else ():
        text = rule.read_text() if rule.name not in ("register", "status") else ""
        flags = next((line for line in text.splitlines() if line.startswith("flags:")), "")
        if text.startswith("enabled") and f"magic {_AARCH64}" in text and "F" in flags[6:]:
            return rule.name
    return None


def _packages(wanted: Collection[str]) -> None:
    missing = debian.missing_packages(wanted)
    if not missing:
        _say("packages", f"{len(wanted)} present")
        return
    _say("packages", f"installing {', '.join(missing)}")
    started = time.monotonic()
    debian.install(missing)
    _say("packages", f"installed in {time.monotonic() - started:.0f} s")


def _emulation() -> None:
    if rule := registered_emulator():
        _say("emulation", f"{rule} runs arm64 programs")
        return
    if os.geteuid() != 0:
        raise RigMissing("as root, run: update-binfmts --enable qemu-aarch64")
    debian.call(["update-binfmts", "--enable", "qemu-aarch64"])
    if registered_emulator() is None:
        raise RigMissing("no binfmt_misc rule with the flag F could be registered for aarch64")
    _say("emulation", "registered qemu-aarch64 with the kernel, until it restarts")


def _namespaces() -> None:
    if os.geteuid() != 0:
        _say("namespaces", "not tried: only root can run the phone")
        return
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RigMissing(f"the phone needs namespaces of its own: {done.stderr.strip()}")
    _say("namespaces", "can be made")


def _runner(found: Parts) -> None:
    _part("compiler", found.compiler, fetch_compiler)
    _part("arm64 runner", found.runner, lambda folder: build_runner(folder, found.compiler))


def _part(name: str, folder: Path, make: Callable[[Path], None]) -> None:
    if folder.is_dir():
        _say(name, f"present: {folder}")
        return
    _say(name, f"making {folder}")
    started = time.monotonic()
    make(folder)
    _say(name, f"made in {time.monotonic() - started:.0f} s")


def _say(what: str, text: str) -> None:
    print(f"{what:15} {text}\n", end="", flush=True)  # at once, for parts are made side by side


if __name__ == "__main__":
    sys.exit(main())
