"""Judge a LUT by networks that it was not made from; `latbench validate` is `validate`."""

import statistics
from dataclasses import dataclass

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import BadRequest, LatbenchError
from latbench.lut import Lut, predict_latency
from latbench.lut.accuracy import Figures, Validated, figures_of
from latbench.lut.anchor import anchors_of
from latbench.measure import RunReport
from latbench.space.design import varied_architectures
from latbench.workflows.networks import measure_networks
from latbench.workflows.runs import Progress, silent

#: The sentinel may wander this far in a run before its figures are doubted, relative. In our own runs 1.1
#: left the mean error below 1.7 %, and 2.3 made it 4 %.
_WANDERED = 1.5

#: The networks of the LUT may differ this much in how much slower they are now, relative, before that
#: is no level of the device any more. Their own errors are a few per cent.
_DISAGREED = 0.10


@dataclass(frozen=True)
class Validation:
    """What `validate` found: each network, and the figures over all.

    `levels` says how much slower each of the LUT's own networks ran than in the LUT's run, as ratios.
    """

    lut: Lut
    networks: tuple[Validated, ...]
    figures: Figures
    levels: tuple[float, ...]
    report: RunReport

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may tell of the device's troubles and not of the LUT; empty if they do not."""
        found = []
        if self.figures.drift > 100 * _WANDERED:
            found.append(f"the device wandered by {self.figures.drift:.0f} % in this run")
        apart = max(self.levels) / min(self.levels) - 1
        if apart > _DISAGREED:
            found.append(
                f"the LUT's own networks disagree by {apart:.0%} about how fast the device is now"
            )
        return tuple(found)

    @property
    def validated_lut(self) -> Lut:
        """The LUT with these figures as its own validation."""
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
    """Time whole networks that the LUT was not made from, and compare with its predictions.

    Networks that the LUT was made from are timed in the same rounds, and measurements are divided by
    how much slower those run now (`latbench.lut.anchor`).

    Args:
        unit: the unit to measure on.
        networks: how many, drawn by `seed` (`latbench.space.design.varied_architectures`).

    Raises:
        BadRequest: the LUT has no sentinel to compare levels by.
        MissingOps: it lacks ops.
        LatbenchError: the device was never quiet enough to judge the LUT by it.
        DeviceUnavailable, RunnerFailed: see there.
    """
    if not anchors_of(lut):
        raise BadRequest(
            "the LUT has no sentinel network, so its level cannot be told",
            hint=f"measure it again with: {lut.command}",
        )
    space = lut.search_space
    learnt = {one.layers for one in lut.correction.calibration} if lut.correction else set()
    others = [
        other
        for other in varied_architectures(space, networks + len(learnt), seed=seed)
        if other.notation not in learnt
    ][:networks]
    timed = measure_networks(others, lut, unit=unit, ci=ci, budget_s=budget_s, progress=progress)
    report = timed.report
    if report.distrusted:
        reasons = ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
        count = len(timed.levels) + len(others)
        raise LatbenchError(
            f"{len(report.distrusted)} of {count} networks have distrusted trials only, "
            "so figures would judge the device's troubles, not the LUT",
            details=(f"trials tainted by: {reasons}",),
            hint="let it cool down or end what else it does, and type the same again",
        )
    level = statistics.median(timed.levels)
    validated = tuple(
        Validated(one.name, predict_latency(lut, network), one.ms / level)
        for network, one in zip(others, timed.measurements, strict=True)
    )
    figures = figures_of(validated, drift=report.drift or 0.0, level=level - 1)
    return Validation(lut, validated, figures, timed.levels, report)
