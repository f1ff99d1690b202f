"""Which LUT predicts whole networks, and how well: `python bench/additivity.py --runtime tflite`.

Ops alone, ops in sandwiches, frames, calibration networks and networks that no fit sees are timed in
the same rounds by `latbench.measure`; every method then predicts the unseen networks from the same
trials. The unseen networks are timed once more in a later session. How far the two sessions
disagree once their common level is taken out is the noise floor: it holds the noise of both, so a
good LUT may lie a little below it, and none far.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from latbench.export import ArtifactStore, export_ops
from latbench.lut import Correction, Entry, Lut, Prediction, predict_latency
from latbench.lut.accuracy import Figures, Validated, figures_of
from latbench.lut.calibrate import calibrate
from latbench.lut.schema import TimedNetwork
from latbench.measure import Journal, Plan, Role, RunReport, Settings, Workload, measure
from latbench.space import Architecture, OpSpec, SearchSpace, published
from latbench.space.design import calibration_architectures, varied_architectures
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.target import Precision, Runtime, Target
from latbench.workflows.build_lut import without_frames
from latbench.workflows.target import TargetRequest, open_target

Chains = dict[str, tuple[Role, Sequence[OpSpec]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calibrate", type=int, default=20)
    parser.add_argument("--networks", type=int, default=40, help="unseen networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--journals", type=Path, help="keep trials here; then a rerun costs nothing"
    )
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args()
    space = SearchSpace.named()
    fitted = calibration_architectures(space, options.calibrate)
    unseen = [
        *varied_architectures(space, options.networks - 2, seed=options.seed),
        *(published(name, space=space) for name in ("fbnet_a", "fbnet_c")),
    ]
    request = TargetRequest(
        runtime=options.runtime, precision=options.precision, threads=options.threads
    )
    opened = open_target(request)
    unit, target = opened.unit, opened.target
    store, sentinel = ArtifactStore(), fitted[0]

    def timed(chains: Chains, name: str) -> RunReport:
        workloads = []
        for key, (role, ops) in {"sentinel": (Role.SENTINEL, sentinel.ops), **chains}.items():
            made = export_ops(ops, key, target.runtime, target.precision, store)
            workloads.append(Workload(key, role, made.path, made.sha256))
        plan = Plan(target, tuple(workloads[1:]), workloads[0], Settings())
        with tempfile.TemporaryDirectory() as folder:
            kept = options.journals or Path(folder)
            kept.mkdir(parents=True, exist_ok=True)
            with Journal(kept / f"{target.runtime}-{target.precision}-{name}") as journal:
                return measure(plan, unit, journal)

    ops = space.unique_ops
    nets: Chains = {f"unseen:{n}": (Role.NETWORK, net.ops) for n, net in enumerate(unseen)}
    nets |= {f"fitted:{n}": (Role.NETWORK, net.ops) for n, net in enumerate(fitted)}
    chains: Chains = {f"alone:{op.key}": (Role.OP, (op,)) for op in ops}
    chains |= {f"sandwich:{op.key}": (Role.OP, sandwich_of(op)) for op in ops if frames_of(op)}
    frames = dict.fromkeys(frame for op in ops for frame in frames_of(op))
    chains |= {frame.key: (Role.FRAME, (frame, frame)) for frame in frames}
    here = timed(chains | nets, "here.sqlite")
    later = timed(nets, "later.sqlite")

    entries = {"alone": _alone(here, ops), "sandwich": _sandwiched(here, ops)}
    networks = [_network(here, f"fitted:{n}", net) for n, net in enumerate(fitted)]
    found: dict[str, dict[str, float]] = {}
    print(f"{target}; drift {here.drift:.1%}, later {later.drift:.1%}; tainted {here.tainted} of "
          f"{here.trials}; distrusted {len(here.distrusted)}, later {len(later.distrusted)}")  # fmt: skip
    print(f"{'method':34} {'MAPE':>5} {'bias':>6} {'worst':>6} {'<=2%':>5} {'<=3%':>5} "
          f"{'<=5%':>5} {'rho':>7} {'cover':>5}")  # fmt: skip
    now = {str(n): here.result(f"unseen:{n}").ms for n in range(len(unseen))}
    level = _level(later, here, fitted)
    then = {str(n): later.result(f"unseen:{n}").ms / level for n in range(len(unseen))}
    for context, table in entries.items():
        predictions = {
            title: [predict_latency(_lut(target, space, table, learnt), one) for one in unseen]
            for title, learnt in _corrections(table, networks, space).items()
        }
        for title, predicted in predictions.items():
            name = f"{context}, {title}"
            found[name] = _show(name, predicted, now, here)
            if title in ("affine, boundary costs", "posterior"):
                found[f"{name}, later"] = _show(f"{name}, later", predicted, then, later)
    spread = [then[number] / now[number] - 1 for number in now]
    floor = statistics.fmean(map(abs, spread))
    found["floor"] = {"mape": 100 * floor, "worst": 100 * max(map(abs, spread))}
    print(f"{'floor: the same networks, later':34} {100 * floor:5.2f} {'':6} "
          f"{100 * max(map(abs, spread)):6.2f}   level {level:.3f}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _entry(ms: float, ci95: tuple[float, float], op: OpSpec) -> Entry:
    return Entry(ms=ms, ci95=ci95, samples=1, rounds=1, spread=0.0, macs=op.macs)


def _alone(report: RunReport, ops: Iterable[OpSpec]) -> dict[str, Entry]:
    results = {op: report.result(f"alone:{op.key}") for op in ops}
    return {op.key: _entry(one.ms, one.ci95, op) for op, one in results.items()}


def _sandwiched(report: RunReport, ops: Iterable[OpSpec]) -> dict[str, Entry]:
    entries = _alone(report, ops)
    for op in ops:
        pairs = [report.result(frame.key) for frame in frames_of(op)]
        if pairs:
            found = without_frames(report.result(f"sandwich:{op.key}"), pairs)
            entries[op.key] = _entry(*found, op)
    return entries


def _network(report: RunReport, key: str, network: Architecture) -> TimedNetwork:
    result = report.result(key)
    return TimedNetwork(layers=network.notation, head=network.head, ms=result.ms, ci95=result.ci95)


def _level(later: RunReport, here: RunReport, fitted: Sequence[Architecture]) -> float:
    keys = [f"fitted:{number}" for number in range(min(5, len(fitted)))]
    return statistics.median(later.result(key).ms / here.result(key).ms for key in keys)


def _corrections(
    entries: Mapping[str, Entry], networks: Sequence[TimedNetwork], space: SearchSpace
) -> dict[str, Correction | None]:
    few, alone = networks[:9], networks[:1]
    learnt: dict[str, Correction | None] = {"sum": None}
    learnt["scale of the sentinel"] = calibrate(entries, alone, space)
    learnt["scale of 9 networks"] = calibrate(
        entries, few, space, entry_factors=False, traits=False
    )
    learnt["affine"] = calibrate(
        entries, networks, space, entry_factors=False, traits=False, boundary_costs=False
    )
    learnt["affine, boundary costs"] = calibrate(
        entries, networks, space, entry_factors=False, traits=False
    )
    learnt["affine, entries"] = calibrate(
        entries, networks, space, traits=False, boundary_costs=False
    )
    learnt["affine, traits"] = calibrate(
        entries, networks, space, entry_factors=False, boundary_costs=False
    )
    learnt["posterior"] = calibrate(entries, networks, space)
    return learnt


def _lut(
    target: Target, space: SearchSpace, entries: dict[str, Entry], correction: Correction | None
) -> Lut:
    return Lut(
        target=target,
        space=space.to_dict(),
        provenance="measured",
        created=datetime.now(UTC),
        tool={},
        entries=entries,
        correction=correction,
    )


def _show(
    name: str, predicted: Sequence[Prediction], measured: Mapping[str, float], report: RunReport
) -> dict[str, float]:
    validated = [
        Validated(str(number), one, measured[str(number)]) for number, one in enumerate(predicted)
    ]
    figures: Figures = figures_of(validated, drift=report.drift or 0.0, level=0.0)
    print(f"{name:34} {figures.mape:5.2f} {figures.bias:+6.2f} {figures.worst:6.2f} "
          f"{figures.within_2:5.0f} {figures.within_3:5.0f} {figures.within_5:5.0f} "
          f"{figures.spearman:7.4f} {figures.coverage:5.0f}")  # fmt: skip
    return figures.to_dict()


if __name__ == "__main__":
    main()
