"""A LUT that was converted to a pandas frame or a Parquet file and back is the same LUT."""

import io
from pathlib import Path

import pandas as pd
import pytest

from latbench.errors import LutRefused
from latbench.lut import Lut
from latbench.lut.frames import from_frame, to_frame
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.load(ROOT / "luts" / "host-amd-epyc.json")


def test_a_frame_is_the_same_lut(lut: Lut) -> None:
    assert from_frame(to_frame(lut)) == lut


def test_a_frame_of_entries_without_artifacts_is_the_same_lut(lut: Lut) -> None:
    entries = {
        key: entry.model_copy(update={"artifact_sha256": None, "warnings": ("bimodal", "trend")})
        for key, entry in lut.entries.items()
    }
    bare = lut.model_copy(update={"entries": entries})
    assert from_frame(to_frame(bare)) == bare


def test_a_parquet_file_is_the_same_lut(lut: Lut, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    to_frame(lut).to_parquet(tmp_path / "lut.parquet")
    assert from_frame(pd.read_parquet(tmp_path / "lut.parquet")) == lut


def test_a_changed_or_incomplete_frame_is_refused(lut: Lut) -> None:
    frame = to_frame(lut)
    with pytest.raises(LutRefused, match="content_sha256"):
        from_frame(frame.head(10))
    with pytest.raises(LutRefused, match="content_sha256"):
        from_frame(frame.drop(columns=["ms"]))
    with pytest.raises(LutRefused, match="no column 'ci95_low'"):
        from_frame(frame.drop(columns=["ci95_low"]))
    csv = pd.read_csv(io.StringIO(frame.to_csv()), index_col="key")
    with pytest.raises(LutRefused, match="only the entries"):
        from_frame(csv)
