"""Compare a LUT's predictions with measured networks that it was not built from: `latbench validate`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import BadRequest, LatbenchError
from latbench.lut import Lut, predict_latency
from latbench.lut.accuracy import Figures, Validated, figures_of
from latbench.lut.anchor import anchors_of
from latbench.measure import RunReport
from latbench.space import Architecture
from latbench.space.design import varied_architectures
from latbench.wording import count_of, percent
from latbench.workflows.networks import Together, measure_networks
from latbench.workflows.runs import Progress, silent

#: The largest drift of the sentinel, relative, before the figures are doubted. In our own runs a drift of 1.1
#: left the mean error below 1.7 %, and one of 2.3 made it 4 %.
_MAX_DRIFT = 1.5

#: The largest relative difference between the slowdowns of anchors that still describe one slowdown of the
#: device. The errors of anchors are a few per cent.
_MAX_DISAGREEMENT = 0.10


@dataclass(frozen=True)
class Validation:
    """The outcome of `validate`.

    Attributes:
        lut: the validated LUT.
        networks: prediction and measurement of each network.
        figures: the errors over all networks.
        slowdowns: the slowdown of each anchor relative to the LUT's run (above 1 is slower).
        report: the outcome of the run.
    """

    lut: Lut
    networks: tuple[Validated, ...]
    figures: Figures
    slowdowns: tuple[float, ...]
    report: RunReport

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may describe disturbances of the device instead of the LUT."""
        warnings = []
        if self.figures.drift > 100 * _MAX_DRIFT:
            warnings.append(f"the sentinel drifted by {self.figures.drift:.0f} % during this run")
        disagreement = max(self.slowdowns) / min(self.slowdowns) - 1
        if disagreement > _MAX_DISAGREEMENT:
            warnings.append(
                f"the slowdowns of the LUT's own networks differ by {percent(disagreement, 0)}"
            )
        return tuple(warnings)

    @property
    def validated_lut(self) -> Lut:
        """The LUT with these figures in it."""
        return self.lut.model_copy(update={"validation": self.figures.to_dict()})


def validate(
    lut: Lut,
    *,
    unit: UnitSelector = ANY_UNIT,
    networks: int = 20,
    seed: int = 0,
    ci: float = 0.01,
    budget_s: float = 300.0,
    progress: Progress = silent,
) -> Validation:
    """Time whole networks that the LUT was not built from, and compare them with its predictions.

    Anchors, networks that the LUT was built from, are timed in the same rounds; measurements are divided by
    their current slowdown (`latbench.lut.anchor`).

    Args:
        lut: a LUT with a sentinel.
        unit: the unit to measure on.
        networks: number of networks, drawn at random (`latbench.space.design.varied_architectures`).
        seed: of the random choice.
        ci: target half-width of the 95 % intervals, relative.
        budget_s: time limit, seconds.

    Raises:
        BadRequest: the LUT has no sentinel.
        MissingOps: it lacks ops.
        LatbenchError: networks have tainted trials only.
        DeviceUnavailable, RunnerFailed: see `latbench.errors`.
    """
    if not anchors_of(lut):
        raise BadRequest(
            "the LUT has no sentinel, so the device's current slowdown cannot be measured",
            hint=f"measure it again with: {lut.command}",
        )
    others = _others(lut, networks, seed)
    timed = measure_networks(others, lut, unit=unit, ci=ci, budget_s=budget_s, progress=progress)
    return validation_of(lut, others, timed)


def validation_of(lut: Lut, networks: Sequence[Architecture], timed: Together) -> Validation:
    """Compare the predictions of `lut` for `networks` with their measurements, `timed` together.

    Raises:
        MissingOps: the LUT lacks ops.
        LatbenchError: networks have tainted trials only, or were not measured.
    """
    _require_trusted(timed.report)
    slowdown = statistics.median(timed.slowdowns)
    validated = tuple(
        Validated(one.name, predict_latency(lut, network), one.ms / slowdown)
        for network, one in zip(networks, timed.measurements, strict=True)
    )
    figures = figures_of(validated, drift=timed.report.drift or 0.0, level=slowdown - 1)
    return Validation(lut, validated, figures, timed.slowdowns, timed.report)


def _others(lut: Lut, count: int, seed: int) -> list[Architecture]:
    """Random networks without those of the LUT's calibration."""
    known = {one.layers for one in lut.correction.calibration} if lut.correction else set()
    drawn = varied_architectures(lut.search_space, count + len(known), seed=seed)
    return [network for network in drawn if network.notation not in known][:count]


def _require_trusted(report: RunReport) -> None:
    """Make sure that every network has trusted trials.

    Raises:
        LatbenchError: some have tainted trials only.
    """
    if not report.distrusted:
        return
    verb = "has" if len(report.distrusted) == 1 else "have"
    reasons = ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
    raise LatbenchError(
        f"{len(report.distrusted)} of {count_of(len(report.results), 'network')} {verb} tainted trials only, "
        "so the figures would describe disturbances of the device",
        details=(f"trials tainted by: {reasons}",),
        hint="let the device cool down, end other processes on it, and repeat the command",
    )
