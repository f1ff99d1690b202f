"""Several networks timed in the same rounds, held against a LUT.

What two networks take in runs of their own differs by more than the networks do: each run has its level,
and tells it by a per cent or two. In the same rounds they share it, so that they can be compared.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import LatbenchError
from latbench.export import ArtifactStore
from latbench.lut import Lut, predict_latency
from latbench.lut.anchor import anchors_of, slowdowns_of
from latbench.measure import Journal, Plan, RunReport, Settings
from latbench.space import Architecture
from latbench.workflows.measure import Measurement
from latbench.workflows.runs import (
    Progress,
    journals,
    measured,
    network_workload,
    sentinel_workload,
    silent,
)
from latbench.workflows.target import TargetRequest, open_target


@dataclass(frozen=True)
class Together:
    """What networks took in the same rounds.

    `outcomes` are in the order of the networks, with one level for all: what each took, or why it has
    no measurement. `levels` says how much slower (above 1) each of the LUT's own networks ran than in
    the LUT's run, and is empty if the LUT has no sentinel.
    """

    outcomes: tuple[Measurement | LatbenchError, ...]
    levels: tuple[float, ...]
    report: RunReport

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What every network took.

        Raises:
            LatbenchError: one has no measurement; this is why.
        """
        found = []
        for outcome in self.outcomes:
            if isinstance(outcome, LatbenchError):
                raise outcome
            found.append(outcome)
        return tuple(found)


def measure_networks(
    networks: Sequence[Architecture],
    lut: Lut,
    *,
    unit: UnitSelector = ANY_UNIT,
    ci: float = 0.01,
    budget_s: float = 300.0,
    progress: Progress = silent,
) -> Together:
    """Time `networks`, with untrained weights, in the same rounds on the device that `lut` is of.

    Networks that the LUT was made from are timed in these rounds too; they tell how much slower the device
    is now (`latbench.lut.anchor`).

    Args:
        networks: different ones of the LUT's space.
        unit: the unit to measure on.
        ci: the half-width that intervals should reach, relative.
        budget_s: seconds, at most, for all.

    Returns:
        what each took; one that failed, or that a lost device did not come to, is told as an error.

    Raises:
        MissingOps: the LUT lacks ops of one.
        DeviceUnavailable, RunnerFailed: see there; also where no network was measured.
    """
    anchors = anchors_of(lut)
    predicted = [predict_latency(lut, network) for network in networks]
    with open_target(TargetRequest.repeat(lut.target, unit)) as opened:
        target = opened.target
        store = ArtifactStore()
        timed = [*(anchor.architecture for anchor in anchors), *networks]
        workloads = []
        for network in timed:
            workloads.append(network_workload(network, target, store))
            progress("exporting", len(workloads), len(timed))
        sentinel = sentinel_workload(anchors[0].architecture, target, store) if anchors else None
        # A network may be one that the LUT was made from.
        different = tuple({workload.key: workload for workload in workloads}.values())
        plan = Plan(target, different, sentinel, Settings(ci=ci, budget_s=budget_s))
        with Journal(journals() / "networks.sqlite") as journal:
            report = measured(plan, opened.unit, journal, progress, {}, fresh=True)
    levels = slowdowns_of(anchors, [report.result(one.key).ms for one in workloads[: len(anchors)]])
    level = statistics.median(levels) if levels else None
    outcomes: list[Measurement | LatbenchError] = []
    for network, said, workload in zip(networks, predicted, workloads[len(anchors) :], strict=True):
        try:
            result = report.result(workload.key)
        except LatbenchError as error:
            outcomes.append(error)
        else:
            outcomes.append(
                Measurement.of(str(network), target, result, predicted=said, anchor=level)
            )
    errors = [outcome for outcome in outcomes if isinstance(outcome, LatbenchError)]
    if errors and len(errors) == len(outcomes):
        raise errors[0]
    return Together(tuple(outcomes), levels, report)
