"""`latbench validate` on a small space of this machine."""

import json
import statistics
from pathlib import Path

from latbench.lut import Lut, predict_latency
from latbench.lut.anchor import anchors_of
from latbench.networks import measure_networks
from latbench.space.design import varied_architectures
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


def test_networks_share_rounds_and_a_level(lut_path: Path) -> None:
    lut = Lut.load(lut_path)
    own = anchors_of(lut)[1].architecture  # one that the LUT was made from is asked for, too
    others = varied_architectures(lut.search_space, 3, seed=11)[:2]
    networks = [others[0], own, others[1]]
    timed = measure_networks(networks, lut, ci=0.5, budget_s=20)
    assert [one.name for one in timed.measurements] == [str(one) for one in networks]
    assert len(timed.levels) == len(anchors_of(lut))
    assert {one.anchor for one in timed.measurements} == {statistics.median(timed.levels)}
    for one, network in zip(timed.measurements, networks, strict=True):
        assert one.ci95[0] <= one.ms <= one.ci95[1]
        assert one.predicted == predict_latency(lut, network)
    # It was timed once: what tells the level is what is told of it.
    assert timed.measurements[1].ms / anchors_of(lut)[1].ms == timed.levels[1]
