"""What a user must hear of a LUT that was not measured, and when it is refused."""

from latbench.errors import LutRefused
from latbench.lut.schema import Lut


def provenance_note(lut: Lut, name: str) -> str | None:
    """One line on a LUT that was not measured, and the command that replaces it; None for others.

    Args:
        name: what the user calls the LUT, such as the path of its file.
    """
    if lut.provenance == "measured":
        return None
    what = {"modelled": "a modelled LUT", "imported": "an imported LUT"}[lut.provenance]
    return f"note: {name} is {what}; replace it with: {lut.command} && latbench build-lut"


def require_measured(lut: Lut, name: str) -> None:
    """Make sure that `lut` was measured.

    Raises:
        LutRefused: it was not; the hint is the command that measures it.
    """
    if lut.provenance != "measured":
        raise LutRefused(
            f"{name} is {lut.provenance}, and --require-measured asks for a measured LUT",
            hint=f"measure it with: {lut.command}",
        )
