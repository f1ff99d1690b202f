"""Time several networks in the same rounds, and compare them with a LUT.

The latencies of two networks from different runs differ by more than the networks do, since each run has its
own slowdown, known to a per cent or two. In the same rounds they share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import LatbenchError
from latbench.export import ArtifactStore
from latbench.lut import Lut, predict_latency
from latbench.lut.anchor import DeviceState, anchors_of
from latbench.measure import RunReport, Settings
from latbench.space import Architecture
from latbench.target import Target
from latbench.workflows.measure import Measurement
from latbench.workflows.runs import (
    Progress,
    device_state,
    journals,
    measured,
    network_key,
    network_workload,
    plan_with_anchors,
    silent,
)
from latbench.workflows.target import TargetRequest, open_target


@dataclass(frozen=True)
class Together:
    """The latencies of networks that were timed in the same rounds.

    Attributes:
        outcomes: for each network its measurement, or the error why it has none.
        state: the device's state relative to the LUT's run; None if the LUT has no sentinel.
        report: the outcome of the run.
    """

    outcomes: tuple[Measurement | LatbenchError, ...]
    state: DeviceState | None
    report: RunReport

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurement of every network.

        Raises:
            LatbenchError: one has none.
        """
        measurements = []
        for outcome in self.outcomes:
            if isinstance(outcome, LatbenchError):
                raise outcome
            measurements.append(outcome)
        return tuple(measurements)


def measure_networks(
    networks: Sequence[Architecture],
    lut: Lut,
    *,
    unit: UnitSelector = ANY_UNIT,
    ci: float = 0.01,
    budget_s: float = 300.0,
    progress: Progress = silent,
) -> Together:
    """Time `networks`, with untrained weights, in the same rounds on the target of `lut`.

    Anchors, networks that the LUT was built from, are timed in these rounds too; they show the device's
    current state (`latbench.lut.anchor`).

    Args:
        networks: different ones of the LUT's space.
        unit: the unit to measure on.
        ci: target half-width of the 95 % intervals, relative.
        budget_s: time limit for all networks together, seconds.

    Raises:
        MissingOps: the LUT lacks ops of one.
        DeviceUnavailable, RunnerFailed: also if no network was measured.
    """
    anchors, store = anchors_of(lut), ArtifactStore()
    for network in networks:
        predict_latency(lut, network)  # refuse what the LUT lacks before anything is measured
    with open_target(TargetRequest.repeat(lut.target, unit)) as opened:
        target, workloads = opened.target, []
        for network in networks:
            workloads.append(network_workload(network, target, store))
            progress("exporting", len(workloads), len(networks))
        settings = Settings(ci=ci, budget_s=budget_s)
        plan = plan_with_anchors(workloads, anchors, target, store, settings)
        report = measured(plan, (opened.unit,), journals() / "networks.sqlite", progress)
    return measured_together(networks, lut, report)


def measured_together(networks: Sequence[Architecture], lut: Lut, report: RunReport) -> Together:
    """What `measure_networks` returns for a run of `networks` and the anchors of `lut`.

    Raises:
        MissingOps: the LUT lacks ops of one.
        RunnerFailed: no network was measured.
        LatbenchError: likewise, or an anchor was not measured.
    """
    state = device_state(lut, anchors_of(lut), report)
    outcomes = tuple(
        _outcome(
            report,
            network_key(network),
            str(network),
            report.run.target,
            predicted=predict_latency(lut, network),
            anchor=None if state is None else state.slowdown_of(network.ops),
        )
        for network in networks
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, LatbenchError)]
    if errors and len(errors) == len(outcomes):
        raise errors[0]
    return Together(outcomes, state, report)


def _outcome(
    report: RunReport, key: str, name: str, target: Target, **others: Any
) -> Measurement | LatbenchError:
    """The measurement of one network, or the error why it has none."""
    try:
        return Measurement.of(name, target, report.result(key), **others)
    except LatbenchError as error:
        return error
