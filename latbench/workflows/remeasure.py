"""Time a part of a LUT again, to compare with it: `latbench drift --remeasure`.

The part consists of the ops of the published FBNets, some forty of a hundred and of every kind, and of the
LUT's calibration networks, which cover the other ops too. They are timed as in the LUT's run: on the same
target, in the same context, in the same rounds.
"""

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import CannotCompare
from latbench.lut import Lut
from latbench.measure import Settings
from latbench.space import Architecture, parse_key
from latbench.space.design import landmark_networks
from latbench.space.opspec import OpSpec
from latbench.workflows import history
from latbench.workflows.build_lut import build_lut
from latbench.workflows.runs import Progress, Selection, journals, measured, planned, silent
from latbench.workflows.target import TargetRequest, open_target


def remeasure(
    lut: Lut,
    *,
    unit: UnitSelector = ANY_UNIT,
    ci: float = 0.01,
    budget_s: float = 50.0,
    progress: Progress = silent,
) -> Lut:
    """A LUT of a part of `lut`'s ops with their current latencies.

    Args:
        lut: a measured LUT.
        unit: the unit to measure on.
        ci: target half-width of the 95 % intervals, relative.
        budget_s: time limit, seconds; ops that have not converged by then have wider intervals.

    Raises:
        CannotCompare: the LUT was not measured.
        DeviceUnavailable, RunnerFailed, ExportFailed: see `latbench.errors`.
    """
    if lut.provenance != "measured":
        raise CannotCompare(
            f"the LUT is {lut.provenance}, not measured, so there is nothing to measure again",
            hint=f"measure one with: {lut.command}",
        )
    selection = _selection_of(lut)
    settings = Settings(ci=ci, budget_s=budget_s)
    journal = journals() / "remeasure.sqlite"
    with open_target(TargetRequest.repeat(lut.target, unit)) as opened:
        plan, note = planned(opened.unit, opened.target, selection, settings, progress)
        report = measured(plan, (opened.unit,), journal, progress, note)
    history.remember(report.run, report.results, report.units)
    return build_lut(journal, partial=True)


def subset_of(lut: Lut) -> tuple[OpSpec, ...]:
    """The ops that `remeasure` times: those of the landmark networks in the LUT, or all if it has none."""
    space = lut.search_space
    ops = (op for network in landmark_networks(space).values() for op in network.ops if op in lut)
    return tuple(dict.fromkeys(ops)) or tuple(parse_key(key) for key in lut.entries)


def _selection_of(lut: Lut) -> Selection:
    """What `remeasure` times, in the context of the LUT's run."""
    space, ops = lut.search_space, subset_of(lut)
    sandwiched = any(lut[op].context == "sandwich" for op in ops)
    calibration = lut.correction.calibration if lut.correction is not None and sandwiched else ()
    networks = (Architecture.parse(one.layers, space, head=one.head) for one in calibration)
    return Selection(space, ops, tuple(networks), sandwiched)
