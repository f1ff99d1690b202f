"""How much a model's speed depends on where its memory lies: `python bench/placement.py`.

Several runner processes load the same random networks and take turns at them. What a network takes in
one process beyond the median of all, once each process's own level is taken out, is persistent: it is
compared with how far single visits scatter inside a process.
"""

import argparse
import random
import statistics

import numpy as np

from latbench.export import ArtifactStore, export_architecture
from latbench.opening import open_target
from latbench.space import SearchSpace
from latbench.space.design import varied_architectures
from latbench.target import Precision, Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", type=Runtime, default=Runtime.TFLITE)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    unit, target = open_target("host", options.runtime, Precision.FP32, 1, None)
    store = ArtifactStore()
    paths = [
        str(export_architecture(network, target.runtime, target.precision, store).path)
        for network in varied_architectures(SearchSpace.named(), options.networks)
    ]
    runners = [unit.open_runner() for _ in range(options.processes)]
    handles = []
    for runner in runners:
        runner.hello()
        loaded = [runner.load(path, target.runtime, cores=target.cores) for path in paths]
        handles.append([one.handle for one in loaded])
    taken = np.empty((options.rounds, options.processes, options.networks))
    for number in range(options.rounds):
        order = [(p, n) for p in range(options.processes) for n in range(options.networks)]
        random.Random(number).shuffle(order)
        for process, network in order:
            reply = runners[process].run(
                handles[process][network], warmups=1, min_samples=5, seconds=0.01
            )
            taken[number, process, network] = statistics.median(reply.samples_ns)
    for runner in runners:
        runner.quit()
    logs = np.log(taken)
    medians = np.median(logs, axis=0)
    own = medians - np.median(medians, axis=0)
    own -= np.median(own, axis=1, keepdims=True)
    visits = logs - medians
    print(
        f"{target}: {options.networks} networks in {options.processes} processes, "
        f"{options.rounds} rounds\n"
        f"a network in one process: sd {100 * own.std():.2f} %, half of them within "
        f"{100 * np.median(np.abs(own)):.2f} %, worst {100 * np.abs(own).max():.1f} %\n"
        f"a single visit: half within {100 * np.median(np.abs(visits)):.2f} % of its process's "
        f"median\nso a median of {options.rounds} visits scatters by about "
        f"{100 * 1.2533 * 1.4826 * np.median(np.abs(visits)) / options.rounds**0.5:.2f} % (sd)"
    )


if __name__ == "__main__":
    main()
