"""The figures of a validation, what they are computed from, and when they are doubted."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from latbench import Architecture, Lut, Prediction, predict_latency
from latbench.lut.accuracy import Validated, figures_of
from latbench.lut.anchor import anchors_of, slowdowns_of
from latbench.measure import RunReport
from latbench.space.design import varied_architectures
from latbench.workflows.runs import anchor_slowdown
from latbench.workflows.validate import Validation, validate

SHIPPED = Path(__file__).parents[1] / "luts" / "host-amd-epyc.json"


def validation(slowdowns: tuple[float, ...], drift: float) -> Validation:
    networks = tuple(
        Validated(f"network {number}", Prediction(ms, 0.9 * ms, 1.1 * ms), ms)
        for number, ms in enumerate((7.0, 8.0, 9.0))
    )
    figures = figures_of(networks, drift=drift, level=0.0)
    report = cast(Any, None)  # nothing of the run itself is used
    return Validation(Lut.load(SHIPPED), networks, figures, slowdowns, report)


@pytest.mark.parametrize("slowdown", [0.9, 1.0, 1.3])
def test_figures_of_a_steady_device_have_no_warnings(slowdown: float) -> None:
    steady = tuple(slowdown * one for one in (1.0, 1.03, 0.98, 1.01, 1.0))
    assert validation(steady, drift=0.9).warnings == ()


def test_a_drift_during_the_run_is_a_warning() -> None:
    (warning,) = validation((1.0, 1.0), drift=1.63).warnings
    assert warning == "the sentinel drifted by 163 % during this run"


def test_anchors_with_different_slowdowns_are_a_warning() -> None:
    (warning,) = validation((1.0, 1.02, 1.21), drift=0.05).warnings
    assert "differ by 21%" in warning


def _validated(predicted: float, measured: float, half: float = 0.5) -> Validated:
    return Validated("a", Prediction(predicted, predicted - half, predicted + half), measured)


def test_figures_are_those_of_all_errors() -> None:
    networks = [
        _validated(10.9, 10.0),  # 9 % too slow, not covered
        _validated(19.6, 20.0),  # 2 % too fast, covered
        _validated(38.0, 40.0),  # 5 % too fast, not covered
        _validated(80.8, 80.0, half=1.0),  # 1 % too slow, covered
    ]
    figures = figures_of(networks, drift=0.25, level=0.1)
    assert figures.networks == 4
    assert figures.mape == pytest.approx((9 + 2 + 5 + 1) / 4)
    assert figures.bias == pytest.approx((9 - 2 - 5 + 1) / 4)
    assert figures.worst == pytest.approx(9)
    assert (figures.within_3, figures.within_10) == (50, 100)
    assert figures.coverage == 50
    assert (figures.drift, figures.level) == (25, 10)
    assert (figures.spearman, figures.kendall) == (1, 1)


def _timed(slowdowns: Sequence[float], factor: float) -> Any:
    """What replaces the device: networks take `factor` times what the LUT predicts."""

    def measure(networks: Sequence[Architecture], lut: Lut, **_: object) -> SimpleNamespace:
        measurements = [
            SimpleNamespace(name=str(one), ms=factor * predict_latency(lut, one).ms)
            for one in networks
        ]
        report = SimpleNamespace(drift=0.02, distrusted=())
        return SimpleNamespace(measurements=measurements, slowdowns=tuple(slowdowns), report=report)

    return measure


def test_measurements_are_divided_by_the_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latbench.workflows.validate.measure_networks", _timed((1.25, 1.2, 1.4), 1.25)
    )
    done = validate(Lut.load(SHIPPED), networks=5)
    assert len(done.networks) == done.figures.networks == 5
    assert done.figures.worst == pytest.approx(0, abs=1e-9)
    assert done.figures.level == pytest.approx(25)  # the median slowdown
    assert done.figures.drift == pytest.approx(2)


def test_a_lut_is_not_validated_with_its_own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    lut = Lut.load(SHIPPED)
    drawn = varied_architectures(lut.search_space, 5, seed=3)
    assert lut.correction is not None
    first, *others = lut.correction.calibration
    own = first.model_copy(update={"layers": drawn[0].notation, "head": drawn[0].head})
    correction = lut.correction.model_copy(update={"calibration": (own, *others)})
    lut = lut.model_copy(update={"correction": correction})
    monkeypatch.setattr("latbench.workflows.validate.measure_networks", _timed((1.0,), 1.0))
    names = [one.name for one in validate(lut, networks=5, seed=3).networks]
    assert len(names) == 5
    assert names[:4] == [str(one) for one in drawn[1:]]
    assert str(drawn[0]) not in names


def test_a_slowdown_above_1_is_slower_and_the_median_counts() -> None:
    anchors = anchors_of(Lut.load(SHIPPED))
    factors = (1.1, 1.3, 1.0, 1.2, 1.15)
    assert len(anchors) == len(factors)
    now = [factor * anchor.ms for factor, anchor in zip(factors, anchors, strict=True)]
    assert slowdowns_of(anchors, now) == pytest.approx(factors)
    left = iter(now)
    report = SimpleNamespace(result=lambda key: SimpleNamespace(ms=next(left)))
    found = anchor_slowdown(anchors, cast(RunReport, report))
    assert found is not None
    assert math.isclose(found, 1.15)
    assert anchor_slowdown((), cast(RunReport, report)) is None
