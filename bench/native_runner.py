"""What timing from C changes for small ops: `python bench/native_runner.py --runner PROGRAM`.

The same artifacts are timed by the runner in C and by the worker in Python on one core, visit beside
visit, who comes first changing from pair to pair: the smallest and the largest ops of the full space,
in several processes of each, since how fast a loaded model is depends on where its memory lies. A
ratio is that of the two medians of a pair, C by Python. For ONNX Runtime both load the same build of
one version; for LiteRT the worker has the interpreter and C the compiled model, two libraries of one
wheel. So what differs there is more than the language.
"""

import argparse
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench._version import __version__
from latbench.device.host.device import HostDevice
from latbench.device.host.native import native_host_device
from latbench.device.protocol.client import RunnerClient
from latbench.export import ArtifactStore, export_op
from latbench.runtime.registry import runtime_version
from latbench.space import OpSpec, SearchSpace
from latbench.target import Precision, Runtime

RUNTIMES = (Runtime.TFLITE, Runtime.ONNX)


@dataclass(frozen=True)
class Compared:
    """The medians of an op's pairs of visits, microseconds."""

    op: OpSpec
    native_us: list[float]
    python_us: list[float]

    @property
    def ratio(self) -> float:
        """The median over pairs of C by Python."""
        pairs = zip(self.native_us, self.python_us, strict=True)
        return statistics.median(native / python for native, python in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runner", type=Path, metavar="PROGRAM", help="default: as latbench finds it"
    )
    parser.add_argument("--smallest", type=int, default=20, metavar="N", help="ops")
    parser.add_argument("--largest", type=int, default=5, metavar="N", help="ops")
    parser.add_argument("--processes", type=int, default=3, metavar="N", help="of each runner")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="in each process")
    parser.add_argument("--core", type=int, help="default: the one that latbench chooses")
    options = parser.parse_args()
    python, native = HostDevice(), native_host_device(options.runner)
    core = python.default_cores(1)[0] if options.core is None else options.core
    ops = sorted(SearchSpace.named().unique_ops, key=lambda op: op.macs)
    smallest, largest = ops[: options.smallest], ops[-options.largest :]
    print(
        f"{python.description}, {platform.system()} {platform.release()}, core {core}; "
        f"latbench {__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{runtime} {runtime_version(runtime)}" for runtime in RUNTIMES)
        + f"; {(native.reference or '').rpartition(' by ')[2]}\n"
        f"python {shlex.join(sys.argv)}: {options.processes} processes of each runner, "
        f"{options.rounds} pairs of visits an op in each"
    )
    for runtime in RUNTIMES:
        clients = [(native.open_runner(), python.open_runner()) for _ in range(options.processes)]
        compared = _compare(clients, [*smallest, *largest], runtime, core, options.rounds)
        for pair in clients:
            for client in pair:
                client.quit()
        _print(f"{runtime}, smallest", compared[: len(smallest)])
        _print(f"{runtime}, largest", compared[len(smallest) :])


def _compare(
    clients: Sequence[tuple[RunnerClient, RunnerClient]],
    ops: Sequence[OpSpec],
    runtime: Runtime,
    core: int,
    rounds: int,
) -> list[Compared]:
    store = ArtifactStore()
    paths = [str(export_op(op, runtime, Precision.FP32, store).path) for op in ops]
    taken = [Compared(op, [], []) for op in ops]
    for pair in clients:
        handles = [
            [client.load(path, runtime, cores=[core]).handle for path in paths] for client in pair
        ]
        for number in range(rounds):
            for place, one in enumerate(taken):
                order = (0, 1) if (number + place) % 2 == 0 else (1, 0)
                for side in order:
                    median = _visit(pair[side], handles[side][place])
                    (one.native_us, one.python_us)[side].append(median)
    return taken


def _visit(client: RunnerClient, handle: str) -> float:
    """One visit as `latbench profile` makes them; its median in microseconds."""
    reply = client.run(handle, warmups=2, min_samples=8, max_samples=200, seconds=0.010)
    return statistics.median(reply.samples_ns) / 1e3


def _print(title: str, compared: Sequence[Compared]) -> None:
    ratios = [one.ratio for one in compared]
    differences = [
        statistics.median(one.native_us) - statistics.median(one.python_us) for one in compared
    ]
    print(
        f"\n{title}: C by Python {statistics.median(ratios):.3f} "
        f"(median of {len(compared)} ops; {min(ratios):.3f} to {max(ratios):.3f}); "
        f"C less Python {statistics.median(differences):+.2f} us "
        f"({min(differences):+.2f} to {max(differences):+.2f})\n"
        f"{'op':>36} {'C us':>9} {'Python us':>9} {'ratio':>6}  of its pairs"
    )
    for one in compared:
        pairs = [c / p for c, p in zip(one.native_us, one.python_us, strict=True)]
        print(
            f"{one.op.key:>36} {statistics.median(one.native_us):9.2f} "
            f"{statistics.median(one.python_us):9.2f} {one.ratio:6.3f}  "
            f"{min(pairs):.3f} to {max(pairs):.3f}"
        )


if __name__ == "__main__":
    main()
