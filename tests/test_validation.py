"""The figures of a validation, what they are computed from, and when they are doubted."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from latbench import Architecture, Lut, Prediction, predict_latency
from latbench.errors import LatbenchError
from latbench.lut.accuracy import Validated, figures_of, with_validation
from latbench.lut.anchor import DeviceState, anchors_of, state_of
from latbench.measure import RunReport
from latbench.space import SearchSpace
from latbench.space.design import varied_architectures
from latbench.workflows.measure import Measurement
from latbench.workflows.runs import device_state, network_key
from latbench.workflows.validate import Validation, validate

SHIPPED = Path(__file__).parents[1] / "luts" / "host-amd-epyc.json"


def _state(slowdowns: Sequence[float]) -> DeviceState:
    """The state of a device that its anchors show by these slowdowns."""
    lut = Lut.load(SHIPPED)
    anchors = anchors_of(lut)[: len(slowdowns)]
    now = [factor * anchor.ms for factor, anchor in zip(slowdowns, anchors, strict=True)]
    return state_of(lut, anchors, now)


def validation(slowdowns: tuple[float, ...], drift: float, left_out: int = 0) -> Validation:
    networks = tuple(
        Validated(f"network {number}", Prediction(ms, 0.9 * ms, 1.1 * ms), ms)
        for number, ms in enumerate((7.0, 8.0, 9.0))
    )
    figures = figures_of(networks, drift=drift, level=0.0)
    report = cast(Any, None)  # nothing of the run itself is used
    return Validation(Lut.load(SHIPPED), networks, figures, _state(slowdowns), left_out, report)


@pytest.mark.parametrize("slowdown", [0.92, 1.0, 1.08])
def test_figures_of_a_steady_device_have_no_warnings(slowdown: float) -> None:
    steady = tuple(slowdown * one for one in (1.0, 1.03, 0.98, 1.01, 1.0))
    assert validation(steady, drift=0.9).warnings == ()


def test_a_drift_during_the_run_is_a_warning() -> None:
    (warning,) = validation((1.0, 1.0), drift=1.63).warnings
    assert warning == "the sentinel drifted by 163 % during this run"


def test_anchors_with_different_slowdowns_are_a_warning() -> None:
    (warning,) = validation((1.0, 1.2, 1.0, 0.85, 1.1, 1.0), drift=0.05).warnings
    assert "disagree about the slowdown by" in warning


@pytest.mark.parametrize(("slowdown", "words"), [(1.25, "25% slower"), (0.85, "15% faster")])
def test_a_device_of_another_speed_is_a_warning(slowdown: float, words: str) -> None:
    (warning,) = validation((slowdown,) * 5, drift=0.05).warnings
    assert words in warning
    assert "too far to compare well" in warning


def test_a_measurement_at_another_speed_than_the_luts_is_a_warning() -> None:
    lut = Lut.load(SHIPPED)
    at = {
        anchor: Measurement("a", lut.target, 9.0, (8.9, 9.1), 100, 6, 0, anchor=anchor).warnings
        for anchor in (None, 1.09, 1.11)
    }
    assert at[None] == at[1.09] == ()
    assert at[1.11][0].startswith("the device is 11% slower than in the LUT's run")


def test_networks_that_are_left_out_are_a_warning() -> None:
    (warning,) = validation((1.0,) * 5, drift=0.05, left_out=2).warnings
    assert warning == "2 networks have tainted trials only and are left out"


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


def _timed(slowdowns: Sequence[float], factor: float, distrusted: int = 0) -> Any:
    """What replaces the device: networks take `factor` times their prediction, the first are tainted."""

    def measure(networks: Sequence[Architecture], lut: Lut, **_: object) -> SimpleNamespace:
        state = _state(slowdowns)
        measurements = [
            SimpleNamespace(
                name=str(one),
                ms=factor * predict_latency(lut, one).ms,
                half_width=0.02,
                slowdown=state.slowdown_of(one.ops),
            )
            for one in networks
        ]
        tainted = {network_key(one) for one in networks[:distrusted]}
        report = SimpleNamespace(
            drift=0.02,
            result=lambda key: SimpleNamespace(distrusted=key in tainted),
            taints={"waiting": 12},
        )
        return SimpleNamespace(measurements=measurements, state=state, report=report)

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
    assert done.figures.half_width == pytest.approx(2)


def test_a_network_with_tainted_trials_only_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latbench.workflows.validate.measure_networks", _timed((1.0,), 1.0, distrusted=2)
    )
    done = validate(Lut.load(SHIPPED), networks=5)
    assert (len(done.networks), done.left_out) == (3, 2)


def test_no_figures_are_made_of_tainted_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latbench.workflows.validate.measure_networks", _timed((1.0,), 1.0, distrusted=3)
    )
    with pytest.raises(LatbenchError, match="3 of 5 networks have tainted trials only") as caught:
        validate(Lut.load(SHIPPED), networks=5)
    assert caught.value.details == ("trials tainted by: waiting 12",)


def test_intervals_follow_a_validation() -> None:
    lut = Lut.load(SHIPPED)
    assert lut.correction is not None
    networks = varied_architectures(lut.search_space, 12, seed=8)
    predictions = [predict_latency(lut, one) for one in networks]

    def validated(share: float) -> list[Validated]:
        """Measurements at this share of the way from the prediction to the end of its interval."""
        return [Validated("a", one, one.ms * (one.high / one.ms) ** share) for one in predictions]

    def width(networks: list[Validated]) -> float:
        updated = with_validation(lut, networks, figures_of(networks, drift=0.0, level=0.0))
        found = predict_latency(updated, varied_architectures(lut.search_space, 1)[0])
        return math.log(found.high / found.low)

    as_before = width(
        validated(1 / 2.228)
    )  # one standard deviation, by Student's t of 12 - 2 degrees
    own = predict_latency(lut, varied_architectures(lut.search_space, 1)[0])
    assert as_before == pytest.approx(math.log(own.high / own.low), rel=1e-3)
    assert width(validated(2 / 2.228)) == pytest.approx(
        as_before * math.sqrt((1 + 4) / 2), rel=1e-3
    )
    assert width(validated(0.0)) == pytest.approx(as_before * math.sqrt(1 / 2), rel=1e-3)


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
    lut = Lut.load(SHIPPED)
    anchors = anchors_of(lut)
    factors = (1.1, 1.3, 1.0, 1.2, 1.15, 1.12, 1.18, 1.15)
    now = [factor * anchor.ms for factor, anchor in zip(factors, anchors, strict=True)]
    left = iter(now)
    report = SimpleNamespace(result=lambda key: SimpleNamespace(ms=next(left), distrusted=False))
    found = device_state(lut, anchors, cast(RunReport, report))
    assert found is not None
    assert found.slowdowns == pytest.approx(factors)
    assert found.slowdown == pytest.approx(1.15)
    assert device_state(lut, (), cast(RunReport, report)) is None


def test_anchors_with_tainted_trials_only_do_not_count() -> None:
    lut = Lut.load(SHIPPED)
    anchors = anchors_of(lut)
    results = iter([(2.0 if number < 2 else 1.1) for number in range(len(anchors))])
    by_key = {
        network_key(anchor.architecture): SimpleNamespace(
            ms=factor * anchor.ms, distrusted=factor == 2.0
        )
        for anchor, factor in zip(anchors, results, strict=True)
    }
    found = device_state(lut, anchors, cast(RunReport, SimpleNamespace(result=by_key.__getitem__)))
    assert found is not None
    assert found.slowdowns == pytest.approx([1.1] * (len(anchors) - 2))


def test_a_slow_memory_slows_down_networks_that_move_more_bytes() -> None:
    """The same anchors, once alike and once slower the more memory they use."""
    lut = Lut.load(SHIPPED)
    anchors = anchors_of(lut)
    alike = state_of(lut, anchors, [1.1 * anchor.ms for anchor in anchors])
    probe = DeviceState(lut, (), level=0.0, memory=1.0, deviation=0.0)
    shares = [math.log(probe.slowdown_of(anchor.architecture.ops)) for anchor in anchors]
    slow = [math.exp(0.05 + 0.3 * share) for share in shares]
    state = state_of(
        lut, anchors, [factor * anchor.ms for factor, anchor in zip(slow, anchors, strict=True)]
    )
    assert abs(alike.memory) < 0.005
    assert state.memory == pytest.approx(0.3, rel=0.1)
    networks = varied_architectures(SearchSpace.named(), 20, seed=4)
    for network in networks:
        share = math.log(probe.slowdown_of(network.ops))
        assert state.slowdown_of(network.ops) == pytest.approx(
            math.exp(0.05 + 0.3 * share), rel=0.01
        )
        assert alike.slowdown_of(network.ops) == pytest.approx(1.1, rel=0.002)
