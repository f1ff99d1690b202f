"""How well a LUT predicts networks that it was not built from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from latbench.lut.predict import Prediction
from latbench.lut.schema import Lut
from latbench.quantiles import student_quantile


@dataclass(frozen=True)
class Validated:
    """One network: its name or notation, the LUT's prediction, and its measurement in milliseconds.

    `measured_ms` is divided by the slowdown since the LUT's run; `half_width` is half the width of its own
    95 % interval, relative.
    """

    name: str
    predicted: Prediction
    measured_ms: float
    half_width: float = 0.0

    @property
    def error(self) -> float:
        """The error of the prediction relative to the measurement; above 0: predicted too slow."""
        return self.predicted.ms / self.measured_ms - 1

    @property
    def covered(self) -> bool | None:
        """Whether the measurement lies inside the prediction's interval; None if it has none."""
        bounds = self.predicted.bounds
        return None if bounds is None else bounds[0] <= self.measured_ms <= bounds[1]


@dataclass(frozen=True)
class Figures:
    """The figures of a validation, in per cent except `networks` and the rank correlations.

    `mape` is the mean absolute error, `bias` the mean error (above 0: predicted too slow), `worst` the
    largest absolute error, `within_N` the share of networks whose error is at most N %, `coverage` the share
    whose measurement lies inside the 95 % interval, `drift` the range of the sentinel during the validation
    run, `level` how much slower that run was than the LUT's run, and `half_width` half the width of the
    measurements' own 95 % intervals (median): errors below it may be those of the measurements.
    """

    networks: int
    mape: float
    bias: float
    worst: float
    within_2: float
    within_3: float
    within_5: float
    within_10: float
    coverage: float
    drift: float
    level: float
    half_width: float
    spearman: float
    kendall: float

    def to_dict(self) -> dict[str, float]:
        """The figures as JSON data, without undefined correlations, or a coverage of no intervals."""
        return {name: value for name, value in asdict(self).items() if np.isfinite(value)}


def figures_of(networks: Sequence[Validated], *, drift: float, level: float) -> Figures:
    """Return the figures of one network or more; `drift` and `level` are relative."""
    from scipy.stats import kendalltau, spearmanr

    errors = 100 * np.array([network.error for network in networks])
    covered = [network.covered for network in networks if network.covered is not None]
    predicted = [network.predicted.ms for network in networks]
    measured = [network.measured_ms for network in networks]
    ranked = len(networks) > 2

    def within(limit: float) -> float:
        return float(100 * np.mean(np.abs(errors) <= limit))

    return Figures(
        networks=len(networks),
        mape=float(np.abs(errors).mean()),
        bias=float(errors.mean()),
        worst=float(np.abs(errors).max()),
        within_2=within(2),
        within_3=within(3),
        within_5=within(5),
        within_10=within(10),
        coverage=float(100 * np.mean(covered)) if covered else float("nan"),
        drift=100 * drift,
        level=100 * level,
        half_width=float(100 * np.median([network.half_width for network in networks])),
        spearman=float(spearmanr(predicted, measured).statistic) if ranked else float("nan"),
        kendall=float(kendalltau(predicted, measured).statistic) if ranked else float("nan"),
    )


def with_validation(lut: Lut, networks: Sequence[Validated], figures: Figures) -> Lut:
    """`lut` with the `figures` of a validation, and with intervals that follow the errors of its `networks`.

    The interval factor is the root mean square of standardised errors: of the calibration networks, each left
    out of the fit, and now of the validated ones too, which are of another run.
    """
    correction = lut.correction
    if correction is not None and len(correction.calibration) > 1:
        quantile = student_quantile(correction.networks - 2)
        squares = [
            (
                quantile
                * np.log(one.measured_ms / one.predicted.ms)
                / np.log(one.predicted.high / one.predicted.ms)
            )
            ** 2
            for one in networks
            if one.predicted.high is not None
        ]
        count = correction.networks
        scale = np.sqrt((count + np.sum(squares)) / (count + len(squares)))
        factor = float(correction.interval_factor * scale)
        correction = correction.model_copy(update={"interval_factor": factor})
    return lut.model_copy(update={"validation": figures.to_dict(), "correction": correction})
