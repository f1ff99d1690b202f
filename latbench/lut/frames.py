"""Convert LUTs to pandas data frames and back, without loss.

`to_frame` returns `Lut.to_frame`, one row per op, with the rest of the LUT in the frame's `attrs`. pandas
stores `attrs` in Parquet files, so the LUT can be restored exactly:

    to_frame(lut).to_parquet("luts.parquet")                  # pip install latbench[parquet]
    lut = from_frame(pandas.read_parquet("luts.parquet"))
"""

import math
from typing import TYPE_CHECKING, Any

from latbench.errors import LutRefused
from latbench.lut.schema import Lut

if TYPE_CHECKING:
    import pandas as pd

#: The key in `attrs` of everything that is not an entry.
ATTRIBUTE = "latbench_lut"
_DERIVED = ("kind", "params")


def to_frame(lut: Lut) -> "pd.DataFrame":
    """Return `lut.to_frame()` (latencies in milliseconds) with the rest of `lut` in `attrs`."""
    frame = lut.to_frame()
    frame.attrs[ATTRIBUTE] = {
        key: value for key, value in lut.to_dict().items() if key != "entries"
    }
    return frame


def from_frame(frame: "pd.DataFrame") -> Lut:
    """Return the LUT that `to_frame` converted to `frame`.

    Raises:
        LutRefused: the frame lacks the rest of the LUT (CSV files do not store it), its rows were changed,
            or it has invalid values.
    """
    rest = frame.attrs.get(ATTRIBUTE)
    if not isinstance(rest, dict):
        raise LutRefused(
            "the frame has only the entries of a LUT: target, space and correction are missing",
            hint="make it with latbench.lut.frames.to_frame, and store it as Parquet, not as CSV",
        )
    rows = frame.drop(columns=list(_DERIVED), errors="ignore").to_dict("index")
    return Lut.from_dict(rest | {"entries": {str(key): _entry(row) for key, row in rows.items()}})


def _entry(row: dict[Any, Any]) -> dict[str, Any]:
    """A row as an entry of a LUT file."""
    values = {str(column): value for column, value in row.items()}
    try:
        bounds = values.pop("ci95_low"), values.pop("ci95_high")
        values["ci95"] = None if math.isnan(bounds[0]) else list(bounds)
        values["warnings"] = str(values["warnings"]).split()
        if not isinstance(values["artifact_sha256"], str):
            values["artifact_sha256"] = None
    except KeyError as error:
        raise LutRefused(f"the frame has no column {error}") from None
    return values
