"""What measuring over adb costs: `sudo python bench/adb_cost.py` (it needs what `make rig` sets up).

The other side is AOSP's own adbd on the loopback interface (tests/rigs/phone), and real adb clients. It is
built without optimisation (tests/rigs/adbd/Makefile); both sides of every ratio wait for the same one.

1. A trial, beyond inference: the wall time of one `run` request less the samples and warm-ups that the
   runner tells, by the same program (the runner in C, linked statically so that it runs on the rig's phone)
   and the same workload, its reference: over a pipe, over our own connection, through an adb server; each
   in its turn. And what the measuring loop and its journal add to every trial.
2. Sending 300 artifacts as large as those of FBNet's ops: ours against `adb push` of the same folder, both
   through the same adb server, in turns, each to an empty folder. Ours also has the phone hash what came
   before and after; on the rig that program is emulated, so it is timed apart.
"""

import argparse
import contextlib
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/measure"))

from fixed_units import FixedUnit, fixed_plan

from latbench._version import __version__
from latbench.device.android.adb.direct import DirectLink
from latbench.device.android.adb.keys import own_key, signer
from latbench.device.android.adb.link import AdbLink
from latbench.device.android.adb.server_link import ServerLink
from latbench.device.android.artifacts import send_artifacts
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import REFERENCE_HANDLE
from latbench.device.protocol.transport import ProcessTransport
from latbench.measure import Journal, measure
from latbench.space import SearchSpace
from tests.rigs.adb_server import AdbServer, adb_of_adbutils, adb_of_debian, running_adb_server
from tests.rigs.parts import default_cache
from tests.rigs.phone import Phone

RUNNER = Path(__file__).parents[1] / "runner"
REMOTE = "/data/local/tmp/latbench-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="of each way")
    parser.add_argument("--pushes", type=int, default=7, help="of each way")
    parser.add_argument("--artifacts", type=int, default=300)
    options = parser.parse_args()
    print(
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores; latbench {__version__}, "
        f"Python {platform.python_version()}; AOSP adbd 29.0.6 on loopback\n"
        f"python {shlex.join(sys.argv)}"
    )
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, rigs = Path(name), default_cache()
        os.environ["HOME"] = name  # a key and a server of our own
        phone = stack.enter_context(Phone("galaxy-s8", cache=rigs))
        signer(own_key())  # makes the key
        phone.allow(own_key().with_name("adbkey.pub").read_text())
        binary = adb_of_debian() or adb_of_adbutils()
        server = stack.enter_context(running_adb_server(binary, folder))
        server.connect(phone.address)
        links: dict[str, AdbLink] = {
            "our own connection": DirectLink.tcp(phone.address),
            "through an adb server": ServerLink(phone.address, server.address),
        }
        for link in links.values():
            stack.callback(link.close)
        time_trials(links, _static_runner(folder), options.trials)
        time_loop(folder)
        files = _artifacts(folder / "artifacts", options.artifacts)
        time_pushes(links, server, phone.address, files, options.pushes)


def _static_runner(folder: Path) -> Path:
    """The runner in C, with all that it needs in it: the rig's phone has no libraries of this machine."""
    build = folder / "build"
    for words in (
        ["--preset", "host", "-B", str(build), "-DLATBENCH_TESTS=OFF",
         "-DCMAKE_EXE_LINKER_FLAGS=-static"],
        ["--build", str(build), "--target", "latbench-runner"],
    ):  # fmt: skip
        subprocess.run(["cmake", *words], cwd=RUNNER, check=True, capture_output=True)
    return build / "latbench-runner"


# Trials


def time_trials(links: Mapping[str, AdbLink], runner: Path, trials: int) -> None:
    """Print what a `run` costs beyond what it times, by every way."""
    clients = {"a pipe": RunnerClient(ProcessTransport([str(runner)], dict(os.environ)))}
    for name, link in links.items():
        link.push([(runner, f"{REMOTE}/latbench-runner")], mode=0o755)
        clients[name] = RunnerClient(link.open_stream(f"exec {REMOTE}/latbench-runner"))
    costs: dict[str, list[float]] = {name: [] for name in clients}
    with contextlib.ExitStack() as stack:
        for client in clients.values():
            stack.callback(client.quit)
            client.hello()
            client.run(REFERENCE_HANDLE, max_samples=1)  # it makes its matrices at the first
        for _ in range(trials):
            for name, client in clients.items():
                began = time.perf_counter()
                reply = client.run(REFERENCE_HANDLE, warmups=1, min_samples=8, max_samples=8)
                wall = time.perf_counter() - began
                inference = sum(reply.samples_ns) + statistics.median(reply.samples_ns)
                costs[name].append(1e3 * wall - inference / 1e6)
    print(f"\na trial beyond inference, {trials} of each   median ms [quartiles]    worst")
    for name, taken in costs.items():
        print(f"  {name:38}{_spread(taken)}  {max(taken):7.2f}")


def time_loop(folder: Path) -> None:
    """Print what the measuring loop, its journal and a pipe add to a trial that takes no time."""
    with Journal(folder / "loop.sqlite") as journal:
        report = measure(fixed_plan(60, sentinel_every=24), FixedUnit("bench"), journal)
    each = 1e3 * report.session_wall_s / report.taken
    print(
        f"  {'loop, journal and a runner of no time':38}{each:6.2f}  mean of {report.taken} trials"
    )


# Files


def _artifacts(folder: Path, count: int) -> list[Path]:
    """Files of random bytes, as large as the weights of FBNet's ops in fp32."""
    folder.mkdir()
    ops = SearchSpace.named().unique_ops
    files = []
    for number in range(count):
        files.append(folder / f"{number:03}.onnx")
        files[-1].write_bytes(os.urandom(2000 + 4 * ops[number % len(ops)].params))
    return files


def time_pushes(
    links: Mapping[str, AdbLink], server: AdbServer, serial: str, files: list[Path], times: int
) -> None:
    """Print how long it takes to send `files`, by every way, and each by `adb push`."""
    total = sum(file.stat().st_size for file in files)
    through = links["through an adb server"]
    ways: dict[str, Callable[[], object]] = {
        "adb push": lambda: _adb_push(server, serial, files[0].parent),
    }
    for name, link in links.items():
        targets = [(file, f"{REMOTE}/artifacts/{file.name}") for file in files]
        ways[f"ours, {name}"] = lambda link=link, targets=targets: link.push(targets)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(times):
        for name in list(ways) if turn % 2 else reversed(list(ways)):
            with _emptied(through):
                began = time.perf_counter()
                ways[name]()
                taken[name].append(time.perf_counter() - began)
    print(f"\nsending {len(files)} files, {total / 2**20:.1f} MiB, {times} times each")
    print(f"  {'':38}median s [quartiles]    by adb push, turn by turn [min to max]")
    for name, seconds in taken.items():
        ratios = [own / other for own, other in zip(seconds, taken["adb push"], strict=True)]
        print(
            f"  {name:38}{_spread(seconds)}  {statistics.median(ratios):5.2f} "
            f"[{min(ratios):.2f} to {max(ratios):.2f}]"
        )
    began = time.perf_counter()
    send_artifacts(through, files)
    first = time.perf_counter() - began
    began = time.perf_counter()
    send_artifacts(through, files)
    print(
        f"  ours with hashes, through the server: {first:.2f} s; again, when all is there: "
        f"{time.perf_counter() - began:.2f} s (sha256sum is emulated here)"
    )


def _adb_push(server: AdbServer, serial: str, folder: Path) -> None:
    done = server.adb("push", folder, f"{REMOTE}/", serial=serial, timeout_s=300)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _emptied(link: AdbLink) -> Iterator[None]:
    """An empty folder on the phone, which `adb push` copies into."""
    link.shell(f"rm -rf {REMOTE}/artifacts; mkdir -p {REMOTE}")
    yield


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:6.2f} [{low:.2f} to {high:.2f}]"


if __name__ == "__main__":
    main()
