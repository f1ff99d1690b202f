"""When the figures of a validation are doubted."""

from pathlib import Path
from typing import Any, cast

import pytest

from latbench import Lut, Prediction
from latbench.lut.accuracy import Validated, figures_of
from latbench.workflows.validate import Validation

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
