"""Whether what a runner keeps of a file changes what is measured: `python bench/reload.py --runtime onnx`.

Every visit of a run loads its model anew. A runner may keep what it computes from the file, such as
ONNX Runtime's optimised graph, and load from that (`again` in docs/runner-protocol.md). Here one runner
process loads the same networks and ops in both ways, in random order within each round, and times them. The
ratio of both ways is taken within a round, so the machine's speed cancels, and of the fastest sample of each
visit, which other work on the core disturbs least. If the same kernels run in as
fresh memory, the ratios' mean is 1 and visits scatter alike.
"""

import argparse
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from latbench.export import ArtifactStore, export_architecture, export_op
from latbench.files import write_atomically
from latbench.quantiles import Z975
from latbench.space import SearchSpace
from latbench.space.design import varied_architectures
from latbench.statistics import MAD_TO_SIGMA
from latbench.target import Precision, Runtime
from latbench.workflows.target import TargetRequest, open_target

#: The error of a median of normal values, in standard errors of their mean.
MEDIAN_ERROR = 1.2533


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, action="append", help="may be repeated")
    parser.add_argument("--precision", type=Precision, action="append", help="may be repeated")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--ops", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.01, help="least length of a visit")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    rows = []
    for runtime in options.runtime or [Runtime.ONNX]:
        for precision in options.precision or [Precision.FP32]:
            rows += _rows(runtime, precision, options)
    columns = [
        "",
        "loading, ms",
        "loading again, ms",
        "time of inference, again / not (95 % interval)",
        "a visit's scatter, again / not",
    ]
    for row in [columns, *rows]:
        print(" | ".join(row))
    if options.out is not None:
        table = {
            "source": "measured by bench/reload.py",
            "date": datetime.now(UTC).date().isoformat(),
            "command": f"python bench/reload.py --rounds {options.rounds} --seconds {options.seconds:g}"
            + "".join(f" --runtime {one}" for one in options.runtime or ())
            + "".join(f" --precision {one}" for one in options.precision or ()),
            "machine": open_target(TargetRequest()).unit.description,
            "columns": columns,
            "rows": rows,
        }
        write_atomically(options.out, json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def _rows(runtime: Runtime, precision: Precision, options: argparse.Namespace) -> list[list[str]]:
    """A row for the networks, and one for the ops."""
    networks, ops, rounds = options.networks, options.ops, options.rounds
    space, store = SearchSpace.named(), ArtifactStore()
    opened = open_target(TargetRequest(runtime=runtime, precision=precision, threads=1))
    made = [
        export_architecture(one, runtime, precision, store)
        for one in varied_architectures(space, networks)
    ]
    made += [
        export_op(op, runtime, precision, store)
        for op in random.Random(0).sample(space.unique_ops, ops)
    ]
    taken = np.empty((2, rounds, len(made)))
    load_ms = np.empty_like(taken)
    with opened, opened.unit.open_runner() as runner:
        cores = opened.target.cores
        for one in made:  # the first load with `again` makes what later ones use
            runner.unload(runner.load(str(one.path), runtime, cores=cores, again=True).handle)
        for number in range(rounds):
            # Both ways at one model follow each other, so that they meet the same moment.
            chance = random.Random(number)
            models = chance.sample(range(len(made)), len(made))
            order = [(way, model) for model in models for way in chance.sample((0, 1), 2)]
            for again, model in order:
                loaded = runner.load(str(made[model].path), runtime, cores=cores, again=bool(again))
                reply = runner.run(loaded.handle, warmups=2, min_samples=5, seconds=options.seconds)
                runner.unload(loaded.handle)
                taken[again, number, model] = min(reply.samples_ns)
                load_ms[again, number, model] = loaded.load_ms
    return [
        _row(f"{runtime} {precision}, {count} {name}", taken[..., part], load_ms[..., part])
        for name, count, part in (
            ("networks", networks, slice(networks)),
            ("ops", ops, slice(networks, None)),
        )
    ]


def _row(name: str, taken: np.ndarray, load_ms: np.ndarray) -> list[str]:
    logs = np.log(taken)
    ratios = np.median(logs[1] - logs[0], axis=0)  # of each model
    errors = [
        MEDIAN_ERROR * _robust(of_model) / len(of_model) ** 0.5
        for of_model in (logs[1] - logs[0]).T
    ]
    mean, half = float(ratios.mean()), Z975 * float(np.mean(np.square(errors)) / len(errors)) ** 0.5
    scatter = [100 * _robust(way - np.median(way, axis=0)) for way in logs]
    low, middle, high = (float(np.exp(one)) for one in (mean - half, mean, mean + half))
    return [
        name,
        *(f"{np.median(of_way):.1f}" for of_way in load_ms),
        f"{middle:.4f} ({low:.4f} to {high:.4f})",
        f"{scatter[1]:.1f}, {scatter[0]:.1f} %",
    ]


def _robust(values: np.ndarray) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


if __name__ == "__main__":
    main()
