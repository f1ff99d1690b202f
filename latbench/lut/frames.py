"""LUTs as pandas frames, and back without loss.

`to_frame` is `Lut.to_frame`, one row an op, that carries the rest of the LUT in its `attrs`. pandas keeps
`attrs` in a Parquet file, so a LUT survives a notebook or a data lake and is the same LUT afterwards:

    to_frame(lut).to_parquet("luts.parquet")                  # pip install latbench[parquet]
    lut = from_frame(pandas.read_parquet("luts.parquet"))
"""

from typing import TYPE_CHECKING, Any

from latbench.errors import LutRefused
from latbench.lut.schema import Lut

if TYPE_CHECKING:
    import pandas as pd

#: Where the frame keeps what is not an entry.
ATTRIBUTE = "latbench_lut"
_DERIVED = ("kind", "params")


def to_frame(lut: Lut) -> "pd.DataFrame":
    """Return the entries as `Lut.to_frame` does, milliseconds, with the rest of `lut` in `attrs`."""
    frame = lut.to_frame()
    frame.attrs[ATTRIBUTE] = {
        key: value for key, value in lut.to_dict().items() if key != "entries"
    }
    return frame


def from_frame(frame: "pd.DataFrame") -> Lut:
    """Return the LUT that `to_frame` made `frame` of.

    Raises:
        LutRefused: the frame does not carry the rest of a LUT (CSV keeps none), its rows were changed
            since, or it holds what no LUT may hold.
    """
    rest = frame.attrs.get(ATTRIBUTE)
    if not isinstance(rest, dict):
        raise LutRefused(
            "the frame is only the entries of a LUT: target, space and correction are not in it",
            hint="make it with latbench.lut.frames.to_frame, and keep it as Parquet, not as CSV",
        )
    rows = frame.drop(columns=list(_DERIVED), errors="ignore").to_dict("index")
    return Lut.from_dict(rest | {"entries": {str(key): _entry(row) for key, row in rows.items()}})


def _entry(row: dict[Any, Any]) -> dict[str, Any]:
    """One row as a LUT file holds it."""
    values = {str(column): value for column, value in row.items()}
    try:
        values["ci95"] = [values.pop("ci95_low"), values.pop("ci95_high")]
        values["warnings"] = str(values["warnings"]).split()
        if not isinstance(values["artifact_sha256"], str):
            values["artifact_sha256"] = None
    except KeyError as error:
        raise LutRefused(f"the frame has no column {error}") from None
    return values
