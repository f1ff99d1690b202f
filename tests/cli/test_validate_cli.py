"""`latbench validate` on a small space of this machine."""

import json
from pathlib import Path

from latbench.lut import Lut
from tests.cli.conftest import Run, when_quiet

KEYS = {
    "networks", "mape", "bias", "worst", "within_2", "within_5", "within_10", "coverage", "drift",
    "spearman", "kendall",
}  # fmt: skip


def test_validate_times_other_networks(run: Run, lut_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "validated.json"
    words = ("--networks", "4", "--ci", "20%", "--seed", "7", "--out", str(out))
    done = when_quiet(run, "validate", str(lut_path), *words, "--json")
    figures = json.loads(done.stdout)
    assert set(figures) >= KEYS
    assert figures["networks"] == len(figures["each"]) == 4
    learnt = Lut.load(lut_path).correction
    assert learnt is not None
    assert learnt.networks == 12
    assert not {one["layers"] for one in figures["each"]} & {
        one.layers for one in learnt.calibration
    }
    errors = [100 * abs(one["predicted"] / one["measured"] - 1) for one in figures["each"]]
    assert abs(figures["mape"] - sum(errors) / 4) < 1e-6
    assert abs(figures["worst"] - max(errors)) < 1e-6
    inside = [one["low"] <= one["measured"] <= one["high"] for one in figures["each"]]
    assert figures["coverage"] == 100 * sum(inside) / 4
    validation = Lut.load(out).validation
    assert validation is not None
    assert validation["mape"] == figures["mape"]


def test_validate_says_what_it_found(run: Run, lut_path: Path) -> None:
    done = when_quiet(run, "validate", str(lut_path), "--networks", "2", "--ci", "20%")
    assert "2, none of which the LUT was made from" in done.stdout
    assert "too few networks" in done.stdout  # for a rank correlation
    assert max(map(len, done.stdout.splitlines())) <= 80
