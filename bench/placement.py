"""How much a model's speed depends on where its memory lies: `python bench/placement.py`.

Several runner processes load the same random networks and ops and take turns at them: once as they
were loaded first, once loaded anew. What one takes in one process beyond the median of all, once each
process's own level is taken out, is persistent. It is compared with how far medians of single visits
would scatter if there were nothing but noise. A model that is loaded anew lies elsewhere each time: then
what persists should be noise alone, and the visits should scatter more instead.
"""

import argparse
import random
import statistics

import numpy as np

from latbench.export import ArtifactStore, export_architecture, export_op
from latbench.space import SearchSpace
from latbench.space.design import varied_architectures
from latbench.statistics import MAD_TO_SIGMA
from latbench.target import Precision, Runtime
from latbench.workflows.target import TargetRequest, open_target

WAYS = ("kept", "loaded anew")
MEDIAN_ERROR = 1.2533  # of normal values, in standard errors of their mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--ops", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    request = TargetRequest(runtime=options.runtime, precision=Precision.FP32, threads=1)
    opened = open_target(request)
    unit, target = opened.unit, opened.target
    store, space = ArtifactStore(), SearchSpace.named()
    networks = varied_architectures(space, options.networks)
    ops = random.Random(0).sample(space.unique_ops, options.ops)
    made = [export_architecture(one, target.runtime, target.precision, store) for one in networks]
    made += [export_op(op, target.runtime, target.precision, store) for op in ops]
    paths = [str(one.path) for one in made]
    runners = [unit.open_runner() for _ in range(options.processes)]
    for runner in runners:
        runner.hello()
    kept = [
        [runner.load(path, target.runtime, cores=target.cores).handle for path in paths]
        for runner in runners
    ]
    taken = np.empty((len(WAYS), options.rounds, options.processes, len(paths)))
    load_ms = []
    for number in range(options.rounds):
        order = list(np.ndindex(len(WAYS), options.processes, len(paths)))
        random.Random(number).shuffle(order)
        for way, process, model in order:
            runner, handle = runners[process], kept[process][model]
            if way:
                loaded = runner.load(paths[model], target.runtime, cores=target.cores)
                handle = loaded.handle
                load_ms.append(loaded.load_ms)
            reply = runner.run(handle, warmups=2, min_samples=5, seconds=0.01)
            taken[way, number, process, model] = statistics.median(reply.samples_ns)
            if way:
                runner.unload(handle)
    for runner in runners:
        runner.quit()
    print(
        f"{target}: {options.processes} processes, {options.rounds} rounds, "
        f"loading takes {statistics.median(load_ms):.1f} ms (median)"
    )
    print(f"{'':24} persists, sd  as robust sd  noise would be  a visit, robust sd")
    for name, part in (
        ("networks", slice(options.networks)),
        ("ops", slice(options.networks, None)),
    ):
        logs = np.log(taken[..., part])
        for way, of_way in zip(WAYS, logs, strict=True):
            medians = np.median(of_way, axis=0)
            own = medians - np.median(medians, axis=0)
            own -= np.median(own, axis=1, keepdims=True)
            visit = _robust(of_way - medians)
            noise = MEDIAN_ERROR * visit / options.rounds**0.5
            print(
                f"{f'{name}, {way}':24} {100 * own.std():11.2f}%{100 * _robust(own):13.2f}%"
                f"{100 * noise:15.2f}%{100 * visit:19.2f}%"
            )
        levels = np.median(logs[1] - logs[0], axis=(0, 1))
        print(f"{name}: loaded anew {100 * levels.mean():+.2f} %, sd {100 * levels.std():.2f} %")


def _robust(values: np.ndarray) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(values)))


if __name__ == "__main__":
    main()
