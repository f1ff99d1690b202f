"""The shipped search spaces and their published networks: the files of `latbench/space/spaces`."""

from dataclasses import dataclass
from functools import cache
from importlib import resources

from latbench.errors import UnknownName
from latbench.space.definition import PublishedNetwork, SpaceFile, read_definition

#: The space that is used unless another is named.
DEFAULT_SPACE = "fbnet"


@cache
def space_names() -> tuple[str, ...]:
    """The names of the shipped spaces, sorted."""
    folder = resources.files("latbench.space") / "spaces"
    return tuple(
        sorted(
            file.name[: -len(".toml")] for file in folder.iterdir() if file.name != "__pycache__"
        )
    )


@cache
def space_file(name: str) -> SpaceFile:
    """The file of a shipped space.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in space_names():
        raise UnknownName(
            "search space",
            name,
            space_names(),
        )
    path = resources.files("latbench.space") / "spaces" / f"{name}.toml"
    file, problems, lines = read_definition(path.read_text(encoding="utf-8"))
    assert file is not None, [problem.located(lines) for problem in problems]
    return file


@dataclass(frozen=True)
class Published:
    """A published network, and the file of its space."""

    name: str
    network: PublishedNetwork
    file: SpaceFile


@cache
def published_networks() -> dict[str, Published]:
    """The published networks of all shipped spaces, by name."""
    files = map(space_file, space_names())
    return {
        name: Published(first, network, file)
        for file in files
        for first, network in file.networks.items()
        for name in (first, *network.also)
    }


def networks_of(file: SpaceFile) -> dict[str, PublishedNetwork]:
    """The published networks that are networks of a space."""
    related = space_file(file.networks_of).networks if file.networks_of else {}
    return {**related, **file.networks}
