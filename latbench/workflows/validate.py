"""Compare a LUT's predictions with measured networks that it was not built from: `latbench validate`."""

from collections.abc import Sequence
from dataclasses import dataclass

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import BadRequest, LatbenchError
from latbench.lut import Lut, predict_latency
from latbench.lut.accuracy import Figures, Validated, figures_of, with_validation
from latbench.lut.anchor import DeviceState, anchors_of, warning_of
from latbench.measure import RunReport
from latbench.space import Architecture
from latbench.space.design import varied_architectures
from latbench.wording import count_of, percent
from latbench.workflows.networks import Together, measure_networks
from latbench.workflows.runs import Progress, network_key, silent

#: The largest drift of the sentinel, relative, before the figures are doubted. In our own runs a drift of 1.1
#: left the mean error below 1.7 %, and one of 2.3 made it 4 %.
_MAX_DRIFT = 1.5

#: The largest relative standard deviation of anchors that still describe one state of the device. On a
#: restless Xeon, over 56 pairs of profiles each, its median was 2.2 (ONNX Runtime) and 2.9 % (LiteRT), and
#: 95 % were below 3.6 and 5.1 %.
_MAX_DEVIATION = 0.04

#: At least this share of the networks must have trusted trials.
_TRUSTED_SHARE = 0.5


@dataclass(frozen=True)
class Validation:
    """The outcome of `validate`.

    Attributes:
        lut: the validated LUT.
        networks: prediction and measurement of each network.
        figures: the errors over all networks.
        state: the device's state relative to that in the LUT's run.
        left_out: the number of networks with tainted trials only, which `networks` lacks.
        report: the outcome of the run.
    """

    lut: Lut
    networks: tuple[Validated, ...]
    figures: Figures
    state: DeviceState
    left_out: int
    report: RunReport

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may describe disturbances of the device instead of the LUT."""
        warnings = []
        if self.figures.drift > 100 * _MAX_DRIFT:
            warnings.append(f"the sentinel drifted by {self.figures.drift:.0f} % during this run")
        if self.state.deviation > _MAX_DEVIATION:
            warnings.append(
                f"the LUT's own networks disagree about the slowdown by {percent(self.state.deviation)} "
                "(standard deviation)"
            )
        far = warning_of(self.state.slowdown)
        if far is not None:
            warnings.append(far)
        if self.left_out:
            verb = "has" if self.left_out == 1 else "have"
            warnings.append(
                f"{count_of(self.left_out, 'network')} {verb} tainted trials only and "
                f"{'is' if self.left_out == 1 else 'are'} left out"
            )
        return tuple(warnings)

    @property
    def validated_lut(self) -> Lut:
        """The LUT with these figures in it, and intervals that follow them (`with_validation`)."""
        return with_validation(self.lut, self.networks, self.figures)


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

    Anchors, networks that the LUT was built from, are timed in the same rounds. They show the device's
    current state, and measurements are divided by the slowdown that it causes (`latbench.lut.anchor`).

    Args:
        lut: a LUT with a sentinel.
        unit: the unit to measure on.
        networks: number of networks, drawn at random (`latbench.space.design.varied_architectures`).
        seed: of the random choice.
        ci: target half-width of the 95 % intervals, relative.
        budget_s: time limit, seconds.

    Raises:
        BadRequest: the LUT has no sentinel, or no network is left that it was not built from.
        MissingOps: it lacks ops.
        LatbenchError: most networks have tainted trials only.
        DeviceUnavailable, RunnerFailed: see `latbench.errors`.
    """
    if not anchors_of(lut):
        raise BadRequest(
            "the LUT has no sentinel, so the device's current slowdown cannot be measured",
            hint=f"measure it again with: {lut.command}",
        )
    others = _others(lut, networks, seed)
    if not others:
        raise BadRequest(
            f"the LUT was built from every network of {lut.search_space.name} that was drawn, "
            "so none is left",
            hint=f"measure it again with fewer: {lut.command} --calibrate 4 --fresh",
        )
    timed = measure_networks(others, lut, unit=unit, ci=ci, budget_s=budget_s, progress=progress)
    return validation_of(lut, others, timed)


def validation_of(lut: Lut, networks: Sequence[Architecture], timed: Together) -> Validation:
    """Compare the predictions of `lut` for `networks` with their measurements, `timed` together.

    Raises:
        MissingOps: the LUT lacks ops.
        LatbenchError: networks have tainted trials only, or were not measured.
    """
    assert timed.state is not None
    trusted = _trusted(networks, timed.report)
    measured = dict(zip(networks, timed.measurements, strict=True))
    validated = tuple(
        Validated(
            measured[network].name,
            predict_latency(lut, network),
            measured[network].ms / measured[network].slowdown,
            measured[network].half_width,
        )
        for network in trusted
    )
    drift, level = timed.report.drift or 0.0, timed.state.slowdown - 1
    figures = figures_of(validated, drift=drift, level=level)
    left_out = len(networks) - len(trusted)
    return Validation(lut, validated, figures, timed.state, left_out, timed.report)


def _others(lut: Lut, count: int, seed: int) -> list[Architecture]:
    """Random networks without those of the LUT's calibration."""
    known = {one.layers for one in lut.correction.calibration} if lut.correction else set()
    drawn = varied_architectures(lut.search_space, count + len(known), seed=seed)
    return [network for network in drawn if network.notation not in known][:count]


def _trusted(networks: Sequence[Architecture], report: RunReport) -> list[Architecture]:
    """The networks that have trusted trials.

    Raises:
        LatbenchError: most have tainted trials only.
    """
    trusted = [one for one in networks if not report.result(network_key(one)).distrusted]
    if len(trusted) >= _TRUSTED_SHARE * len(networks):
        return trusted
    reasons = ", ".join(f"{kind} {count}" for kind, count in report.taints.items())
    raise LatbenchError(
        f"{len(networks) - len(trusted)} of {count_of(len(networks), 'network')} have tainted trials only, "
        "so the figures would describe disturbances of the device",
        details=(f"trials tainted by: {reasons}",),
        hint="let the device cool down, end other processes on it, and repeat the command",
    )
