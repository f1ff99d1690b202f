"""Play scenarios through the real measuring loop, and judge what the LUT says against the truth."""

import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standin import ProcessUnit, SimulatedClock, SimulatedUnit
from standin_scenarios import SCENARIOS, Kind

from latbench.errors import LatbenchError
from latbench.files import sha256_of
from latbench.lut import Lut, predict_latency
from latbench.measure import (
    Journal,
    Plan,
    Role,
    RunNote,
    RunReport,
    Settings,
    Workload,
    measure_fleet,
)
from latbench.measure.plan import reference_workload
from latbench.measure.records import NetworkNote
from latbench.space import Architecture, OpSpec, SearchSpace, published
from latbench.space.architecture import random_architectures
from latbench.space.design import calibration_architectures
from latbench.space.opspec import parse_key
from latbench.target import Precision, Runtime, Target
from latbench.workflows.build_lut import lut_of_run
from latbench.workflows.runs import Selection, network_key

CANDIDATES = SearchSpace.named("fbnet").candidates
SENTINEL = "fbnet_b"

#: The share of entries, and of networks, that must be covered or named.
BAR = 0.9

#: A whole network takes more than its ops.
_OVERHEAD = 1.03


@dataclass(frozen=True)
class Stage:
    """A plan whose true latencies are known.

    Attributes:
        ops: the true latency of each op, nanoseconds.
        truth, kinds: as `standin.Machine` takes them.
        networks: networks to predict.
        pace: how much longer a visit takes than in a run of the whole space, so that both take equally long.
    """

    plan: Plan
    note: RunNote
    ops: Mapping[str, float]
    truth: Mapping[str, float]
    kinds: Mapping[str, tuple[str, int]]
    networks: Sequence[Architecture]
    pace: float = 1.0

    def network_ms(self, network: Architecture) -> float:
        """The true latency of a network, milliseconds."""
        return _OVERHEAD * sum(self.ops[op.key] for op in network.ops) / 1e6


def _thin_networks(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Networks of every third candidate only."""
    rng = random.Random(seed)
    return [
        Architecture(
            space, tuple(rng.choice(CANDIDATES[::3]) for _ in space.layers), rng.choice(space.heads)
        )
        for _ in range(count)
    ]


def stage(
    *, budget_s: float = 20.0, calibration: int = 12, networks: int = 40, thin: bool = False
) -> Stage:
    """The stage of a small space, sandwiched, with `calibration` networks, and `networks` to predict.

    Args:
        thin: only ops of a third of the candidates, for a play of a third of the time.
    """
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    rng = random.Random(5)
    ops = {
        op.key: 1e6 * (0.3 + 4 * op.macs / 1e6) * rng.uniform(0.7, 1.4) for op in space.unique_ops
    }
    timed = tuple(calibration_architectures(space, calibration))
    predicted = random_architectures(space, networks, seed=9)
    measured = space.unique_ops
    if thin:
        timed = tuple(_thin_networks(space, calibration, 1))
        predicted = _thin_networks(space, networks, 9)
        chosen = {op for one in _thin_networks(space, 60, 2) for op in one.ops}
        chosen |= {op for one in (*timed, *predicted) for op in one.ops}
        measured = tuple(op for op in space.unique_ops if op in chosen)
    selection = Selection(space, measured, timed, sandwiched=True)
    sentinel = published(SENTINEL, space=space)
    workloads, truth, kinds, counts = [], {}, {}, Counter[str]()

    def add(key: str, role: Role, parts: Sequence[OpSpec]) -> Workload:
        path = Path("/models") / f"{len(truth)}"
        whole = role in (Role.NETWORK, Role.SENTINEL)
        truth[str(path)] = (_OVERHEAD if whole else 1.0) * sum(
            ops.setdefault(op.key, 1e6 * (0.3 + 4 * op.macs / 1e6)) for op in parts
        )
        kinds[str(path)] = (role.value, counts[role])
        counts[role] += 1
        return Workload(key, role, path, sha256_of(key.encode()))

    for key, role, parts in selection.chains:
        workloads.append(add(key, role, parts))
    watching = add(f"sentinel:{sentinel}", Role.SENTINEL, sentinel.ops)
    truth["reference"], kinds["reference"] = 5e6, (Kind.REFERENCE.value, 0)
    plan = Plan(
        Target(device="host", runtime=Runtime.TFLITE, precision=Precision.FP32),
        tuple(workloads),
        watching,
        Settings(budget_s=budget_s),
        reference_workload("known"),
    )
    notes = [
        NetworkNote(workload=network_key(one), layers=one.notation, head=one.head)
        for one in (*timed, sentinel)
    ]
    note = RunNote(
        space=space.to_dict(),
        context="sandwich",
        sentinel=notes[-1],
        calibration=tuple(notes[:-1]),
    )
    pace = len(space.unique_ops) / len(measured)
    return Stage(plan, note, ops, truth, kinds, predicted, pace)


@dataclass(frozen=True)
class Verdict:
    """What a run said of a machine whose truth is known.

    Attributes:
        entries, networks: their numbers.
        entries_covered, networks_covered: the truth is in the 95 % interval.
        entries_named, networks_named: it is not, but a warning names the entry, or entries of the network
            whose shares of its latency add up to more than what it is off by.
        warned: entries with a warning, whether covered or not.
        error: the median of the relative errors of entries, without sign.
        bias: the median with sign.
        refused: the error that ended the run or refused the LUT, or None.
    """

    scenario: str
    entries: int = 0
    entries_covered: int = 0
    entries_named: int = 0
    networks: int = 0
    networks_covered: int = 0
    networks_named: int = 0
    warned: int = 0
    warnings: Mapping[str, int] | None = None
    error: float = 0.0
    bias: float = 0.0
    trials: int = 0
    tainted: int = 0
    unconverged: int = 0
    distrusted: int = 0
    run_s: float = 0.0
    real_s: float = 0.0
    refused: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the bar is held."""
        if self.refused is not None:
            return True
        return self.entries > 0 and (
            self.entries_covered + self.entries_named >= BAR * self.entries
            and self.networks_covered + self.networks_named >= BAR * self.networks
        )


def play(
    name: str, played: Stage, journal: Path, *, seed: int = 3, real_time: bool = False
) -> Verdict:
    """Run a scenario and judge it.

    Args:
        journal: a path for the journal; with `real_time` another file is written beside it.
        real_time: with runner processes, in real time.
    """
    scenario = SCENARIOS[name]
    clock = None
    if real_time:
        config = journal.with_suffix(".json")
        config.write_text(
            json.dumps(
                {
                    "scenario": name,
                    "truth": played.truth,
                    "kinds": played.kinds,
                    "seed": seed,
                    "pace": played.pace,
                    "began": time.time(),
                }
            )
        )
        units: list[Any] = [ProcessUnit(number, config) for number in range(scenario.units)]
    else:
        clock = SimulatedClock(scenario.units)
        units = [
            SimulatedUnit(number, clock, scenario, played.truth, played.kinds, seed, played.pace)
            for number in range(scenario.units)
        ]
    began = time.perf_counter()
    try:
        with Journal(journal) as opened:
            report = measure_fleet(
                played.plan, units, opened, note=played.note, fresh=True, clock=clock
            )
            lut = lut_of_run(opened, macs=lambda key: parse_key(key).macs, partial=True)
    except LatbenchError as error:
        return Verdict(name, refused=f"{type(error).__name__}: {error}")
    return _judged(name, played, report, lut, time.perf_counter() - began)


def _judged(name: str, played: Stage, report: RunReport, lut: Lut, real_s: float) -> Verdict:
    least, most = SCENARIOS[name].truth_of(report.session_wall_s)
    covered = named = 0
    errors = []
    for key, entry in lut.entries.items():
        low, high = least * played.ops[key] / 1e6, most * played.ops[key] / 1e6
        inside = entry.ci95[0] <= high and low <= entry.ci95[1]
        covered += inside
        named += not inside and bool(entry.warnings)
        errors.append(entry.ms / min(max(entry.ms, low), high) - 1)
    networks = networks_covered = networks_named = 0
    for network in played.networks:
        try:
            prediction = predict_latency(lut, network)
        except LatbenchError:
            continue
        networks += 1
        low, high = (factor * played.network_ms(network) for factor in (least, most))
        if prediction.low <= high and low <= prediction.high:
            networks_covered += 1
            continue
        off = max(prediction.ms / high, low / prediction.ms) - 1
        doubtful = sum(lut[op].ms for op in network.ops if lut[op].warnings)
        networks_named += doubtful > min(0.9, off) * sum(lut[op].ms for op in network.ops)
    errors.sort()
    warnings = Counter(kind for entry in lut.entries.values() for kind in entry.warnings)
    return Verdict(
        scenario=name,
        entries=len(lut.entries),
        entries_covered=covered,
        entries_named=named,
        networks=networks,
        networks_covered=networks_covered,
        networks_named=networks_named,
        warned=sum(bool(entry.warnings) for entry in lut.entries.values()),
        warnings=dict(sorted(warnings.items())),
        error=sorted(map(abs, errors))[len(errors) // 2],
        bias=errors[len(errors) // 2],
        trials=report.trials,
        tainted=report.tainted,
        unconverged=len(report.unconverged),
        distrusted=len(report.distrusted),
        run_s=report.session_wall_s,
        real_s=real_s,
    )
