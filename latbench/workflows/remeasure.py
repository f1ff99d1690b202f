"""Time a part of a LUT again, to see whether it still holds; `latbench drift --remeasure`.

What is timed are the ops of the published FBNets, some forty of a hundred and of every kind, and the
whole networks that the LUT was calibrated by, whose choice covers the other ops too. It is done as the
LUT was: the same target, the same company of ops, taking the same turns.
"""

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import CannotCompare
from latbench.lut import Lut
from latbench.lut.drift import NETWORKS
from latbench.measure import Journal, Settings
from latbench.space import Architecture, parse_key, published
from latbench.space.opspec import OpSpec
from latbench.workflows.build_lut import lut_of_run
from latbench.workflows.runs import Progress, journals, measured, planned, silent
from latbench.workflows.target import TargetRequest, open_target


def remeasure(
    lut: Lut,
    *,
    unit: UnitSelector = ANY_UNIT,
    ci: float = 0.01,
    budget_s: float = 50.0,
    progress: Progress = silent,
) -> Lut:
    """Return a LUT of a part of `lut`'s ops as they are now, to compare with it.

    Args:
        unit: the unit to measure on.
        ci: target half-width of the 95 % intervals, relative.
        budget_s: time limit, seconds; what has not converged by then has wider intervals.

    Raises:
        CannotCompare: the LUT was not measured.
        DeviceUnavailable, RunnerFailed, ExportFailed: see there.
    """
    if lut.provenance != "measured":
        raise CannotCompare(
            f"the LUT was {lut.provenance}, not measured, so measuring says nothing of its drift",
            hint=f"measure one with: {lut.command}",
        )
    space = lut.search_space
    ops = subset_of(lut)
    sandwiched = any(lut[op].context == "sandwich" for op in ops)
    timed = lut.correction.calibration if lut.correction is not None and sandwiched else ()
    networks = [Architecture.parse(one.layers, space, head=one.head) for one in timed]
    settings = Settings(ci=ci, budget_s=budget_s)
    with open_target(TargetRequest.repeat(lut.target, unit)) as opened:
        plan, about = planned(
            opened.unit,
            opened.target,
            space,
            ops,
            networks,
            settings,
            progress,
            sandwiched=sandwiched,
        )
        with Journal(journals() / "remeasure.sqlite") as journal:
            measured(plan, opened.unit, journal, progress, about, fresh=True)
            return lut_of_run(journal, macs=lambda key: parse_key(key).macs, partial=True)


def subset_of(lut: Lut) -> tuple[OpSpec, ...]:
    """The ops that `remeasure` times: those of the published networks that the LUT has."""
    space = lut.search_space
    ops = (op for name in NETWORKS for op in published(name, space=space).ops if op in lut)
    return tuple(dict.fromkeys(ops)) or tuple(parse_key(key) for key in lut.entries)
