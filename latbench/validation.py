"""Judge a LUT by networks that it was not made from; `latbench validate` is `validate`."""

from contextlib import closing
from dataclasses import dataclass

from latbench.api import (
    Progress,
    journals,
    measured,
    network_subject,
    open_target,
    sentinel_subject,
    silent,
)
from latbench.device.open import ANYWHERE, Where
from latbench.errors import BadRequest, LatbenchError
from latbench.export import ArtifactStore
from latbench.lut import Lut, predict_latency
from latbench.lut.accuracy import Figures, Validated, figures_of
from latbench.lut.anchor import anchors_of, level_of
from latbench.measure import Journal, Plan, RunReport, Settings
from latbench.space.design import varied_architectures


@dataclass(frozen=True)
class Validation:
    """What `validate` found: each network, and the figures over all."""

    lut: Lut
    networks: tuple[Validated, ...]
    figures: Figures
    report: RunReport

    @property
    def validated_lut(self) -> Lut:
        """The LUT with these figures as its own validation."""
        return self.lut.model_copy(update={"validation": self.figures.to_dict()})


def validate(
    lut: Lut,
    *,
    where: Where = ANYWHERE,
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
        where: as `latbench.api.profile`.
        networks: how many, drawn by `seed` (`latbench.space.design.varied_architectures`).

    Raises:
        BadRequest: the LUT has no sentinel to compare levels by.
        MissingOps: it lacks ops.
        LatbenchError: the device was never quiet enough to judge the LUT by it.
        DeviceUnavailable, RunnerFailed: see there.
    """
    anchors = anchors_of(lut)
    if not anchors:
        raise BadRequest(
            "the LUT has no sentinel network, so its level cannot be told",
            hint=f"measure it again with: {lut.command}",
        )
    space, target = lut.search_space, lut.target
    learnt = {one.layers for one in lut.correction.calibration} if lut.correction else set()
    others = [
        other
        for other in varied_architectures(space, networks + len(learnt), seed=seed)
        if other.notation not in learnt
    ][:networks]
    predicted = [predict_latency(lut, other) for other in others]
    unit, target = open_target(
        target.device, target.runtime, target.precision, target.threads, target.cores or None, where
    )
    with closing(unit):
        store = ArtifactStore()
        timed = [*(anchor.architecture for anchor in anchors), *others]
        subjects = []
        for network in timed:
            subjects.append(network_subject(network, target, store))
            progress("exporting", len(subjects), len(timed))
        plan = Plan(
            target,
            tuple(subjects),
            sentinel_subject(anchors[0].architecture, target, store),
            Settings(ci=ci, budget_s=budget_s),
        )
        with Journal(journals() / "validate.sqlite") as opened:
            report = measured(plan, unit, opened, progress, {}, fresh=True)
    if report.distrusted:
        reasons = ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
        raise LatbenchError(
            f"{len(report.distrusted)} of {len(subjects)} networks have distrusted trials only, "
            "so figures would judge the device's troubles, not the LUT",
            details=(f"trials tainted by: {reasons}",),
            hint="let it cool down or end what else it does, and type the same again",
        )
    latencies = [report.result(subject.key).ms for subject in subjects]
    level = level_of(anchors, latencies[: len(anchors)])
    validated = tuple(
        Validated(str(network), said, now / level)
        for network, said, now in zip(others, predicted, latencies[len(anchors) :], strict=True)
    )
    figures = figures_of(validated, drift=report.drift or 0.0, level=level - 1)
    return Validation(lut, validated, figures, report)
