"""The rooms of the two packages, and which rooms each may import: one table, checked for every import.

A room is a package or a module; a module belongs to the longest name in the table that it starts with.
docs/architecture.md shows the table with the purpose of each room.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("latbench", "fbnet_search")
REWRITE = "write the tables of docs/architecture.md again: python -m tests.test_rooms"

#: Every room may import these; they import nothing but each other.
LEAVES = (
    *(
        "latbench._version",
        "latbench.errors",
        "latbench.files",
        "latbench.quantiles",
        "latbench.quiet",
        "latbench.record",
        "latbench.wording",
    ),
    "latbench.runtime.formats",
)

_MODELS = ("latbench.space", "latbench.graph", "latbench.runtime", "latbench.target")
_PROTOCOL = ("latbench.device.conditions", "latbench.device.protocol")
#: What every kind of device may use; none may import another.
_DRIVER = (
    *(*_PROTOCOL, "latbench.device.base", "latbench.device.catalogue", "latbench.device.linux"),
    *("latbench.device.lock", "latbench.device.native", "latbench.device.opener"),
    *("latbench.device.selector", "latbench.device.tools", "latbench.runtime", "latbench.target"),
)

#: Room -> the rooms that it may import, besides itself and the leaves.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "latbench._version": (),
    "latbench.errors": (),
    "latbench.files": (),
    "latbench.quantiles": (),
    "latbench.quiet": (),
    "latbench.record": (),
    "latbench.wording": (),
    "latbench.runtime.formats": (),
    "latbench.statistics": (),
    "latbench.space": (),
    "latbench.graph": (),
    "latbench.runtime": ("latbench.graph",),
    "latbench.target": ("latbench.runtime",),
    "latbench.export": _MODELS,
    "latbench.device": (),
    "latbench.device.conditions": (),
    "latbench.device.protocol": (
        *("latbench.device.conditions", "latbench.runtime", "latbench.target"),
    ),
    "latbench.device.base": (*_PROTOCOL, "latbench.target"),
    "latbench.device.catalogue": ("latbench.runtime", "latbench.target"),
    "latbench.device.linux": ("latbench.device.conditions",),
    "latbench.device.lock": (),
    "latbench.device.native": (),
    "latbench.device.selector": (),
    "latbench.device.opener": (
        *("latbench.device.base", "latbench.device.catalogue", "latbench.device.selector"),
    ),
    "latbench.device.tools": (*_PROTOCOL, "latbench.runtime", "latbench.target"),
    "latbench.device.host": _DRIVER,
    "latbench.device.android": _DRIVER,
    "latbench.device.ios": _DRIVER,
    "latbench.device.registry": (
        *("latbench.device.base", "latbench.device.catalogue", "latbench.device.opener"),
        *("latbench.device.selector", "latbench.device.host", "latbench.device.android"),
        "latbench.device.ios",
    ),
    "latbench.measure": (
        *("latbench.device.base", *_PROTOCOL, "latbench.runtime", "latbench.statistics"),
        "latbench.target",
    ),
    "latbench.lut": ("latbench.space", "latbench.statistics", "latbench.target"),
    "latbench.workflows": (
        *(*_MODELS, "latbench.export", *_PROTOCOL, "latbench.device.base"),
        *("latbench.device.catalogue", "latbench.device.registry", "latbench.measure"),
        *("latbench.lut", "latbench.statistics"),
    ),
    "latbench.report": ("latbench.space", "latbench.measure", "latbench.lut", "latbench.target"),
    "latbench.cli": (
        *(*_MODELS, "latbench.export", "latbench.device.catalogue", "latbench.device.native"),
        *("latbench.device.registry", "latbench.device.ios", "latbench.measure", "latbench.lut"),
        *("latbench.report", "latbench.workflows"),
    ),
    "latbench": ("latbench.space", "latbench.lut", "latbench.target", "latbench.workflows"),
    "latbench.__main__": ("latbench.cli",),
    "fbnet_search.cost": (
        *("latbench.space", "latbench.graph", "latbench.lut", "latbench.runtime"),
        "latbench.target",
    ),
    "fbnet_search.data": (),
    "fbnet_search.run": ("fbnet_search.data",),
    "fbnet_search.supernet": (
        *("fbnet_search.run", "fbnet_search.cost", "latbench.space", "latbench.lut"),
    ),
    "fbnet_search.latencies": ("latbench.space", "latbench.lut", "latbench.workflows"),
    "fbnet_search.choose": (
        *("fbnet_search.cost", "fbnet_search.data", "fbnet_search.latencies", "fbnet_search.run"),
        *("fbnet_search.supernet", "latbench.space", "latbench.lut", "latbench.workflows"),
    ),
    "fbnet_search.result": (
        *("fbnet_search.choose", "fbnet_search.latencies", "fbnet_search.run"),
        *("latbench.space", "latbench.lut"),
    ),
    "fbnet_search.output": ("fbnet_search.result", "latbench.lut", "latbench.report"),
    "fbnet_search.training": (
        *("fbnet_search.data", "fbnet_search.latencies", "fbnet_search.output"),
        *("fbnet_search.result", "fbnet_search.run", "fbnet_search.supernet"),
        *("latbench.export", "latbench.lut", "latbench.runtime", "latbench.space"),
        "latbench.target",
    ),
    "fbnet_search.request": (
        "fbnet_search.choose",
        *("fbnet_search.cost", "fbnet_search.run", "latbench.lut", "latbench.space"),
    ),
    "fbnet_search.loop": (
        *("fbnet_search.choose", "fbnet_search.cost", "fbnet_search.data", "fbnet_search.run"),
        *("fbnet_search.supernet", "latbench.lut"),
    ),
    "fbnet_search.engine": (
        *("fbnet_search.choose", "fbnet_search.cost", "fbnet_search.data", "fbnet_search.loop"),
        *("fbnet_search.output", "fbnet_search.request", "fbnet_search.result"),
        *("fbnet_search.run", "fbnet_search.supernet", "latbench.space"),
    ),
    "fbnet_search.cli": (
        *("fbnet_search.choose", "fbnet_search.cost", "fbnet_search.data", "fbnet_search.engine"),
        *("fbnet_search.latencies", "fbnet_search.result", "fbnet_search.run"),
        *("fbnet_search.training", "latbench.cli", "latbench.lut"),
    ),
    "fbnet_search": (
        *(
            "fbnet_search.engine",
            "fbnet_search.result",
            "fbnet_search.run",
            "fbnet_search.training",
        ),
    ),
}
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("latbench", "fbnet_search")
    for path in (ROOT / package).rglob("*.py")
)


def room_of(module: str) -> str:
    """The room that a module belongs to: the longest name in the table that it starts with."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(name for name in names if name in MAY_IMPORT)


def name_of(path: Path) -> str:
    """The module's dotted name."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of the project's own modules in a file, wherever it stands: line and module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from package import module` names the module by both parts.
            names = [
                f"{node.module}.{alias.name}"
                if _is_module(f"{node.module}.{alias.name}")
                else node.module
                for alias in node.names
            ]
        else:
            continue
        yield from (
            (node.lineno, name)
            for name in names
            if name.partition(".")[0] in ("latbench", "fbnet_search")
        )


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_follow_the_table(path: Path) -> None:
    own = room_of(name_of(path))
    wrong = [
        f"{path}:{line}: {own} must not import {module}"
        for line, module in imports_of(path)
        if room_of(module) not in {own, *LEAVES, *MAY_IMPORT[own]}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_circle() -> None:
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert not set(order) - set(MAY_IMPORT), "a room that is imported is not in the table"


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {name_of(path): path for path in MODULES}
    TopologicalSorter(
        {
            name: {module for _, module in imports_of(path) if module != name and module in names}
            for name, path in names.items()
            if path.name
            != "__init__.py"  # a package's face imports what it offers, when it is asked
        }
    ).prepare()  # raises CycleError, which names the circle


def test_imports_inside_functions_and_of_whole_modules_are_found() -> None:
    found = {module for _, module in imports_of(Path("latbench/cli/build_lut.py"))}
    assert "latbench.workflows.build_lut" in found
    assert "latbench.device.native.engines" in {
        module for _, module in imports_of(Path("latbench/cli/runner.py"))
    }


def shown(room: str, package: str) -> str:
    """The name of a room on the page, in the table of `package`: `device.host`, `__init__`."""
    return "`__init__`" if room == package else f"`{room.removeprefix(f'{package}.')}`"


def rows_of_the_page() -> dict[str, str]:
    """The rooms in the tables of docs/architecture.md, and what each holds."""
    text = PAGE.read_text(encoding="utf-8")
    text = text[text.index("## Rooms") : text.index("## Export")]
    rows: dict[str, str] = {}
    for package, table in zip(PACKAGES, text.split("| room |")[1:], strict=True):
        for line in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE):
            name, purpose, _ = line.split(" | ")
            rows[package if name == "`__init__`" else f"{package}.{name.strip('`')}"] = purpose
    return rows


def table_of(package: str, purposes: dict[str, str]) -> str:
    """The table of a package as the page must have it."""
    lines = ["| room | what it holds | may import |", "| --- | --- | --- |"]
    for room, others in MAY_IMPORT.items():
        if room.partition(".")[0] == package:
            names = dict.fromkeys(shown(other, package) for other in others)
            may_import = "leaf" if room in LEAVES else ", ".join(names) or "leaves only"
            lines.append(f"| {shown(room, package)} | {purposes[room]} | {may_import} |")
    return "\n".join(lines)


def test_the_page_shows_every_room_with_its_directions() -> None:
    text, purposes = PAGE.read_text(encoding="utf-8"), rows_of_the_page()
    assert set(purposes) == set(MAY_IMPORT), REWRITE
    assert all(table_of(package, purposes) in text for package in PACKAGES), REWRITE


def main() -> None:
    """Write the tables of the page again; a new room gets the first line of its docstring."""
    text, purposes = PAGE.read_text(encoding="utf-8"), rows_of_the_page()
    for room in MAY_IMPORT:
        if room not in purposes:
            path = ROOT / room.replace(".", "/")
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            described = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            purposes[room] = described.partition("\n")[0].rstrip(".")
    tables = iter(PACKAGES)
    PAGE.write_text(
        re.sub(
            r"^\| room \|.*\n(?:\|.*\n)+",
            lambda _: table_of(next(tables), purposes) + "\n",
            text,
            flags=re.MULTILINE,
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
