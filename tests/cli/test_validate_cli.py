"""`latbench validate` on a small space of this machine."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.errors import RunnerFailed
from latbench.export import ArtifactStore
from latbench.lut import Lut, predict_latency
from latbench.lut.anchor import anchors_of
from latbench.measure import Workload
from latbench.space import Architecture
from latbench.space.design import varied_architectures
from latbench.target import Target
from latbench.workflows.measure import Measurement
from latbench.workflows.networks import measure_networks
from latbench.workflows.profile import CALIBRATE
from latbench.workflows.runs import network_key, network_workload
from tests.cli.conftest import Run, when_quiet

KEYS = {
    "networks", "mape", "bias", "worst", "within_2", "within_5", "within_10", "coverage", "drift",
    "half_width",
}  # fmt: skip
RANKS = {"spearman", "kendall"}  # of three networks or more


def test_validate_times_other_networks(run: Run, lut_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "validated.json"
    words = ("--networks", "4", "--ci", "20%", "--seed", "7", "--out", str(out))
    done = when_quiet(run, "validate", str(lut_path), *words, "--json")
    figures = json.loads(done.stdout)
    count = len(figures["each"])  # networks with tainted trials only are left out
    assert set(figures) >= (KEYS | RANKS if count > 2 else KEYS)
    assert 2 <= figures["networks"] == count <= 4
    learnt = Lut.load(lut_path).correction
    assert learnt is not None
    assert learnt.networks == CALIBRATE
    assert not {one["layers"] for one in figures["each"]} & {
        one.layers for one in learnt.calibration
    }
    errors = [100 * abs(one["predicted"] / one["measured"] - 1) for one in figures["each"]]
    assert abs(figures["mape"] - sum(errors) / count) < 1e-6
    assert abs(figures["worst"] - max(errors)) < 1e-6
    inside = [one["low"] <= one["measured"] <= one["high"] for one in figures["each"]]
    assert figures["coverage"] == 100 * sum(inside) / count
    validation = Lut.load(out).validation
    assert validation is not None
    assert validation["mape"] == figures["mape"]


def test_validate_prints_its_figures(run: Run, lut_path: Path) -> None:
    done = when_quiet(run, "validate", str(lut_path), "--networks", "2", "--ci", "20%")
    assert re.search("[12], none of which the LUT was built from", done.stdout)
    assert "too few networks" in done.stdout  # for a rank correlation
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_networks_share_rounds_and_a_slowdown(lut_path: Path) -> None:
    lut = Lut.load(lut_path)
    own = anchors_of(lut)[1].architecture  # a network may be an anchor too
    others = varied_architectures(lut.search_space, 3, seed=11)[:2]
    networks = [others[0], own, others[1]]
    timed = measure_networks(networks, lut, ci=0.5, budget_s=20)
    assert [one.name for one in timed.measurements] == [str(one) for one in networks]
    anchors = anchors_of(lut)
    results = [timed.report.result(network_key(anchor.architecture)) for anchor in anchors]
    shown = {
        anchor: result.ms / anchor.ms
        for anchor, result in zip(anchors, results, strict=True)
        if not result.distrusted or all(one.distrusted for one in results)
    }
    assert timed.state is not None
    assert timed.state.slowdowns == tuple(shown.values())
    for one, network in zip(timed.measurements, networks, strict=True):
        assert one.anchor == timed.state.slowdown_of(network.ops)
    for one, network in zip(timed.measurements, networks, strict=True):
        assert one.ci95[0] <= one.ms <= one.ci95[1]
        assert one.predicted == predict_latency(lut, network)
    # It was timed once, as an anchor and as a network.
    assert timed.measurements[1].ms == results[1].ms


def test_a_network_that_fails_leaves_the_others_measured(
    lut_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lut = Lut.load(lut_path)
    networks = varied_architectures(lut.search_space, 3, seed=12)[:2]
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")

    def exported(network: Architecture, target: Target, store: ArtifactStore) -> Workload:
        workload = network_workload(network, target, store)
        if network not in failing:
            return workload
        return replace(
            workload, path=broken, sha256=hashlib.sha256(broken.read_bytes()).hexdigest()
        )

    monkeypatch.setattr("latbench.workflows.networks.network_workload", exported)
    failing = networks[:1]
    timed = measure_networks(networks, lut, ci=0.5, budget_s=20)
    assert isinstance(timed.outcomes[0], RunnerFailed)
    assert isinstance(timed.outcomes[1], Measurement)
    assert timed.outcomes[1].ms > 0
    with pytest.raises(RunnerFailed):
        assert timed.measurements
    failing = networks
    with pytest.raises(RunnerFailed):
        measure_networks(networks, lut, ci=0.5, budget_s=20)
