"""Made-up inputs of a report: a later LUT, a journal, a search and a validation."""

import json
from pathlib import Path

import numpy as np

from latbench.lut import Lut, predict_latency
from latbench.measure import Journal, Plan
from latbench.measure.plan import Role, Settings, Workload
from latbench.measure.records import RunNote
from latbench.space.design import varied_architectures

LUTS = Path(__file__).parents[2] / "luts"

#: What an op's name must not be able to do to a page.
HOSTILE = "</script><script>document.title='pwned'</script><b>&amp;"

SLOWER = "ir_k5_e6_g1_s1_i64_o64_h14_w14"


def later_lut(base: Lut) -> Lut:
    """`base` as if measured again: one op twice as slow, and a build that a hostile device reports."""
    data = base.to_dict()
    entry = data["entries"][SLOWER]
    entry["ms"] *= 2
    entry["ci95"] = [2 * bound for bound in entry["ci95"]]
    data["conditions"]["build"] = HOSTILE
    return Lut.from_dict(data, verify=False)


def write_journal(path: Path, lut: Lut) -> Path:
    """A run of a sentinel and two ops, a third of its trials tainted."""
    workloads = tuple(Workload(f"op{number}", Role.OP, Path("x"), "0" * 64) for number in range(2))
    sentinel = Workload("sentinel", Role.SENTINEL, Path("y"), "1" * 64)
    plan = Plan(lut.target, workloads, sentinel, Settings())
    device = {"name": "host", "unit": "u1", "description": "a machine", "emulated": False}
    with Journal(path) as journal:
        run = journal.start_run(plan, device=device, note=RunNote(), tool="1")
        for number in range(30):
            started = 1e9 + number
            reading = {"time": started, "temperatures_c": {"cpu": 40 + number}, "load_average": 1.0}
            before = journal.add_conditions(run.id, started, json.dumps(reading))
            journal.add_trial(
                run.id,
                (sentinel, *workloads)[number % 3],
                number // 3,
                samples_ns=np.array([1_000_000 + 1000 * number] * 5),
                started=started,
                duration_s=0.5,
                warmups=2,
                before=before,
                clocks_khz=np.array([2_000_000 - 1000 * number] * 5),
                taint="waiting: others had the core" if 10 <= number < 20 else None,
            )
    return path


def write_search(folder: Path, lut: Lut) -> Path:
    """The files of a search of six epochs, the last line of its events cut short."""
    found = varied_architectures(lut.search_space, 1)[0]
    folder.mkdir(parents=True, exist_ok=True)
    result = {"predicted_ms": predict_latency(lut, found).ms, "target_ms": 9.0}
    (folder / "architecture.json").write_text(
        json.dumps(
            found.to_dict()
            | result
            | {
                "latencies": [
                    {
                        "target": str(lut.target),
                        "provenance": lut.provenance,
                        "lut_sha256": lut.content_sha256,
                    }
                ]
            }
        )
    )
    events = [{"event": "start", "epoch": 0, "target_ms": 9.0}]
    for epoch in range(1, 7):
        event = {
            "event": "epoch",
            "epoch": epoch,
            "phase": "warm-up" if epoch < 3 else "search",
            "layers": found.notation,
            "predicted_ms": 10 - epoch / 2,
            "expected_ms": 11 - epoch / 2,
            "entropy": 2.0,
            "w_accuracy": epoch / 10,
        }
        events.append(event | ({"theta_accuracy": 0.9 - epoch / 50} if epoch > 2 else {}))
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "events.jsonl").write_text(text + '{"event": "epo')
    return folder


def write_front(folder: Path, lut: Lut) -> Path:
    """The files of one search for two targets."""
    targets, epochs = (6.0, 12.5), []
    for number, target in enumerate(targets):
        write_search(folder / f"{target:g}ms", lut)
        lines = (folder / f"{target:g}ms" / "events.jsonl").read_text().splitlines()[1:-1]
        for epoch, line in enumerate(lines):
            if not number:
                epochs.append({})
            own = ("expected_ms", "predicted_ms", "entropy", "layers", "theta_accuracy")
            for key, value in json.loads(line).items():
                epochs[epoch][f"{key}@{target:g}ms" if key in own else key] = value
    events = [{"event": "start", "epoch": 0, "targets_ms": list(targets)}, *epochs]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    rows = [{"folder": f"{target:g}ms", "target_ms": target} for target in targets]
    (folder / "front.json").write_text(json.dumps(rows))
    return folder


def write_validation(path: Path, lut: Lut) -> Path:
    """What `latbench validate --json` prints, the first network far outside its interval."""
    each = []
    for number, network in enumerate(varied_architectures(lut.search_space, 5, seed=3)):
        predicted = predict_latency(lut, network)
        bounds = {"predicted": predicted.ms, "low": predicted.low, "high": predicted.high}
        measured = predicted.ms * (1.01 if number else 1.5)
        each.append({"layers": network.notation, "measured": measured} | bounds)
    path.write_text(json.dumps({"each": each}))
    return path
