"""What the rigs need from Debian: packages, the source of one, and arm64 packages.

Sources and arm64 packages come from the mirrors that this machine already uses, by an apt whose
lists are its own: the system's lists, architectures and caches stay as they are.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests.rigs.parts import RigMissing

# What the rigs need, and why.
PACKAGES = {
    "adb": "the client that people have",
    "binfmt-support": "tells the kernel that qemu runs arm64 programs",
    "qemu-user-static": "runs arm64 programs",
    "dpkg-dev": "unpacks the source of adbd; brings make",
    "clang": "compiles it",
    "lld": "links it",
    "android-libbase-dev": "adbd's libraries",
    "android-libboringssl-dev": "adbd's libraries",
    "android-libcutils-dev": "adbd's libraries",
    "android-liblog-dev": "adbd's libraries",
    "android-platform-system-core-headers": "adbd's headers",
    "libcap-dev": "adbd's libraries",
    "cmake": "builds the arm64 runner",
}

Kind = Literal["deb", "deb-src"]


def missing_packages(packages: Iterable[str] = PACKAGES) -> list[str]:
    """Those of `packages` that are not installed."""
    wanted = list(packages)
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,  # it fails when it knows one of them not at all
    ).stdout
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def install(packages: Sequence[str]) -> None:
    """Install packages by apt-get.

    Raises:
        RigMissing: we are not root, or apt-get failed.
    """
    if os.geteuid() != 0:
        raise RigMissing(f"as root, run: apt-get install {' '.join(packages)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "update", "-q"], env=quiet)
    call(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], env=quiet)


def fetch_source(package: str, version: str, into: Path) -> Path:
    """Unpack a source package into `into`; returns its folder.

    Raises:
        RigMissing: this machine's Debian has another version, or it could not be fetched.
    """
    with _private_apt("deb-src", native_architecture()) as environment:
        call(["apt-get", "source", "-q", "--only-source", package], cwd=into, env=environment)
    folders = [path for path in into.iterdir() if path.is_dir()]
    if [folder.name for folder in folders] != [f"{package}-{version}"]:
        found = ", ".join(folder.name for folder in folders)
        raise RigMissing(f"the rig is made for {package} {version}; this Debian has {found}")
    return folders[0]


def fetch_packages(packages: Sequence[str], architecture: str, into: Path) -> list[Path]:
    """Download packages of any architecture into `into`; returns the files.

    Raises:
        RigMissing: they could not be fetched.
    """
    with _private_apt("deb", architecture) as environment:
        call(["apt-get", "download", "-q", *packages], cwd=into, env=environment)
    return sorted(into.glob("*.deb"))


def native_architecture() -> str:
    """What Debian calls this machine's architecture."""
    return call(["dpkg", "--print-architecture"]).strip()


def only(kind: Kind, sources: Path) -> str:
    """The text of one of apt's lists, .sources or .list, asking for `kind` and any architecture."""
    text = sources.read_text()
    if sources.suffix == ".sources":
        text = re.sub(r"(?m)^Types:.*$", f"Types: {kind}", text)
        return re.sub(r"(?m)^Architectures:.*\n", "", text)
    lines = re.findall(r"(?m)^deb\s+(.*)$", text)
    anywhere = [re.sub(r"\barch=[^]\s]+", "", line) for line in lines]
    return "".join(f"{kind} {line}\n" for line in anywhere)


def call(
    command: Sequence[str | Path], cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    """Run a command and return what it printed.

    Raises:
        RigMissing: it failed, or there is no such command; what it said last is reported.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise RigMissing(f"there is no {command[0]}: run python -m tests.rigs.setup") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise RigMissing(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{said}")
    return done.stdout


@contextmanager
def _private_apt(kind: Kind, architecture: str) -> Iterator[dict[str, str]]:
    """Yield an environment in which apt knows one kind of package of one architecture."""
    with TemporaryDirectory(prefix="latbench-apt-") as name:
        folder = Path(name)
        for path in ("sources", "lists/partial", "cache/archives/partial"):
            (folder / path).mkdir(parents=True)
        (folder / "status").touch()
        for sources in _system_sources():
            (folder / "sources" / sources.name).write_text(only(kind, sources))
        configuration = folder / "apt.conf"
        configuration.write_text(
            f'APT::Architecture "{architecture}";\n'
            f'APT::Architectures {{ "{architecture}"; }};\n'
            'APT::Sandbox::User "root";\n'  # nobody else may read the folder
            'Acquire::Languages "none";\n'
            f'Dir::Etc::sourcelist "{os.devnull}";\n'
            f'Dir::Etc::sourceparts "{folder}/sources";\n'
            f'Dir::State::lists "{folder}/lists";\n'
            f'Dir::State::status "{folder}/status";\n'
            f'Dir::Cache "{folder}/cache";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(configuration)}
        call(["apt-get", "update", "-q"], env=environment)
        yield environment


def _system_sources() -> list[Path]:
    folder = Path("/etc/apt")
    paths = [folder / "sources.list", *sorted((folder / "sources.list.d").iterdir())]
    return [path for path in paths if path.suffix in (".list", ".sources") and path.is_file()]
