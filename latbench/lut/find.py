"""Where a LUT that a user names is: a file of that path, or a shipped LUT of that file name."""

from pathlib import Path

from latbench.errors import LutRefused
from latbench.files import shipped


def find_lut(path: str | Path) -> tuple[Path, str | None]:
    """Return the file that `path` means, and a note for the user if it is a shipped LUT.

    An existing file of that path wins. Else it is the LUT of that file name that comes with latbench, so
    that `luts/iphonex.json` and `iphonex.json` work in every folder.

    Raises:
        LutRefused: neither exists; the hint lists the shipped LUTs.
    """
    named = Path(path)
    if named.exists():
        return named, None
    folder = shipped("luts")
    if (folder / named.name).is_file():
        note = f"note: {named} does not exist here; using the shipped LUT of that name"
        return folder / named.name, note
    known = ", ".join(sorted(one.name for one in folder.glob("*.json")))
    raise LutRefused(
        f"cannot read {named}: no such file",
        hint=f"shipped LUTs: {known}; or make your own: latbench profile && latbench build-lut",
    )
