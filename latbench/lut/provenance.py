"""Notes on LUTs that were not measured, and their refusal."""

from latbench.errors import LutRefused
from latbench.lut.schema import Lut


def provenance_note(lut: Lut, name: str) -> str | None:
    """Return a one-line note on a LUT that was not measured, with the command that replaces it; else None.

    Args:
        name: how the user knows the LUT, such as the path of its file.
    """
    if lut.provenance == "measured":
        return None
    what = {"modelled": "a modelled LUT", "imported": "an imported LUT"}[lut.provenance]
    return f"note: {name} is {what}; replace it with: {lut.command} && latbench build-lut"


def require_measured(lut: Lut, name: str) -> None:
    """Check that `lut` was measured.

    Raises:
        LutRefused: it was not; the hint is the command that measures it.
    """
    if lut.provenance != "measured":
        raise LutRefused(
            f"{name} is {lut.provenance}, but --require-measured accepts measured LUTs only",
            hint=f"measure it with: {lut.command}",
        )
