"""Mutation testing: small deliberate errors in the code, each of which its own tests must notice.

The mutants are data, `<room>.toml` beside this file. `tests/test_mutants.py` checks that they fit the code;
`python -m tests.mutants` runs them (`make mutants`). Every mutant is one `[[mutant]]`:

    name    what is wrong, unique
    file    the file that it changes, from the root of the repository
    old     text that occurs exactly once in the file
    new     what replaces it
    tests   the tests that must fail: the narrowest files or node ids of this code
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One deliberate error, and the tests that must notice it; the module describes the fields."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, source: str) -> str:
        """The mutated text of its file.

        Raises:
            ValueError: `old` does not occur exactly once.
        """
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: old must occur once in {self.file}, found {found}")
        return source.replace(self.old, self.new)


def load_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants, by file and then in the order written.

    Raises:
        ValueError: a file is not TOML.
        TypeError: a field is missing or unknown.
    """
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            mutants.append(Mutant(**row | {"tests": tuple(row["tests"])}))
    return mutants
