"""The table of docs/runtimes.md is what the descriptors say."""

import re
from pathlib import Path

import pytest

from latbench.runtime.descriptor import RuntimeDescriptor
from latbench.runtime.registry import descriptor
from latbench.target import Runtime

PAGE = (Path(__file__).parents[2] / "docs/runtimes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("runtime", list(Runtime))
def test_the_row_of_a_runtime_is_true(runtime: Runtime) -> None:
    (row,) = re.findall(rf"^\| `{runtime}` \|.*$", PAGE, re.MULTILINE)
    assert [cell.strip() for cell in row.strip("|").split("|")] == cells(descriptor(runtime))


def cells(found: RuntimeDescriptor) -> list[str]:
    """A row of the table."""
    install = "with latbench"
    if found.extra is not None:
        install = f"`pip install latbench[{found.extra}]`" + (
            "" if found.runs_here else ", to export"
        )
    return [
        f"`{found.runtime}`",
        found.title,
        ", ".join(f"`{suffix}`" for suffix in found.suffixes),
        ", ".join(found.precisions),
        found.runs_on,
        ", ".join(found.accelerators),
        install,
    ]


def test_every_field_and_method_is_explained() -> None:
    own = {name for name in vars(RuntimeDescriptor) if not name.startswith("_")}
    own |= {name for name in RuntimeDescriptor.__annotations__ if not name.startswith("_")}
    # What follows from the fields, and needs no override.
    derived = {
        *("suffix", "shape", "from_nchw", "to_nchw", "io_dtype", "computes_in", "require_format"),
        *("runs_on", "runs_here", "install_command", "import_engine"),
    }
    explained = set(re.findall(r"`(\w+)`", PAGE))
    assert own - derived <= explained
